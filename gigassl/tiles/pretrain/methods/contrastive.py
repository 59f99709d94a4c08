"""Contrastive training of NIC: are two views of the same place, or of two places?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from gigassl.errors import SettingsError
from gigassl.tiles.nic_networks import block
from gigassl.tiles.pretrain.method import Method, Views
from gigassl.tiles.pretrain.methods.parts import Run, check_limits, in_float32
from gigassl.tiles.pretrain.source import TileBatch


@dataclass(frozen=True, kw_only=True)
class ContrastiveOptions:
    """Options of the contrastive training.

    Attributes:
        hidden: width of the layer that sees both codes.
        adjacent: share of the negatives that lie beside their tile; the others are of another file.
    """

    hidden: int = 256
    adjacent: float = 0.75

    def __post_init__(self) -> None:
        check_limits(self, hidden=(1, 65536), adjacent=(0, 1))


class Contrastive(Method):
    """Two codes side by side, a dense layer, and one logit: the same place or not.

    Neural image compression, arXiv 1811.02840, section III-B. Half of the pairs are two views of
    one tile. Of the others three in four are of tiles side by side, on purpose: what is easy to
    tell apart, such as the stain of a slide, says nothing of these. The rest are of two files.
    """

    wants_neighbours: ClassVar[bool] = True

    def __init__(self, encoder: nn.Module, *, options: ContrastiveOptions, run: Run) -> None:
        super().__init__()
        self.adjacent = options.adjacent
        self.encoder = encoder
        self.head = nn.Sequential(
            *block(nn.Linear(2 * run.width, options.hidden)), nn.Linear(options.hidden, 1)
        )
        self._same: Bool[Tensor, " tile"] = torch.zeros(0, dtype=torch.bool)

    def prepare(self, batch: TileBatch, generator: torch.Generator) -> TileBatch:
        """Chooses the partner of each tile: itself, the tile beside it, or one of another file.

        Where no tile lies beside it, the partner is of another file; where the whole batch is of
        one file, it is the tile beside.

        Raises:
            SettingsError: the batch comes without neighbours.
        """
        if batch.partners is None or batch.beside is None:
            raise SettingsError(
                "method 'contrastive' learns from tiles that lie side by side; draw them with "
                "SamplingSettings(neighbours=True)"
            )
        n_tiles = len(batch.file)
        luck = torch.rand(2, n_tiles, generator=generator)
        # half of the pairs exactly, so that no batch is of one kind
        same = luck[0].argsort().argsort() < n_tiles // 2
        far = elsewhere(batch.file, generator)
        found = far >= 0
        chosen = batch.beside & ((luck[1] < self.adjacent) | ~found)
        same |= ~chosen & ~found
        partners = torch.where(_wide(chosen), batch.partners, batch.tiles[far.clamp(min=0)])
        self._same = same
        return TileBatch(
            batch.tiles, file=batch.file, unreadable=batch.unreadable, beside=batch.beside,
            partners=torch.where(_wide(same), batch.tiles, partners),
        )  # fmt: skip

    def forward(
        self, views: Views, *, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float32[Tensor, "tile width"], Float32[Tensor, "tile width"]]:
        """The cross-entropy of the answers; codes of both views."""
        logits, first, second = self._answers(views)
        loss = in_float32(nn.functional.binary_cross_entropy_with_logits, logits, self._wanted())
        return loss, first.detach().float(), second.detach().float()

    def measure(self, views: Views, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """The share of pairs answered wrongly, which decides as in the paper; the loss."""
        logits, _, _ = self._answers(views)
        wanted = self._wanted().to(logits.device)
        loss = in_float32(nn.functional.binary_cross_entropy_with_logits, logits, wanted)
        return {"wrong": ((logits > 0) != (wanted > 0)).float().mean(), "loss": loss}

    def _wanted(self) -> Tensor:
        device = next(self.head.parameters()).device
        return self._same.float().to(device, non_blocking=True)

    def _answers(self, views: Views) -> tuple[Tensor, Tensor, Tensor]:
        first, second = self.encoder(torch.cat([views[0], views[1]])).chunk(2)
        return self.head(torch.cat([first, second], dim=1))[:, 0], first, second


def _wide(choice: Bool[Tensor, " tile"]) -> Tensor:
    return choice.view(-1, 1, 1, 1)


def elsewhere(file: Tensor, generator: torch.Generator) -> Tensor:
    """For each tile a place in the batch with a tile of another file, at random; -1 for none."""
    luck = torch.rand(len(file), len(file), generator=generator)
    luck.masked_fill_(file[:, None] == file[None], -1.0)
    best, place = luck.max(dim=1)
    return place.masked_fill(best < 0, -1)
