"""Compressed slides: every feature at its place; maps and centres of crops, done slowly too."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gigassl.bags.bag import Bag
from gigassl.bags.grid import crop_centres, distance_map, spread_centres, to_grid
from gigassl.errors import SlideError
from gigassl.tiles.turns import N_VARIANTS, turned
from tests.vectors.stores import TILE_PX, bags_of, grid_bag


def with_variants(bag: Bag, *, seed: int = 0) -> Bag:
    """The bag with random features for its seven other variants."""
    rng = np.random.default_rng(seed)
    shape = (N_VARIANTS - 1, *bag.features.shape)
    return replace(bag, variants=rng.normal(size=shape).astype(np.float16))


def tissue(seed: int, *, n_rows: int, n_cols: int, share: float) -> torch.Tensor:
    kept = torch.rand(n_rows, n_cols, generator=torch.Generator().manual_seed(seed)) < share
    kept[n_rows // 2, n_cols // 2] = True
    return kept


TISSUE = st.builds(
    tissue, st.integers(0, 99), n_rows=st.integers(1, 13), n_cols=st.integers(1, 13),
    share=st.sampled_from([0.1, 0.6, 0.95, 1.0]),
)  # fmt: skip


@given(bags=bags_of())
def test_features_lie_where_their_tiles_lie(bags: list[Bag]) -> None:
    for bag in bags:
        slide = bag.to_grid()
        cols, rows = (bag.coords.max(axis=0) // TILE_PX + 1).tolist()
        assert slide.features.shape == (rows, cols, bag.features.shape[1])
        assert slide.kept.all()
        for (x, y), vector in zip(bag.coords, bag.features, strict=True):
            np.testing.assert_array_equal(slide.features[y // TILE_PX, x // TILE_PX], vector)


def test_cells_without_a_tile_are_zero_and_not_kept() -> None:
    whole = grid_bag(cols=4, rows=3, width_l0=5 * TILE_PX + 7, height_l0=3 * TILE_PX)
    some = np.array([1, 6, 11])
    slide = replace(whole, features=whole.features[some], coords=whole.coords[some]).to_grid()
    assert slide.kept.shape == (3, 5)
    assert np.argwhere(slide.kept).tolist() == [[0, 1], [1, 2], [2, 3]]
    assert (slide.features[~slide.kept] == 0).all()
    assert (slide.origin_l0, slide.step_l0, slide.mpp_l0) == ((0.0, 0.0), 448.0, 0.25)


@given(variant=st.integers(0, 7), rows=st.integers(1, 5), cols=st.integers(1, 5))
def test_a_variant_holds_its_features_at_turned_places(variant: int, rows: int, cols: int) -> None:
    bag = with_variants(grid_bag(rows=rows, cols=cols))
    assert bag.variants is not None
    features = np.concatenate([bag.features[None], bag.variants])[variant]
    upright = torch.from_numpy(features.reshape(rows, cols, -1))
    expected = turned(upright, variant, dims=(0, 1)).numpy()
    slide = bag.to_grid(variant=variant)
    np.testing.assert_array_equal(slide.features, expected)
    assert slide.variant == variant


def test_a_variant_that_the_bag_does_not_hold_is_refused() -> None:
    with pytest.raises(SlideError, match=r"holds no turned variants.*encode --variants"):
        to_grid(grid_bag(), variant=3)


def test_ratios_are_those_of_the_paper() -> None:
    published = replace(
        grid_bag(dim=128, rows=2, cols=2), info=replace(grid_bag().info, tile_px=128, side_l0=448.0)
    ).to_grid()
    assert (published.value_ratio, published.byte_ratio) == (384.0, 192.0)
    unsaid = replace(published, step_px=None)
    assert (unsaid.value_ratio, unsaid.byte_ratio) == (None, None)
    overlapping = grid_bag(dim=4)
    step = 336  # of tiles of 448 px at level 0, which are 224 px as the encoder sees them
    finer = replace(
        overlapping, coords=overlapping.coords // TILE_PX * step,
        info=replace(overlapping.info, overlap_px=56),
    ).to_grid()  # fmt: skip
    assert finer.value_ratio == 3 * 168**2 / 4


def test_wide_features_become_half_precision_or_an_error() -> None:
    bag = grid_bag()
    wide = replace(bag, features=bag.features.astype(np.float32))
    np.testing.assert_array_equal(wide.to_grid().features, bag.to_grid().features)
    with pytest.raises(SlideError, match="do not fit float16"):
        replace(bag, features=np.full(bag.features.shape, 1e6, dtype=np.float32)).to_grid()


def test_a_grid_that_cannot_be_meant_is_refused() -> None:
    bag = grid_bag(cols=2, rows=1)
    far = replace(bag, coords=np.array([[0, 0], [448 * 20_000, 448 * 20_000]]))
    with pytest.raises(SlideError, match="20001 × 20001 cells"):
        far.to_grid()


@given(kept=TISSUE, power=st.sampled_from([1, 2]))
def test_the_distance_map_is_that_of_every_pair_of_cells(kept: torch.Tensor, power: int) -> None:
    n_rows, n_cols = kept.shape
    slow = np.zeros((n_rows, n_cols))
    for row, col in kept.nonzero().tolist():
        slow[row, col] = min(
            ((row - other_row) ** 2 + (col - other_col) ** 2) ** 0.5
            for other_row in range(-1, n_rows + 1)
            for other_col in range(-1, n_cols + 1)
            if not (0 <= other_row < n_rows and 0 <= other_col < n_cols)
            or not kept[other_row, other_col]
        )
    slow **= power
    np.testing.assert_allclose(distance_map(kept, power=power), slow / slow.sum())


@given(kept=TISSUE, seed=st.integers(0, 99))
def test_crops_lie_on_tissue(kept: torch.Tensor, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    found = crop_centres(distance_map(kept), 30, generator=generator)
    assert found.shape == (30, 2)
    assert kept[found[:, 0], found[:, 1]].all()


def test_crops_are_drawn_as_often_as_the_map_says() -> None:
    chance = distance_map(tissue(3, n_rows=6, n_cols=5, share=0.8))
    n = 60_000
    drawn = crop_centres(chance, n, generator=torch.Generator().manual_seed(0))
    share = torch.zeros_like(chance)
    share.index_put_((drawn[:, 0], drawn[:, 1]), torch.tensor(1 / n).double(), accumulate=True)
    deviation = (chance * (1 - chance) / n).sqrt()
    assert ((share - chance).abs() <= 4.5 * deviation + 1e-12).all()


def test_equal_seeds_draw_equal_crops() -> None:
    chance = distance_map(tissue(0, n_rows=9, n_cols=9, share=0.9))
    first, second, other = (
        crop_centres(chance, 20, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@given(kept=TISSUE, n=st.integers(1, 12))
def test_test_crops_are_different_cells_of_the_tissue(kept: torch.Tensor, n: int) -> None:
    found = spread_centres(kept, n)
    assert len(found) == min(n, int(kept.sum()))
    assert len({tuple(cell) for cell in found.tolist()}) == len(found)
    assert kept[found[:, 0], found[:, 1]].all()
    assert torch.equal(found, spread_centres(kept, n)), "no chance in it"


def test_test_crops_share_the_tissue_evenly() -> None:
    kept = torch.zeros(60, 90, dtype=torch.bool)
    kept[5:55, 4:24] = kept[30:50, 40:85] = True
    centres = spread_centres(kept, 10).double()
    cells = kept.nonzero().double()
    nearest = torch.cdist(cells, centres).min(dim=1)
    share = nearest.indices.bincount(minlength=10) / len(cells)
    assert share.min() > 0.05
    assert share.max() < 0.17
    # ten squares of so many cells would have their corners this far from their middles
    assert nearest.values.max() < 1.5 * (len(cells) / 10 / 2) ** 0.5
