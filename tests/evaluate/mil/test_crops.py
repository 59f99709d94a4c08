"""Crops of compressed slides: against a slow gathering cell by cell, and where they are taken."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gigassl.bags.grid import distance_map
from gigassl.errors import SettingsError
from gigassl.evaluate.mil.bags import standard_of
from gigassl.evaluate.mil.crops import CropReader, extent_of, settled
from gigassl.evaluate.mil.grid_cnn import GridCnn
from gigassl.evaluate.mil.packed import PackedBags
from gigassl.evaluate.mil.settings import MIL_PRESETS
from tests.evaluate.mil.bags import SEEDS, some_task, store_for
from tests.evaluate.mil.grids import crop_reader, grid_store

SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 24))


def image_of(bags: PackedBags, *, crop: int, dim: int = 5) -> np.ndarray:
    found = GridCnn(dim=dim, outputs=1, crop=crop).image(bags)
    return found.permute(0, 2, 3, 1).numpy()


def slow_corner(centre: int, *, extent: int, side: int) -> int:
    """Along one axis: of the corners that hold most of the slide, the one nearest the wish."""
    wish = centre - side // 2

    def held(corner: int) -> int:
        return sum(0 <= corner + step < extent for step in range(side))

    return min(range(-side, extent + 1), key=lambda corner: (-held(corner), abs(corner - wish)))


def slow_crop(
    reader: CropReader, slide: int, *, variant: int, corner: tuple[int, int]
) -> np.ndarray:
    """Cell by cell of the crop: what tile lies there, if any."""
    store, side = reader.store, reader.side
    assert store.cells is not None
    first, count = int(store.first[slide, variant]), int(store.count[slide, variant])
    cells = store.cells[first : first + count].numpy()
    least = cells.min(axis=0)
    place = {(r - least[0], c - least[1]): first + k for k, (r, c) in enumerate(cells.tolist())}
    found = np.zeros((side, side, store.dim), dtype=np.float32)
    for row in range(side):
        for col in range(side):
            at = (corner[0] + row, corner[1] + col)
            if at in place:
                found[row, col] = store.features[place[at]].float().numpy()
    return found


@given(shape=SHAPES, seed=SEEDS, side=st.sampled_from([17, 20]), variant=st.integers(0, 7),
       data=st.data())  # fmt: skip
@settings(max_examples=25)
def test_a_crop_lies_about_its_centre_but_inside_the_slide_where_it_can(
    shape: tuple[int, int], seed: int, side: int, variant: int, data: st.DataObject
) -> None:
    store = grid_store(some_task(4), shape=shape, variants=8, seed=seed, fill=1.0)
    reader = crop_reader(store, side=side)
    grid = reader.grid(1, variant)
    n_rows, n_cols = grid.kept().shape
    centre = data.draw(st.integers(0, n_rows - 1)), data.draw(st.integers(0, n_cols - 1))
    crop = reader.crop(grid, torch.tensor(centre))
    corner = (
        slow_corner(centre[0], extent=n_rows, side=side),
        slow_corner(centre[1], extent=n_cols, side=side),
    )
    assert crop.corner == corner
    found = image_of(reader.packed([crop]), crop=side)
    np.testing.assert_array_equal(
        found[0], slow_crop(reader, 1, variant=variant, corner=corner)
    )  # fmt: skip


def test_crops_of_a_batch_do_not_meet_and_standardised_ones_stay_zero_where_no_tile_is() -> None:
    store = grid_store(some_task(6), fill=0.5)
    reader = crop_reader(store)
    generator = torch.Generator().manual_seed(3)
    together = reader.batch(range(6), generator=generator)
    assert together.cells is not None
    images = image_of(together, crop=17)
    parts = torch.split(together.cells, list(together.sizes))
    for number, tiles in enumerate(together.split(together.features)):
        own = np.zeros_like(images[0])
        for tile, (row, col) in zip(tiles, parts[number].tolist(), strict=True):
            own[row, col] = tile
        np.testing.assert_array_equal(images[number], own)
    standard = standard_of(reader.bags, range(6))
    shifted = replace(reader, bags=replace(reader.bags, standard=standard))
    again = shifted.batch(range(6), generator=torch.Generator().manual_seed(3))
    empty = (images == 0).all(axis=3)
    found = image_of(again, crop=17)
    assert empty.any()
    assert (found[empty] == 0).all()
    expected = (images - standard.mean.numpy()) * standard.factor.numpy()
    np.testing.assert_allclose(found[~empty], expected[~empty], rtol=1e-5, atol=1e-6)


def test_training_crops_are_of_any_variant_about_cells_drawn_by_their_distance() -> None:
    store = grid_store(some_task(4), shape=(12, 8), variants=8, fill=1.0)
    reader, generator = crop_reader(store, side=25), torch.Generator().manual_seed(0)
    chance = distance_map(reader.grid(0).kept()).numpy()
    n_draws, counts = 2000, np.zeros((12, 8))
    for _ in range(n_draws):
        cells = reader.batch([0], generator=generator).cells
        assert cells is not None
        least, most = cells.amin(dim=0), cells.amax(dim=0)
        if (most - least + 1).tolist() == [12, 8]:  # not on its side, as half of the variants are
            row, col = (12 - least).tolist()  # a crop of 25 holds all: its corner tells its centre
            counts[row, col] += 1
    assert counts.sum() == pytest.approx(n_draws / 2, rel=0.1)
    assert np.abs(np.cumsum(counts / counts.sum()) - np.cumsum(chance)).max() < 0.05


def test_the_same_generator_draws_the_same_crops_and_thinned_ones_keep_their_cells() -> None:
    store = grid_store(some_task(4), shape=(12, 12))
    reader = crop_reader(store)
    first, same, other = (
        reader.batch([0, 1, 2], max_tiles=20, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first.features, same.features)
    assert not torch.equal(first.features, other.features)
    assert first.sizes == (20, 20, 20)
    assert first.cells is not None
    assert len(torch.unique(first.cells[:20], dim=0)) == 20


def test_test_crops_are_spread_over_all_variants_and_bounded_in_number_at_a_time() -> None:
    store = grid_store(some_task(4), variants=8)
    reader = crop_reader(store, n_crops=10)
    assert [reader.n_views(slide) for slide in range(4)] == [80] * 4
    parts = list(reader.in_turn([2, 0]))
    assert [len(part.sizes) for part in parts] == [16] * 10
    assert reader.for_watching().n_views(0) == 1
    watched = list(reader.for_watching().in_turn([0, 1, 2, 3]))
    assert [len(part.sizes) for part in watched] == [4]
    tiny = crop_reader(grid_store(some_task(4), shape=(1, 2), fill=1.0))
    assert [tiny.n_views(0), sum(len(part.sizes) for part in tiny.in_turn([0]))] == [2, 2]


def test_the_side_of_crops_follows_the_largest_slide_or_what_is_said() -> None:
    preset, task = MIL_PRESETS["nic-cnn"], some_task(4)
    for shape, side in (((4, 3), 17), ((17, 2), 17), ((3, 18), 32), ((30, 57), 100)):
        store = grid_store(task, shape=shape, fill=1.0)
        assert extent_of(store) == max(shape)
        assert settled(preset, store).options == {"crop": side}
    said = replace(preset, options={"crop": 40, "width": 8})
    assert settled(said, store).options == {"crop": 40, "width": 8}
    assert settled(MIL_PRESETS["abmil"], store_for(task)) == MIL_PRESETS["abmil"]
    with pytest.raises(SettingsError, match=r"wants bags whose tiles lie on a grid.*--variants"):
        settled(preset, store_for(task))
