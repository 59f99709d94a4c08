"""Integrated gradients: what each tile adds to a number that a network says of them together."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from gigassl.errors import SlideError

STEPS = 32
"""Points of the path at which gradients are taken."""


def integrated_gradients(
    answer: Callable[[Float[Tensor, "row dim"]], Float[Tensor, ""]],
    features: Float[Tensor, "row dim"], *, steps: int = STEPS,
) -> Float64[np.ndarray, " row"]:  # fmt: skip
    """Sundararajan et al., Axiomatic Attribution for Deep Networks (arXiv 1703.01365), by tile.

    The path goes from features of zero to those that are there; points lie as Gauss–Legendre
    quadrature has them, which needs fewer of them than even steps. Sums to ``answer(features) -
    answer(0)`` as far as the steps go: the difference is the completeness error. For an answer that
    is linear in the features one step is exact, and gives gradient times input.

    Args:
        answer: differentiable in the features.
        features: of the tiles.
        steps: points of the path.

    Raises:
        SlideError: a gradient is not finite.
    """
    places, weights = np.polynomial.legendre.leggauss(steps)
    total = torch.zeros(len(features), dtype=torch.float64, device=features.device)
    for place, weight in zip(places.tolist(), weights.tolist(), strict=True):
        point = (features * ((place + 1) / 2)).detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(answer(point), point)
        total += weight / 2 * (gradient.double() * features.double()).sum(dim=1)
    if not torch.isfinite(total).all():
        raise SlideError(
            "the gradients of what is explained are not finite, so no tile has a share of it",
            stage="encode",
        )
    return total.detach().cpu().numpy()
