"""BYOL: each view predicts what a slow encoder makes of the other."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
from torch import Tensor, nn

from gigassl.tiles.pretrain.method import Method, Views
from gigassl.tiles.pretrain.methods.parts import (
    Run,
    check_limits,
    follow,
    in_float32,
    momentum_after,
    slow_copy,
)


@dataclass(frozen=True, kw_only=True)
class ByolOptions:
    """Options of BYOL.

    Attributes:
        momentum: share of the slow encoder that stays at the first step; rises to 1.
        hidden, projection: widths of the heads' two layers.
    """

    momentum: float = 0.996
    hidden: int = 4096
    projection: int = 256

    def __post_init__(self) -> None:
        check_limits(self, momentum=(0, 1), hidden=(1, 65536), projection=(2, 65536))


class Byol(Method):
    """Each view predicts what a slow encoder makes of the other; there are no negatives.

    Bootstrap your own latent, arXiv 2006.07733: the squared distances of unit vectors, both ways
    added up. The online encoder is kept, as in the paper.
    """

    def __init__(self, encoder: nn.Module, *, options: ByolOptions, run: Run) -> None:
        super().__init__()
        self.momentum, self.steps = options.momentum, run.steps
        self.encoder = encoder
        self.projector = BYOLProjectionHead(run.width, options.hidden, options.projection)
        self.predictor = BYOLPredictionHead(options.projection, options.hidden, options.projection)
        self.slow_encoder = slow_copy(encoder)
        self.slow_projector = slow_copy(self.projector)
        self.negative_cosine = NegativeCosineSimilarity()

    def forward(
        self, views: Views, *, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float32[Tensor, "tile width"], Float32[Tensor, "tile width"]]:
        """The distances of either view's prediction from the slow projection of the other."""
        vectors = [self.encoder(view) for view in views[:2]]
        first, second = (self.predictor(self.projector(vector)) for vector in vectors)
        with torch.no_grad():
            slow = [self.slow_projector(self.slow_encoder(view)) for view in views[:2]]
        ahead = in_float32(self.negative_cosine, first, slow[1])
        back = in_float32(self.negative_cosine, second, slow[0])
        loss = (2.0 + 2.0 * ahead) + (2.0 + 2.0 * back)
        return loss, vectors[0].detach().float(), vectors[1].detach().float()

    def after_step(self, progress: float) -> None:
        """The slow encoder follows, ever more slowly."""
        momentum = momentum_after(progress, start=self.momentum, steps=self.steps)
        pairs = {self.encoder: self.slow_encoder, self.projector: self.slow_projector}
        follow(pairs, momentum=momentum)
