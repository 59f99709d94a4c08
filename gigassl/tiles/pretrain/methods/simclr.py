"""SimCLR: two views of a tile find each other among all others of the batch."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor, nn

from gigassl.tiles.pretrain.method import Method, Views
from gigassl.tiles.pretrain.methods.parts import Run, check_limits, in_float32


@dataclass(frozen=True, kw_only=True)
class SimclrOptions:
    """Options of SimCLR.

    Attributes:
        temperature: of the similarities.
        hidden, projection: widths of the head's two layers.
    """

    temperature: float = 0.1
    hidden: int = 2048
    projection: int = 128

    def __post_init__(self) -> None:
        check_limits(
            self, temperature=(0.001, 10), hidden=(1, 65536), projection=(2, 65536)
        )  # fmt: skip


class Simclr(Method):
    """Each view is to lie nearer to its tile's other view than to any view of another tile.

    A simple framework for contrastive learning, arXiv 2002.05709. Both views pass the network as
    one batch, as in the published code. Several processes tell their tiles from each other's too.
    """

    def __init__(self, encoder: nn.Module, *, options: SimclrOptions, run: Run) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = SimCLRProjectionHead(run.width, options.hidden, options.projection)
        self.loss = NTXentLoss(options.temperature, gather_distributed=run.gather)

    def forward(
        self, views: Views, *, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float32[Tensor, "tile width"], Float32[Tensor, "tile width"]]:
        """The contrastive loss of both large views."""
        vectors = self.encoder(torch.cat([views[0], views[1]]))
        loss = in_float32(self.loss, *self.projector(vectors).chunk(2))
        first, second = vectors.detach().float().chunk(2)
        return loss, first, second
