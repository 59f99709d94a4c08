"""Cells and kernel maps against dictionaries and loops."""

from collections import defaultdict
from itertools import product

import torch
from hypothesis import given
from hypothesis import strategies as st

from gigassl.vectors.cells import (
    WINDOW,
    Cells,
    KernelMap,
    cells_of_tiles,
    mean_in_cells,
    neighbours,
    strided,
)
from gigassl.vectors.packed import PackedTiles
from tests.vectors.packing import COUNTS, SEEDS, packed

Cell = tuple[int, int, int]


def listed(cells: Cells) -> list[Cell]:
    return [(b, x, y) for b, (x, y) in zip(cells.bag.tolist(), cells.xy.tolist(), strict=True)]


def pairs(kernel_map: KernelMap) -> set[tuple[int, int, int]]:
    """(position, input, output) of every pair."""
    found = [
        (position, i, o)
        for position, (source, target) in enumerate(
            zip(kernel_map.source, kernel_map.target, strict=True)
        )
        for i, o in zip(source.tolist(), target.tolist(), strict=True)
    ]
    if kernel_map.identity is not None:
        found += [(kernel_map.identity, i, i) for i in range(kernel_map.n_in)]
    assert len(found) == len(set(found)) == kernel_map.n_pairs
    return set(found)


def enlarged(side: int) -> int:
    while side % 4 != 3 or side < 7:
        side += 1
    return side


def obvious_strided(cells: list[Cell]) -> tuple[set[Cell], set[tuple[int, Cell, Cell]]]:
    """Rule book of a 3 × 3 filter at stride 2, cell by cell and window by window."""
    reach: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for b, x, y in cells:
        reach[b] = [max(reach[b][0], x + 1), max(reach[b][1], y + 1)]
    book = set()
    for b, sides in reach.items():
        width, height = (enlarged(side) for side in sides)
        windows = product(range((width - 3) // 2 + 1), range((height - 3) // 2 + 1))
        for (ox, oy), (k, (dx, dy)) in product(windows, enumerate(WINDOW)):
            seen = (b, 2 * ox + dx + 1, 2 * oy + dy + 1)
            if seen in cells:
                book.add((k, seen, (b, ox, oy)))
    return {out for _, _, out in book}, book


@given(counts=COUNTS, seed=SEEDS)
def test_cells_are_distinct_sorted_and_know_their_tiles(counts: list[int], seed: int) -> None:
    tiles = packed(counts, seed=seed)
    cells, cell_of = cells_of_tiles(tiles, cell=10.0, rounding="nearest")
    names = listed(cells)
    assert names == sorted(set(names))
    for bag in range(tiles.n_bags):
        mine = tiles.bag == bag
        low = tiles.coords[mine].amin(0)
        expected = ((tiles.coords[mine] - low) / 10).round().long()
        assert torch.equal(cells.xy[cell_of[mine]], expected)
        assert (cells.bag[cell_of[mine]] == bag).all()


@given(counts=COUNTS, seed=SEEDS, cell=st.sampled_from([7.0, 224.0]))
def test_rounding_down_is_that_of_whole_pixels(counts: list[int], seed: int, cell: float) -> None:
    tiles = packed(counts, seed=seed, side=100_000, cell=1.0)
    cells, cell_of = cells_of_tiles(tiles, cell=cell, rounding="down")
    for bag in range(tiles.n_bags):
        mine = tiles.bag == bag
        whole = tiles.coords[mine].long()
        assert torch.equal(cells.xy[cell_of[mine]], (whole - whole.amin(0)) // int(cell))


def test_a_grid_with_rounded_steps_keeps_its_neighbours() -> None:
    corners = (torch.arange(200) * 31.7).round()  # a step of 31.7 px, as grids at odd mpp have
    tiles = PackedTiles(
        features=torch.zeros(200, 1),
        coords=torch.stack([corners, corners.flip(0)], dim=1),
        bag=torch.zeros(200, dtype=torch.int64),
        n_bags=1,
    )
    cells, cell_of = cells_of_tiles(tiles, cell=31.7, rounding="nearest")
    assert cells.xy[cell_of, 0].tolist() == list(range(200))


@given(counts=COUNTS, seed=SEEDS)
def test_the_mean_in_a_cell_is_that_of_its_tiles(counts: list[int], seed: int) -> None:
    tiles = packed(counts, seed=seed, side=3)
    cells, cell_of = cells_of_tiles(tiles, cell=10.0, rounding="nearest")
    found = mean_in_cells(tiles.features, cell_of, n_cells=len(cells))
    for cell in range(len(cells)):
        torch.testing.assert_close(found[cell], tiles.features[cell_of == cell].mean(0))


@given(counts=COUNTS, seed=SEEDS)
def test_neighbours_are_those_one_step_away(counts: list[int], seed: int) -> None:
    cells, _ = cells_of_tiles(packed(counts, seed=seed, side=5), cell=10.0, rounding="nearest")
    names = listed(cells)
    at = {name: i for i, name in enumerate(names)}
    expected = {
        (k, at[b, x + dx, y + dy], o)
        for o, (b, x, y) in enumerate(names)
        for k, (dx, dy) in enumerate(WINDOW)
        if (b, x + dx, y + dy) in at
    }
    assert pairs(neighbours(cells)) == expected


@given(counts=COUNTS, seed=SEEDS, side=st.integers(1, 20))
def test_strided_pairs_are_those_of_the_rule_book(counts: list[int], seed: int, side: int) -> None:
    cells, _ = cells_of_tiles(packed(counts, seed=seed, side=side), cell=10.0, rounding="nearest")
    names = listed(cells)
    out, kernel_map = strided(cells)
    out_names, book = obvious_strided(names)
    assert listed(out) == sorted(out_names)
    assert (kernel_map.n_in, kernel_map.n_out) == (len(cells), len(out))
    assert {(k, names[i], listed(out)[o]) for k, i, o in pairs(kernel_map)} == book


def test_a_far_corner_and_a_lone_cell() -> None:
    """An even cell inside feeds four windows, an odd one a single window, the first one window."""
    for xy, n_out in (((4, 4), 4), ((5, 5), 1), ((4, 5), 2), ((0, 0), 1)):
        cells = Cells(xy=torch.tensor([xy]), bag=torch.zeros(1, dtype=torch.int64), n_bags=1)
        assert len(strided(cells)[0]) == n_out
