"""Barlow Twins: the views' dimensions correlate each with itself and with no other."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from lightly.loss import BarlowTwinsLoss
from lightly.models.modules import BarlowTwinsProjectionHead
from torch import Tensor, nn

from gigassl.tiles.pretrain.method import Method, Views
from gigassl.tiles.pretrain.methods.parts import Run, check_limits, in_float32, whole_batch

# biases and norms, whose steps LARS does not adapt, learn at 0.0048 where weights do at 0.2
_SCALE = 0.024


@dataclass(frozen=True, kw_only=True)
class BarlowOptions:
    """Options of Barlow Twins.

    Attributes:
        redundancy: weight of the correlations between different dimensions.
        hidden, projection: widths of the head's layers. The paper has 8192 behind ResNet50;
            2048 is what solo-learn found for ResNet18 (a sixteenth of the work).
    """

    redundancy: float = 0.0051
    hidden: int = 2048
    projection: int = 2048

    def __post_init__(self) -> None:
        check_limits(self, redundancy=(0, 1e3), hidden=(1, 65536), projection=(2, 65536))


class Barlow(Method):
    """The cross-correlation of two views' projections over the batch is to be the identity.

    Barlow Twins, arXiv 2103.03230. Processes that share a batch gather its projections first:
    lightly's own gathering would normalise each process' part by itself, which the paper does not.
    The loss is scaled by 0.024, which gives biases their published learning rate under LARS.
    """

    def __init__(self, encoder: nn.Module, *, options: BarlowOptions, run: Run) -> None:
        super().__init__()
        self.shared = run.gather
        self.encoder = encoder
        self.projector = BarlowTwinsProjectionHead(run.width, options.hidden, options.projection)
        self.loss = BarlowTwinsLoss(options.redundancy)

    def forward(
        self, views: Views, *, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float32[Tensor, "tile width"], Float32[Tensor, "tile width"]]:
        """How far the cross-correlation of both large views is from the identity."""
        vectors = [self.encoder(view) for view in views[:2]]
        both = [whole_batch(self.projector(v).float(), shared=self.shared) for v in vectors]
        loss = _SCALE * in_float32(self.loss, *both)
        return loss, vectors[0].detach().float(), vectors[1].detach().float()
