"""Draws of a bank: reproducible, uniform, each tile read once and kept no longer than needed."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.bags.bank_draws import (
    DrawSettings,
    draw_for_slide,
    most_at_once,
    reading_steps,
)
from gigassl.errors import SettingsError

Coords = np.ndarray[Any, np.dtype[np.int64]]


def lattice(rows: int, cols: int) -> Coords:
    y, x = np.mgrid[0:rows, 0:cols]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64) * 448


def test_draws_depend_on_seed_name_and_grid_alone() -> None:
    settings = DrawSettings(augmentations=4, tiles=8)
    first = draw_for_slide(settings, slide_id="a", coords=lattice(9, 9))
    again = draw_for_slide(settings, slide_id="a", coords=lattice(9, 9))
    assert np.array_equal(first.tiles, again.tiles)
    assert first.augmentations == again.augmentations
    other = draw_for_slide(settings, slide_id="b", coords=lattice(9, 9))
    assert not np.array_equal(first.tiles, other.tiles)
    assert not set(first.augmentations) & set(other.augmentations)
    seeded = draw_for_slide(
        DrawSettings(augmentations=4, tiles=8, seed=1), slide_id="a", coords=lattice(9, 9)
    )
    assert not np.array_equal(first.tiles, seeded.tiles)
    longer = draw_for_slide(
        DrawSettings(augmentations=6, tiles=8), slide_id="a", coords=lattice(9, 9)
    )
    assert np.array_equal(longer.tiles[:4], first.tiles)
    assert longer.augmentations[:4] == first.augmentations


def test_scatter_is_uniform_with_replacement() -> None:
    settings = DrawSettings(augmentations=40, tiles=500)
    found = draw_for_slide(settings, slide_id="a", coords=lattice(5, 10)).tiles
    counts = np.bincount(found.ravel(), minlength=50)
    # chi-squared with 49 degrees of freedom: 99.9 % lie below 85
    assert ((counts - 400) ** 2 / 400).sum() < 85
    assert all(len(np.unique(row)) < 500 for row in found)


@given(
    rows=st.integers(1, 12), cols=st.integers(1, 12), n_tiles=st.integers(1, 30),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_a_window_holds_the_nearest_tiles(rows: int, cols: int, n_tiles: int, seed: int) -> None:
    coords = lattice(rows, cols)
    settings = DrawSettings(augmentations=2, tiles=n_tiles, draw="window", seed=seed)
    for chosen in draw_for_slide(settings, slide_id="a", coords=coords).tiles:
        distinct = chosen[: len(coords)]
        assert len(set(distinct.tolist())) == min(n_tiles, len(coords))
        centre = coords[chosen[0]]
        away = np.abs(coords - centre).max(axis=1)
        left_out = np.setdiff1d(np.arange(len(coords)), distinct)
        assert len(left_out) == 0 or away[distinct].max() <= away[left_out].min()


@given(
    n_augmentations=st.integers(1, 12), n_tiles=st.integers(1, 12), n_grid=st.integers(1, 60),
    most_held=st.integers(1, 80), seed=st.integers(0, 2**20),
)  # fmt: skip
def test_each_tile_is_read_once_before_its_first_use_and_dropped_after_its_last(
    n_augmentations: int, n_tiles: int, n_grid: int, most_held: int, seed: int
) -> None:
    tiles = np.random.default_rng(seed).integers(n_grid, size=(n_augmentations, n_tiles))
    steps = reading_steps(tiles, most_held=most_held)
    held: set[int] = set()
    read: list[int] = []
    encoded: list[int] = []
    for step in steps:
        assert step.new.tolist() == sorted(step.new.tolist())
        read += step.new.tolist()
        held |= set(step.new.tolist())
        for number in step.augmentations:
            assert set(tiles[number].tolist()) <= held
            encoded.append(number)
        held -= set(step.spent.tolist())
        later = {t for number in range(step.augmentations.stop, n_augmentations)
                 for t in tiles[number].tolist()}  # fmt: skip
        assert held == {t for t in read if t in later}
    assert sorted(read) == sorted(set(tiles.ravel().tolist()))
    assert encoded == list(range(n_augmentations))
    length = len(steps[0].augmentations)
    if length > 1:
        assert most_at_once(tiles, length=length) <= most_held
    if most_held >= len(read):
        assert len(steps) == 1


def test_a_published_bank_never_holds_more_than_a_quarter_of_its_draws() -> None:
    generator = np.random.default_rng(0)
    worst = max(
        most_at_once(generator.integers(n, size=(50, 256)), length=1)
        for n in (500, 2000, 4000, 5000, 6000, 13_000, 100_000)
    )
    # a fifth of 12,800, and two augmentations on their way: 0.47 GB of tiles of 224 px
    assert 2000 < worst < 3200


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"augmentations": 0}, "at least one augmentation of one tile"),
        ({"tiles": 0}, "at least one augmentation of one tile"),
        ({"seed": -1}, "--seed must be 0 or more; got -1"),
    ],
)
def test_wrong_settings_get_a_sentence(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        DrawSettings(**wrong)
