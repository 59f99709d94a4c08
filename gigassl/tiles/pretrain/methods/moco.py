"""MoCo v2: each tile is told from a queue of tiles seen before."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from lightly.loss import NTXentLoss
from lightly.models.modules import MoCoProjectionHead
from lightly.utils.dist import rank
from torch import Tensor, nn

from gigassl.errors import SettingsError
from gigassl.tiles.pretrain.method import Method, Views
from gigassl.tiles.pretrain.methods.parts import (
    Run,
    check_limits,
    follow,
    in_float32,
    kept_in_state,
    slow_copy,
)

log = logging.getLogger("gigassl")

_LEAST_TURNS = 10  # times that the queue is renewed


@dataclass(frozen=True, kw_only=True)
class MocoOptions:
    """Options of MoCo.

    Attributes:
        temperature: of the similarities.
        momentum: share of the slow encoder that stays at each step.
        queue: keys of earlier tiles to tell a tile from, but no more than a tenth of the tiles that
            the training sees, since it begins with random ones; rounded down to whole batches.
        hidden, projection: widths of the head's two layers.
        group: tiles that share the statistics of batch norms (as published: 32, those of one GPU);
            a batch with fewer than two such groups stays whole.
    """

    temperature: float = 0.2
    momentum: float = 0.999
    queue: int = 65536
    hidden: int = 2048
    projection: int = 128
    group: int = 32

    def __post_init__(self) -> None:
        check_limits(
            self, temperature=(0.001, 10), momentum=(0, 1), queue=(2, 2**24), hidden=(1, 65536),
            projection=(2, 65536), group=(2, 65536),
        )  # fmt: skip


class Moco(Method):
    """A view is to lie nearer to a slow encoder's other view than to keys of earlier tiles.

    Momentum contrast, arXiv 1911.05722, with the head, temperature and stronger views of MoCo v2,
    arXiv 2003.04297: what Giga-SSL's tile encoder was trained with. Not symmetric, as published:
    the first view asks, the second answers through the slow encoder and joins the queue.

    A batch passes either encoder in groups, and the slow one's are dealt anew (shuffled batch norm,
    section 3.3 of the first paper, where a group is what lies on one GPU): were a query and its key
    normalised together, the statistics that they share would tell them from the queue.

    The vectors given back are the encoder's of the first view and the slow encoder's of the second.
    """

    def __init__(self, encoder: nn.Module, *, options: MocoOptions, run: Run) -> None:
        super().__init__()
        self.momentum, self.group = options.momentum, options.group
        self.encoder = encoder
        self.projector = MoCoProjectionHead(run.width, options.hidden, options.projection)
        self.slow_encoder = slow_copy(encoder)
        self.slow_projector = slow_copy(self.projector)
        self.loss = NTXentLoss(
            options.temperature,
            memory_bank_size=(_queue(options, run), options.projection),
            gather_distributed=run.gather,
        )
        kept_in_state(self.loss.memory_bank, "bank", "bank_ptr")

    def forward(
        self, views: Views, *, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float32[Tensor, "tile width"], Float32[Tensor, "tile width"]]:
        """The loss of the first view's queries with the second one's keys."""
        n_groups = max(1, len(views[0]) // self.group)
        vectors = torch.cat([self.encoder(few) for few in views[0].chunk(n_groups)])
        dealt = torch.randperm(len(views[1]), generator=generator).to(views[1].device)
        with torch.no_grad():
            answers = self._answers(views[1], dealt.chunk(n_groups))
            keys = self.slow_projector(answers)
        loss = in_float32(self.loss, self.projector(vectors), keys)
        return loss, vectors.detach().float(), answers.float()

    def _answers(self, view: Tensor, groups: Sequence[Tensor]) -> Tensor:
        """Vectors [tile, width] of the slow encoder, which sees one group at a time."""
        answers = [self.slow_encoder(view[group]) for group in groups]
        return torch.cat(answers)[torch.cat(list(groups)).argsort()]

    def after_step(self, progress: float) -> None:
        """The slow encoder follows."""
        pairs = {self.encoder: self.slow_encoder, self.projector: self.slow_projector}
        follow(pairs, momentum=self.momentum)


def _queue(options: MocoOptions, run: Run) -> int:
    if options.queue < run.batch_size:
        raise SettingsError(
            f"MoCo's queue of {options.queue} holds no whole batch of {run.batch_size} tiles; "
            f"give option queue at least {run.batch_size}"
        )
    most = max(run.batch_size, run.steps * run.batch_size // _LEAST_TURNS)
    if most < options.queue and rank() == 0:
        log.info(
            "MoCo's queue holds %d keys, a tenth of the tiles seen in %d steps", most, run.steps
        )
    return min(options.queue, most) // run.batch_size * run.batch_size
