"""Where tiles to learn from come from: slides or a folder of images, seen as numbered batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class UnreadableFile:
    """A slide or image that was skipped in the middle of a training.

    Attributes:
        name: slide_id, or path of the image below its folder.
        path: of the file.
        reason: one sentence.
    """

    name: str
    path: str
    reason: str


class TileBatch:
    """The tiles of one step; a plain class, since Lightning takes dataclasses apart.

    Attributes:
        tiles: square tiles of one side.
        partners: a neighbour of each tile where pairs are neighbours; None where both views are
            of the tile itself.
        file: number of the slide or image that each tile is of.
        beside: whether the neighbour lies beside its tile; else it overlaps it, or is the tile.
        unreadable: files that could not be read for this batch; other tiles took their places.
    """

    def __init__(
        self, tiles: UInt8[Tensor, "tile row col 3"], *, file: Int64[Tensor, " tile"],
        partners: UInt8[Tensor, "tile row col 3"] | None = None,
        beside: Bool[Tensor, " tile"] | None = None,
        unreadable: Sequence[UnreadableFile] = (),
    ) -> None:  # fmt: skip
        self.tiles = tiles
        self.partners, self.beside = partners, beside
        self.file = file
        self.unreadable = tuple(unreadable)


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """Which batches are wanted.

    Attributes:
        first: number of the first batch, so that a resumed training goes on where it was.
        last: number behind the last one.
        size: tiles of a whole batch, over all processes.
        rank: number of this process among those that share each batch.
        world: how many share it; each takes ``size // world`` tiles: those at ``rank::world``.
        workers: processes that read ahead; 0 reads in this process.
        seed: of the training.
    """

    first: int = 0
    last: int
    size: int
    rank: int = 0
    world: int = 1
    workers: int = 0
    seed: int = 0


@runtime_checkable
class TileSource(Protocol):
    """What tiles are drawn from; batch ``k`` of a seed is the same whoever reads it, and when.

    Attributes:
        names: of its slides or images, in the order of their numbers.
        patient_ids: one a file.
        n_tiles: tiles that make one epoch: those of the tissue grids, or those that lie side by
            side in the images, at least one in each.
        tile_px: side of the tiles.
        digest: of everything that decides its pixels.
    """

    names: Sequence[str]
    patient_ids: Sequence[str]
    n_tiles: int
    tile_px: int
    digest: str

    def batches(self, plan: BatchPlan) -> Iterator[TileBatch]:
        """The batches of a plan, in order.

        Raises:
            SettingsError: nothing can be read any more.
            MachineError: no file handles left.
        """


@runtime_checkable
class DivisibleTiles(TileSource, Protocol):
    """A source of which patients can be held out."""

    def some(self, files: Sequence[int]) -> TileSource:
        """The same of some files, by their numbers in ascending order; these count from 0 there."""


@runtime_checkable
class ChoosingTiles(DivisibleTiles, Protocol):
    """A source that says itself which patients can be held out."""

    def held_out(self, share: float, *, rng: np.random.Generator) -> frozenset[str]:
        """Patients that hold about this share of the tiles.

        Raises:
            SettingsError: none can be held out.
        """
