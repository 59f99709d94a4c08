"""Windows: dense ones hold the nearest tiles, crops their part of the slide, draws are even."""

from collections import Counter
from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gigassl.bags.bag import Bag
from gigassl.vectors.tile_store import TileStore
from gigassl.vectors.windows import draw_rows
from tests.vectors.stores import TILE_PX, bags_of, grid_bag, store_of


def drawn_rows(store: TileStore, slides: torch.Tensor, *, seed: int = 0, **wanted: Any) -> Any:
    generator = torch.Generator().manual_seed(seed)
    asked: dict[str, Any] = {"tiles": 5, "window": "scatter", "crop": 1.0} | wanted
    return draw_rows(store, slides, generator=generator, **asked)


@given(bags=bags_of(), tiles=st.integers(1, 30), seed=st.integers(0, 99))
def test_dense_windows_hold_the_nearest_tiles(bags: list[Bag], tiles: int, seed: int) -> None:
    store = store_of(*bags)
    slides = torch.arange(len(bags)).repeat(3)
    rows = drawn_rows(store, slides, tiles=tiles, window="dense", seed=seed)
    for view, slide in enumerate(slides.tolist()):
        place = bags[slide].coords // TILE_PX
        chosen = (rows[view] - store.first[slide, 0]).tolist()
        n_different = min(tiles, len(place))
        turns = Counter(chosen)
        assert len(turns) == n_different
        assert set(turns.values()) <= {tiles // n_different, -(-tiles // n_different)}
        # the first tile is the centre: no tile that was left out is nearer than one that was taken
        far = np.abs(place - place[chosen[0]]).max(axis=1)
        left_out = np.delete(far, chosen)
        assert left_out.size == 0 or far[chosen].max() <= left_out.min()


def test_a_dense_window_of_a_square_is_the_square() -> None:
    store = store_of(grid_bag(cols=9, rows=9))
    rows = drawn_rows(store, torch.zeros(50, dtype=torch.int64), tiles=9, window="dense")
    place = store.coords[rows] // TILE_PX
    size = place.amax(dim=1) - place.amin(dim=1)
    centre = place[:, 0]
    within = ((centre > 0) & (centre < 8)).all(dim=1)
    assert within.any()
    assert (size[within] == 2).all()


def test_grids_rounded_to_whole_pixels_still_tie() -> None:
    bag = grid_bag(cols=3, rows=3)
    # as of round(i * 447.56): the left neighbour is one pixel nearer than the right one
    rounded = np.rint(bag.coords / TILE_PX * 447.56).astype(np.int64)
    store = store_of(replace(bag, coords=rounded))
    rows = drawn_rows(store, torch.zeros(4000, dtype=torch.int64), tiles=2, window="dense")
    of_centre = rows[rows[:, 0] == 4][:, 1]
    counts = Counter(of_centre.tolist())
    assert set(counts) == {0, 1, 2, 3, 5, 6, 7, 8}
    expected = len(of_centre) / 8
    assert all(abs(count - expected) < 5 * sqrt(expected) for count in counts.values())


@pytest.mark.parametrize("window", ["scatter", "dense"])
@given(bags=bags_of(), crop=st.sampled_from([0.01, 0.3, 0.6]), seed=st.integers(0, 99))
def test_a_crop_is_a_part_of_the_slide(
    window: Any, bags: list[Bag], crop: float, seed: int
) -> None:
    store = store_of(*bags)
    slides = torch.arange(len(bags)).repeat(3)
    rows = drawn_rows(store, slides, window=window, crop=crop, tiles=6, seed=seed)
    for view, slide in enumerate(slides.tolist()):
        place = bags[slide].coords / TILE_PX
        chosen = place[(rows[view] - store.first[slide, 0]).tolist()]
        extent = place.max(axis=0) - place.min(axis=0) + 1
        assert (chosen.max(axis=0) - chosen.min(axis=0) <= crop * extent + 1e-5).all()


def test_a_crop_of_nothing_is_one_tile_and_each_gets_its_turn() -> None:
    store = store_of(grid_bag(cols=4, rows=3))
    rows = drawn_rows(store, torch.zeros(6000, dtype=torch.int64), crop=1e-6)
    assert (rows == rows[:, :1]).all()
    counts = Counter(rows[:, 0].tolist())
    assert set(counts) == set(range(12))
    assert all(abs(count - 500) < 5 * sqrt(500) for count in counts.values())


@pytest.mark.parametrize("crop", [1.0, 0.999999])
def test_scattered_tiles_are_drawn_alike_and_with_replacement(crop: float) -> None:
    store = store_of(grid_bag("before", cols=3, rows=1), grid_bag(cols=10, rows=1))
    rows = drawn_rows(store, torch.ones(4000, dtype=torch.int64), crop=crop, tiles=2)
    if crop == 1.0:
        counts = Counter(rows.flatten().tolist())
        assert set(counts) == set(range(3, 13))
        assert all(abs(count - 800) < 5 * sqrt(800) for count in counts.values())
    same = float((rows[:, 0] == rows[:, 1]).float().mean())
    assert 0.05 < same < 0.25


def test_duplicates_in_a_group_are_tiles_like_others() -> None:
    bag = grid_bag(cols=3, rows=1)
    doubled = Bag(
        features=np.concatenate([bag.features] * 2), coords=np.concatenate([bag.coords] * 2),
        info=bag.info,
    )  # fmt: skip
    rows = drawn_rows(store_of(doubled), torch.zeros(9, dtype=torch.int64), tiles=2, window="dense")
    assert (rows[:, 0] % 3 == rows[:, 1] % 3).all()
