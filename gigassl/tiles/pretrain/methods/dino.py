"""DINO: all views of a tile agree with what a slow teacher makes of its large ones."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Float32
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from torch import Tensor, nn

from gigassl.tiles.pretrain.method import Method, Views
from gigassl.tiles.pretrain.methods.parts import (
    Run,
    check_limits,
    follow,
    head_and_slow_copy,
    hold_last_layer,
    in_float32,
    momentum_after,
    said_if_slow,
    slow_copy,
)


@dataclass(frozen=True, kw_only=True)
class DinoOptions:
    """Options of DINO, and of what DINOv2 has from it.

    Attributes:
        temperature: of the student.
        teacher_temperature_first: of the teacher at the beginning.
        teacher_temperature: of the teacher once warmed up.
        teacher_warmup: share of the training in which it goes from the one to the other, linearly.
        momentum: share of the teacher that stays at the first step; rises to 1.
        centre_momentum: share of the centre of the teacher's answers that stays at each batch.
        frozen: share of the training in which the prototypes stay as they began.
        prototypes: what views are compared by. The paper has 65536; its ablation finds 4096 within
            half a percent, at a sixteenth of the memory.
        hidden, bottleneck: widths of the head's inner layers.
    """

    temperature: float = 0.1
    teacher_temperature_first: float = 0.04
    teacher_temperature: float = 0.07
    teacher_warmup: float = 0.3
    momentum: float = 0.996
    centre_momentum: float = 0.9
    frozen: float = 0.01
    prototypes: int = 4096
    hidden: int = 2048
    bottleneck: int = 256

    def __post_init__(self) -> None:
        check_limits(
            self, temperature=(0.001, 10), teacher_temperature_first=(0.001, 10),
            teacher_temperature=(0.001, 10), teacher_warmup=(0, 1), momentum=(0, 1),
            centre_momentum=(0, 1), frozen=(0, 1), prototypes=(2, 2**20), hidden=(1, 65536),
            bottleneck=(1, 65536),
        )  # fmt: skip


def teacher_temperature(options: DinoOptions, progress: float) -> float:
    """The teacher's temperature after a share of the training.

    >>> round(teacher_temperature(DinoOptions(), 0.1), 3), teacher_temperature(DinoOptions(), 0.5)
    (0.05, 0.07)
    """
    if progress >= options.teacher_warmup:
        return options.teacher_temperature
    way = options.teacher_temperature - options.teacher_temperature_first
    return options.teacher_temperature_first + way * progress / options.teacher_warmup


class Dino(Method):
    """The student's view of a tile, large or small, foretells the teacher's of its large ones.

    Self-distillation with no labels, arXiv 2104.14294. Views of one side pass the network as one
    batch, as in the published code. The teacher is kept, and the vectors given back are its own.
    The centre is that of all processes. Heads run in fp32: what they say is divided by 0.04.
    """

    def __init__(self, encoder: nn.Module, *, options: DinoOptions, run: Run) -> None:
        super().__init__()
        self.options, self.steps = options, run.steps
        said_if_slow(options.momentum, steps=run.steps)
        self.encoder = encoder
        self.slow_encoder = slow_copy(encoder)
        self.head, self.slow_head = head_and_slow_copy(
            partial(
                DINOProjectionHead, run.width, options.hidden, options.bottleneck,
                options.prototypes,
            )
        )  # fmt: skip
        self.loss = DINOLoss(
            options.prototypes,
            student_temp=options.temperature,
            center_momentum=options.centre_momentum,
        )

    def forward(
        self, views: Views, *, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float32[Tensor, "tile width"], Float32[Tensor, "tile width"]]:
        """The cross-entropy of every view with the teacher's of each other large one."""
        n_tiles = len(views[0])
        large = torch.cat([views[0], views[1]])
        with torch.no_grad():
            vectors = self.slow_encoder(large)
            taught = in_float32(self.slow_head, vectors)
        answers = [self.encoder(large)]
        if len(views) > 2:
            answers.append(self.encoder(torch.cat(list(views[2:]))))
        said = in_float32(self.head, torch.cat(answers))
        loss = in_float32(
            partial(self.loss, teacher_temp=teacher_temperature(self.options, progress)),
            list(torch.split(taught, n_tiles)),
            list(torch.split(said, n_tiles)),
        )
        first, second = vectors.float().chunk(2)
        return loss, first, second

    def before_step(self, progress: float) -> None:
        """The prototypes wait until the rest has settled."""
        if progress < self.options.frozen:
            hold_last_layer(self.head)

    def after_step(self, progress: float) -> None:
        """The teacher follows, ever more slowly."""
        momentum = momentum_after(progress, start=self.options.momentum, steps=self.steps)
        pairs = {self.encoder: self.slow_encoder, self.head: self.slow_head}
        follow(pairs, momentum=momentum)

    def encoder_to_keep(self) -> nn.Module:
        """The teacher: better than the student all along (section 5.2 of the paper)."""
        return self.slow_encoder
