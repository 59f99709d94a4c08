"""VAE: a tile is to be drawn again from a noisy code that is near to standard normal."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from gigassl.tiles.nic_networks import Generator, NicEncoder
from gigassl.tiles.pretrain.method import Method, Views
from gigassl.tiles.pretrain.methods.parts import (
    Run,
    check_limits,
    in_float32,
    nic_network,
    normal_draws,
)

_SPREAD = 10.0  # logarithms of variances are kept within ± this


@dataclass(frozen=True, kw_only=True)
class VaeOptions:
    """Options of the variational autoencoder.

    Attributes:
        kl: weight of the Kullback-Leibler divergence beside the mean squared error.
        decoder: width of the decoder's dense layer, a multiple of 16; each convolution after it
            has half as many filters as the last.
    """

    kl: float = 5e-5
    decoder: int = 8192

    def __post_init__(self) -> None:
        check_limits(self, kl=(0, 1e3), decoder=(64, 2**20))


class Vae(Method):
    """The mean of the code, which the encoder gives, is what is kept.

    Neural image compression, arXiv 1811.02840, appendix A; the penalty on the divergence has the
    usual sign, not the printed one. Either view of a tile is drawn as it is seen, so that a batch
    of n tiles is one of 2n images.
    """

    encoder: NicEncoder

    def __init__(self, encoder: nn.Module, *, options: VaeOptions, run: Run) -> None:
        """A decoder as deep as the encoder.

        Raises:
            SettingsError: a network that is none of ours.
        """
        super().__init__()
        self.encoder = network = nic_network(encoder, method="vae")
        self.kl = options.kl
        self.log_variance = nn.Linear(network.code.in_features, run.width)
        first = options.decoder // 16
        filters = [max(1, first >> (k + 1)) for k in range(len(network.filters))]
        self.decoder = Generator(
            filters, code=run.width, first=first, side_px=network.side_px,
            channels=network.channels,
        )  # fmt: skip

    def forward(
        self, views: Views, *, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float32[Tensor, "tile width"], Float32[Tensor, "tile width"]]:
        """The error of what is drawn again, and the weighed divergence."""
        error, divergence, mean = self._parts(torch.cat([views[0], views[1]]), generator)
        first, second = mean.detach().float().chunk(2)
        return error + self.kl * divergence, first, second

    def measure(self, views: Views, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """The loss, the mean squared error and the divergence (nats)."""
        error, divergence, _ = self._parts(torch.cat([views[0], views[1]]), generator)
        return {"loss": error + self.kl * divergence, "error": error, "divergence": divergence}

    def pictures(
        self, images: Float[Tensor, "tile 3 row col"], generator: torch.Generator
    ) -> Mapping[str, Float[Tensor, "_ tile channel _ _"]]:
        """Tiles above what is drawn from the means of their codes."""
        drawn = self.decoder(self.encoder(images))
        return {"reconstructions": torch.stack([self.encoder.seen(images), drawn])}

    def _parts(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Mean squared error, divergence, and the means of the codes."""
        network = self.encoder
        seen = network.seen(images)
        hidden = network.body(seen)
        mean = network.code(hidden)
        log_variance = self.log_variance(hidden).float().clamp(-_SPREAD, _SPREAD)
        noise = normal_draws(mean, generator)
        drawn = self.decoder(mean + (0.5 * log_variance).exp() * noise)
        error = in_float32(nn.functional.mse_loss, drawn, seen)
        return error, in_float32(divergence_from_normal, mean, log_variance), mean


def divergence_from_normal(
    mean: Float[Tensor, "tile code"], log_variance: Float[Tensor, "tile code"]
) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence of diagonal normals from the standard normal, nats: the mean.

    Auto-encoding variational Bayes, arXiv 1312.6114, appendix B.
    """
    each = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
    return each.sum(dim=1).mean()
