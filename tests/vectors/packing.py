"""Packed tiles for tests, drawn by hypothesis or from a seed."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from gigassl.vectors.packed import PackedTiles


def packed(
    counts: list[int], *, seed: int, dim: int = 6, side: int = 12, cell: float = 10.0
) -> PackedTiles:
    """Bags of the given sizes, their tiles anywhere on a grid of ``side`` × ``side`` cells."""
    generator = torch.Generator().manual_seed(seed)
    n_tiles = sum(counts)
    return PackedTiles(
        features=torch.randn(n_tiles, dim, generator=generator),
        coords=torch.randint(0, side, (n_tiles, 2), generator=generator) * cell,
        bag=torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)),
        n_bags=len(counts),
    )


def only(tiles: PackedTiles, bag: int) -> PackedTiles:
    """One bag of many, on its own."""
    mine = tiles.bag == bag
    return PackedTiles(
        features=tiles.features[mine], coords=tiles.coords[mine],
        bag=torch.zeros(int(mine.sum()), dtype=torch.int64), n_bags=1,
    )  # fmt: skip


def reordered(tiles: PackedTiles, order: Tensor) -> PackedTiles:
    """The tiles in another order within their bags."""
    order = order[torch.argsort(tiles.bag[order], stable=True)]
    return PackedTiles(
        features=tiles.features[order], coords=tiles.coords[order],
        bag=tiles.bag[order], n_bags=tiles.n_bags,
    )  # fmt: skip


COUNTS = st.lists(st.integers(1, 12), min_size=1, max_size=5)
SEEDS = st.integers(0, 2**31)
