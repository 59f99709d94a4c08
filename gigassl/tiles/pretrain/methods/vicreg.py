"""VICReg: two views alike, every dimension in use, no two dimensions the same."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from lightly.loss import VICRegLoss
from lightly.models.modules.heads import VICRegProjectionHead
from torch import Tensor, nn

from gigassl.tiles.pretrain.method import Method, Views
from gigassl.tiles.pretrain.methods.parts import Run, check_limits, in_float32


@dataclass(frozen=True, kw_only=True)
class VicregOptions:
    """Options of VICReg.

    Attributes:
        invariance, variance, covariance: weights of the three terms.
        hidden, projection: widths of the head's layers. The paper has 8192 behind ResNet50;
            2048 is what solo-learn found for ResNet18 (a sixteenth of the work).
    """

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    hidden: int = 2048
    projection: int = 2048

    def __post_init__(self) -> None:
        check_limits(
            self, invariance=(0, 1e6), variance=(0, 1e6), covariance=(0, 1e6), hidden=(1, 65536),
            projection=(2, 65536),
        )  # fmt: skip


class Vicreg(Method):
    """Projections of a tile's views are alike, spread in each dimension, and uncorrelated.

    Variance-invariance-covariance regularisation, arXiv 2105.04906. The statistics are those of the
    whole batch, over all processes that share it.
    """

    def __init__(self, encoder: nn.Module, *, options: VicregOptions, run: Run) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = VICRegProjectionHead(run.width, options.hidden, options.projection)
        self.loss = VICRegLoss(
            options.invariance,
            options.variance,
            options.covariance,
            gather_distributed=run.gather,
        )

    def forward(
        self, views: Views, *, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float32[Tensor, "tile width"], Float32[Tensor, "tile width"]]:
        """The three terms of both large views."""
        vectors = [self.encoder(view) for view in views[:2]]
        first, second = (self.projector(vector) for vector in vectors)
        loss = in_float32(self.loss, first, second)
        return loss, vectors[0].detach().float(), vectors[1].detach().float()
