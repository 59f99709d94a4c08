"""Stores of compressed slides: eight groups a slide, each tile at its cell of each variant."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gigassl.bags.bag import Bag
from gigassl.errors import SettingsError
from gigassl.evaluate.mil.bags import BagReader
from gigassl.tiles.turns import N_VARIANTS
from gigassl.vectors.placement import placed
from gigassl.vectors.store_parts import subset
from gigassl.vectors.tile_store import TileStore, store_of_bags
from tests.bags.test_grid import with_variants
from tests.vectors.stores import TILE_PX, bags_of, grid_bag


def on_grid(*bags: Bag) -> TileStore:
    return store_of_bags(bags, patient_ids=[bag.info.slide_id for bag in bags], on_grid=True)


def image_in(store: TileStore, slide: int, variant: int) -> torch.Tensor:
    """The compressed slide that a group of a store holds."""
    assert store.cells is not None
    assert store.shapes is not None
    first, count = int(store.first[slide, variant]), int(store.count[slide, variant])
    row, col = store.cells[first : first + count].long().T
    image = torch.zeros(*store.shapes[slide, variant].tolist(), store.dim, dtype=torch.float16)
    image[row, col] = store.features[first : first + count]
    return image


@given(bags=bags_of())
def test_groups_hold_what_to_grid_gives(bags: list[Bag]) -> None:
    full = [with_variants(bag, seed=number) for number, bag in enumerate(bags)]
    store = on_grid(*full)
    assert store.first.shape == (len(bags), N_VARIANTS)
    for slide, bag in enumerate(full):
        for variant in range(N_VARIANTS):
            expected = bag.to_grid(variant=variant).features
            np.testing.assert_array_equal(image_in(store, slide, variant), expected)


@given(bags=bags_of(), variant=st.integers(0, N_VARIANTS - 1))
def test_coordinates_are_turned_with_the_content(bags: list[Bag], variant: int) -> None:
    store = on_grid(*(with_variants(bag) for bag in bags))
    assert store.cells is not None
    for first, count in zip(store.first[:, variant], store.count[:, variant], strict=True):
        rows = slice(int(first), int(first + count))
        expected = store.cells[rows].long().flip(1) * TILE_PX
        assert torch.equal(store.coords[rows], expected)


def test_bags_without_variants_have_one_group() -> None:
    bags = [grid_bag("a"), grid_bag("b", cols=3, rows=2)]
    store = on_grid(*bags)
    plain = store_of_bags(bags, patient_ids=["a", "b"])
    assert store.first.shape == (2, 1)
    assert torch.equal(store.features, plain.features)
    assert torch.equal(store.coords, plain.coords)
    assert (plain.cells, plain.shapes) == (None, None)
    assert store.shapes is not None
    assert store.shapes.tolist() == [[[5, 6]], [[2, 3]]]


def test_variants_in_some_bags_and_not_in_others_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"of 1 slides hold turned .* 1 do not \(first 'b'\)"):
        on_grid(with_variants(grid_bag("a")), grid_bag("b"))


def test_a_slide_on_no_grid_is_named() -> None:
    bag = grid_bag("odd")
    off = replace(bag, coords=bag.coords + np.arange(len(bag))[:, None] * 9)
    with pytest.raises(SettingsError, match="slide 'odd' is no image of features: its tiles lie"):
        on_grid(grid_bag("even"), off)


def test_parts_and_copies_keep_the_grid() -> None:
    store = on_grid(*(with_variants(grid_bag(name)) for name in "abc"))
    part = subset(store, np.array([2, 0]))
    assert part.slide_ids == ("c", "a")
    for moved in (part.to("cpu"), placed(part, "cpu")):
        for here, there in ((0, 2), (1, 0)):
            for variant in (0, 5):
                assert torch.equal(image_in(moved, here, variant), image_in(store, there, variant))


def test_a_model_that_knows_no_grid_reads_the_slide_as_it_lies() -> None:
    bags = [with_variants(grid_bag(name)) for name in "ab"]
    plain = store_of_bags(bags, patient_ids=["a", "b"])
    cpu = torch.device("cpu")
    ours, theirs = (BagReader(store=store, device=cpu) for store in (on_grid(*bags), plain))
    assert ours.n_tiles(0) == theirs.n_tiles(0) == 30
    assert torch.equal(ours.batch([0, 1]).features, theirs.batch([0, 1]).features)
    drawn = [
        reader.batch([1], max_tiles=7, generator=torch.Generator().manual_seed(0)).features
        for reader in (ours, theirs)
    ]
    assert torch.equal(*drawn)
