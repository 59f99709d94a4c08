"""Bags of a tile store, as MIL reads them: whole or a draw, standardised, a few at a time."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from gigassl.evaluate.mil.packed import PackedBags, packed_bags
from gigassl.vectors.tile_store import TileStore

ROWS_AT_ONCE = 65_536
"""Tiles that are read, or predicted from, in one go; a longer bag is one batch of its own."""

Spans = list[tuple[int, int]]
"""First row and number of rows."""


@dataclass(frozen=True, kw_only=True)
class Standard:
    """What features are brought to: (feature - mean) * factor."""

    mean: Float32[Tensor, " dim"]
    factor: Float32[Tensor, " dim"]


@dataclass(frozen=True, kw_only=True)
class BagReader:
    """Reads bags of a store; float16 features on disk stay there, a batch becomes float32.

    A bag is all tiles of a slide; of a bank, those of all its augmentations. Of compressed slides,
    whose other groups are the same tiles turned, it is the first group.

    Attributes:
        store: of all slides.
        device: where batches go.
        standard: what features are brought to; None as they are.
    """

    store: TileStore
    device: torch.device
    standard: Standard | None = None

    @cached_property
    def _spans(self) -> list[Spans]:
        n_groups = 1 if self.store.cells is not None else self.store.first.shape[1]
        first, count = (
            groups[:, :n_groups].tolist() for groups in (self.store.first, self.store.count)
        )
        return [_merged(zip(*spans, strict=True)) for spans in zip(first, count, strict=True)]

    def n_views(self, slide: int) -> int:
        """Number of bags of a slide that a prediction is the mean of."""
        return min(1, len(self._spans[slide]))

    def n_tiles(self, slide: int) -> int:
        """Number of tiles of a bag."""
        return sum(count for _, count in self._spans[slide])

    def batch(
        self, slides: Sequence[int], *, max_tiles: int | None = None,
        generator: torch.Generator | None = None,
    ) -> PackedBags:  # fmt: skip
        """Some bags, packed, on the device.

        Args:
            slides: numbers of the store's slides.
            max_tiles: so many tiles of longer bags are drawn; they keep their order.
            generator: of the draw.
        """
        return self.packed([self._tiles(slide, max_tiles, generator) for slide in slides])

    def packed(self, bags: list[Float[Tensor, "_ dim"]]) -> PackedBags:
        """Tiles of some bags as they lie in the store, packed, on the device, standardised."""
        packed = packed_bags([tiles.to(self.device, non_blocking=True) for tiles in bags])
        if self.standard is not None:
            tiles = packed.features[: packed.n_tiles]
            tiles.sub_(self.standard.mean).mul_(self.standard.factor)
        return packed

    def in_turn(self, slides: Sequence[int]) -> Iterator[PackedBags]:
        """All of these bags whole, as many at a time as memory is bounded to."""
        waiting: list[int] = []
        n_rows = 0
        for slide in slides:
            if waiting and n_rows + self.n_tiles(slide) > ROWS_AT_ONCE:
                yield self.batch(waiting)
                waiting, n_rows = [], 0
            waiting.append(slide)
            n_rows += self.n_tiles(slide)
        yield self.batch(waiting)

    def _tiles(
        self, slide: int, max_tiles: int | None, generator: torch.Generator | None
    ) -> Float[Tensor, "tile dim"]:
        spans, n_tiles = self._spans[slide], self.n_tiles(slide)
        capped = max_tiles is not None and n_tiles > max_tiles
        if len(spans) == 1 and not capped:
            first = spans[0][0]
            return self.store.features[first : first + n_tiles]
        rows = torch.cat([torch.arange(first, first + count) for first, count in spans])
        if capped:
            # a file is read forwards, and TransMIL wants neighbours side by side
            rows = rows[torch.randperm(n_tiles, generator=generator)[:max_tiles].sort().values]
        return self.store.features[rows.to(self.store.device)]


def _merged(spans: Iterable[tuple[int, int]]) -> Spans:
    """Spans of rows that lie behind one another as one."""
    found: Spans = []
    for first, count in spans:
        if found and sum(found[-1]) == first:
            found[-1] = (found[-1][0], found[-1][1] + count)
        else:
            found.append((first, count))
    return found


def standard_of(reader: BagReader, slides: Sequence[int]) -> Standard:
    """Mean and spread of each feature over all tiles of these bags; a constant one is only shifted.

    Summed in float64 in two passes, a bounded number of tiles at a time.
    """
    n_tiles = sum(reader.n_tiles(slide) for slide in slides)
    total = torch.zeros(reader.store.dim, dtype=torch.float64, device=reader.device)
    for bags in reader.in_turn(slides):
        total += bags.features.sum(dim=0, dtype=torch.float64)  # rows that pad are zero
    mean = total / n_tiles
    squares = torch.zeros_like(mean)
    for bags in reader.in_turn(slides):
        squares += (bags.features[: bags.n_tiles].double() - mean).square().sum(dim=0)
    std = (squares / n_tiles).sqrt()
    factor = torch.where(std > 0, 1 / std.clamp(min=1e-30), torch.ones_like(std))
    return Standard(mean=mean.float(), factor=factor.float())


def class_share(labels: Int64[np.ndarray, " row"]) -> Float64[np.ndarray, " row"]:
    """Weight of each row that gives all classes equal say; the mean of the weights is one."""
    count = np.bincount(labels)
    share: Float64[np.ndarray, " row"] = len(labels) / (np.count_nonzero(count) * count[labels])
    return share
