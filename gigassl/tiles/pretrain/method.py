"""What a method of self-supervision is to the training: views in, loss out."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from gigassl.tiles.pretrain.source import TileBatch

# sides differ among views, so they have no name
Views = Sequence[Float[Tensor, "tile 3 _ _"]]
"""Normalised views of the tiles of a batch: two large ones, then the small ones, if any."""


class Method(nn.Module):
    """A tile encoder and what is learned around it; one subclass a published method.

    Its state dict holds everything that a resumed training needs (momentum copies, queues,
    centres); nothing is drawn at random outside the generator that ``forward`` is given.

    Attributes:
        encoder: the network that is trained, [tile, 3, row, col] to [tile, width]; what is kept.
        wants_neighbours: whether it learns from pairs of tiles that lie side by side.
        wants_labels: whether it learns from labels.
    """

    encoder: nn.Module
    wants_neighbours: ClassVar[bool] = False
    wants_labels: ClassVar[bool] = False

    def prepare(self, batch: TileBatch, generator: torch.Generator) -> TileBatch:
        """The batch as the method wants it, before views are drawn; here unchanged.

        A method that needs labels takes them here (``batch.file``), or chooses other partners.

        Args:
            generator: on the CPU, of this batch on this device.
        """
        return batch

    def forward(
        self, views: Views, *, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float32[Tensor, "tile width"], Float32[Tensor, "tile width"]]:
        """The loss, and the encoder's vectors of the two large views, without gradient.

        Args:
            views: as the settings' ``views`` say.
            progress: share of the training done, for schedules inside the loss.
            generator: of masks and the like, on the CPU; the same seed gives the same step. In the
                same state in all processes that share a batch.
        """
        raise NotImplementedError

    def measure(self, views: Views, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """What is measured on a batch of held-out tiles, in evaluation mode and without gradient.

        Means over the tiles. The first one decides, lower is better: on it the plateau of the
        learning rate waits, and the best round has least of it. Methods that hold nothing out need
        none.

        Args:
            generator: on the CPU; the same for a batch whenever it is measured.
        """
        raise NotImplementedError

    def pictures(
        self, images: Float[Tensor, "tile 3 row col"], generator: torch.Generator
    ) -> Mapping[str, Float[Tensor, "_ tile channel _ _"]]:
        """Pictures to look at after each round, by name; here none.

        Args:
            images: normalised; what is drawn is on the same scale.
            generator: on the CPU; the same in each round.
        """
        return {}

    def before_step(self, progress: float) -> None:
        """Called after the gradients are there and before the optimiser takes its step."""

    def after_step(self, progress: float) -> None:
        """Called after each step of the optimiser with the share of the training done."""

    def encoder_to_keep(self) -> nn.Module:
        """The network that is saved: the momentum teacher where the method recommends it."""
        return self.encoder
