"""Whitening: tile features on a few uncorrelated columns of unit variance, fitted on a sample."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from gigassl.errors import SettingsError
from gigassl.vectors.packed import mean_of_bags

# a direction with less variance than this, relative to the largest, is noise of the arithmetic
_SMALLEST = 1e-8


class Whitening(nn.Module):
    """Principal components of tile features, scaled to unit variance.

    Until :meth:`prepare` is called it passes the first columns on as they are.

    Args:
        dim: width of the tile features.
        kept: number of components; never more than ``dim``.
    """

    mean: Tensor
    deviation: Tensor
    components: Tensor

    def __init__(self, *, dim: int, kept: int) -> None:
        super().__init__()
        self.width = min(kept, dim)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("components", torch.eye(self.width, dim))

    def prepare(self, features: Float[Tensor, "row dim"]) -> None:
        """Fits the components on a sample of tile features.

        Raises:
            SettingsError: fewer than two rows.
        """
        if len(features) < 2:
            raise SettingsError(f"whitening needs at least 2 tiles to fit; got {len(features)}")
        wide = features.double()
        mean = wide.mean(dim=0)
        covariance = (wide - mean).T @ (wide - mean) / (len(wide) - 1)
        values, vectors = torch.linalg.eigh(covariance)
        values, vectors = values.flip(0)[: self.width], vectors.flip(1).T[: self.width]
        # the sign of an eigenvector is free; its largest entry is made positive
        largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
        scale = values.clamp(min=_SMALLEST * float(values[0]) + 1e-30).rsqrt()
        scale = torch.where(values > _SMALLEST * values[0], scale, 0.0)
        self.mean.copy_(mean)
        self.deviation.copy_(covariance.trace().div(len(covariance)).clamp(min=1e-30).sqrt())
        self.components.copy_(vectors * largest.sign() * scale[:, None])

    def forward(self, features: Float[Tensor, "tile dim"]) -> Float[Tensor, "tile kept"]:
        """The whitened features."""
        out: Tensor = (features - self.mean) @ self.components.T
        return out

    def centred(self, features: Float[Tensor, "tile dim"]) -> Float[Tensor, "tile dim"]:
        """All columns as they are, but for one common shift and one common scale."""
        return (features - self.mean) / self.deviation


def standardised_in_bags(
    values: Float[Tensor, "tile dim"], bag: Int64[Tensor, " tile"], *, n_bags: int
) -> Float[Tensor, "tile dim"]:
    """Each column at mean 0 and variance 1 within each bag; 0 where a bag does not vary.

    This takes a slide's stain and most of its composition away.
    """
    centred = values - mean_of_bags(values, bag, n_bags=n_bags)[bag]
    variance = mean_of_bags(centred.square(), bag, n_bags=n_bags)
    return centred * (variance + 1e-6).rsqrt()[bag]
