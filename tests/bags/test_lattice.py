"""Cells of tiles: exact for our bags, inferred for others', refused where there is no grid."""

from dataclasses import replace
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.bags.bag import Bag, BagInfo
from gigassl.bags.lattice import tile_cells
from gigassl.errors import SlideError
from gigassl.slides.grid import GridSettings, SlideInfo, make_grid
from tests.shared_data import SHARED, needs_shared


def bag_at(coords: np.ndarray, **facts: Any) -> Bag:
    info = BagInfo(**{"slide_id": "s", "encoder": "e", "layout": "stamp"} | facts)
    features = np.ones((len(coords), 2), dtype=np.float16)
    return Bag(features=features, coords=coords.astype(np.int64), info=info)


@st.composite
def scattered(draw: st.DrawFn) -> np.ndarray:
    """(row, column) of tiles: a blob of neighbours and some others far from it, in any order."""
    n_rows, n_cols = draw(st.integers(2, 60)), draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    filled = rng.random((n_rows, n_cols)) < draw(st.sampled_from([0.2, 0.7, 1.0]))
    filled[:2, 0] = True
    cells = np.argwhere(filled)
    return cells[rng.permutation(len(cells))] + rng.integers(0, 40, 2)


@given(
    mpp_l0=st.sampled_from([0.2431, 0.25, 0.499, 0.5]),
    tile_px=st.sampled_from([32, 128, 224]),
    overlap=st.sampled_from([0, 16]),
    size=st.tuples(st.integers(600, 9_000), st.integers(600, 9_000)),
)
def test_our_own_bags_give_the_very_cells_of_their_grid(
    mpp_l0: float, tile_px: int, overlap: int, size: tuple[int, int]
) -> None:
    info = SlideInfo(width_l0=size[0], height_l0=size[1], mpp=mpp_l0, downsamples=(1.0, 4.0))
    settings = GridSettings(tile_px=tile_px, target_mpp=0.5, overlap_px=overlap)
    grid = make_grid(info, settings, tissue=None)
    shape = (len(np.unique(grid.coords[:, 1])), len(np.unique(grid.coords[:, 0])))
    some = np.random.default_rng(0).random(len(grid)) < 0.3
    some[0] = True
    bag = bag_at(
        grid.coords[some], layout="gigassl", width_l0=size[0], height_l0=size[1], mpp_l0=mpp_l0,
        tile_px=tile_px, side_l0=grid.side_l0, overlap_px=overlap, effective_mpp=grid.plan.mpp,
    )  # fmt: skip
    found = tile_cells(bag)
    np.testing.assert_array_equal(found.cells, np.argwhere(np.ones(shape))[some])
    # the region that is read is a whole number of px: it may leave the slide where the tile fits
    assert all(0 <= ours - theirs <= 1 for ours, theirs in zip(found.shape, shape, strict=True))
    assert found.origin_l0 == (0.0, 0.0)


def test_the_grid_of_a_slide_is_its_size_over_the_stride() -> None:
    coords = np.array([[128, 256]])
    bag = bag_at(
        coords, layout="gigassl", width_l0=1000, height_l0=1024, side_l0=128.0, tile_px=128
    )
    assert tile_cells(bag).shape == (1024 // 128, 1000 // 128)


@given(
    cells=scattered(),
    step=st.floats(8, 1200),
    offset=st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
    said=st.booleans(),
)
def test_others_bags_are_inferred_from_where_tiles_lie(
    cells: np.ndarray, step: float, offset: tuple[float, float], said: bool
) -> None:
    origin = np.array(offset) * step
    coords = np.rint(cells[:, ::-1] * step + origin)
    # what a file says is a whole number of pixels
    found = tile_cells(bag_at(coords, side_l0=float(round(step)) if said else None))
    shift = found.cells - cells
    assert (shift == shift[0]).all(), "every tile in its cell, but for where counting begins"
    assert (np.abs(shift) <= 1).all()
    assert found.step_l0 == pytest.approx(step, abs=1.0)
    where = found.cells[:, ::-1] * found.step_l0 + np.array(found.origin_l0)
    assert np.abs(where - coords).max() <= max(1.5, 0.02 * step)
    assert found.shape == tuple(found.cells.max(axis=0) + 1)


def test_counting_begins_at_the_edge_of_the_slide() -> None:
    cells = np.argwhere(np.ones((3, 4))) + np.array([5, 7])
    found = tile_cells(bag_at(cells[:, ::-1] * 100 + np.array([30, 0])))
    np.testing.assert_array_equal(found.cells, cells)
    assert found.origin_l0 == pytest.approx((30.0, 0.0), abs=1e-6)
    whole = bag_at(cells[:, ::-1] * 100, width_l0=2000, height_l0=950)
    assert tile_cells(whole).shape == (9, 20)


def test_overlap_that_a_file_tells_is_a_finer_grid() -> None:
    cells = np.argwhere(np.ones((4, 5)))
    coords = cells[:, ::-1] * 192
    told = {"side_l0": 256.0, "tile_px": 256, "overlap_px": 64, "layout": "trident"}
    np.testing.assert_array_equal(tile_cells(bag_at(coords, **told)).cells, cells)
    with pytest.raises(SlideError, match=r"its tiles overlap: .* 256 px apart, .* lie 192 px"):
        tile_cells(bag_at(coords, **told | {"overlap_px": None}))


@given(seed=st.integers(0, 50))
def test_tiles_of_two_grids_are_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shift = rng.integers(20, 200, 2)
    cells = np.argwhere(np.ones((5, 5)))[:, ::-1] * 224
    coords = np.concatenate([cells, cells + 1344 + shift])
    with pytest.raises(SlideError, match="lie on no common grid"):
        tile_cells(bag_at(coords, side_l0=224.0))


def test_one_cell_holds_one_tile() -> None:
    coords = np.array([[0, 0], [100, 0], [100, 0]])
    with pytest.raises(SlideError, match=r"2 tiles lie in one cell .* \(row 0, column 1\)"):
        tile_cells(bag_at(coords))


def test_a_single_tile_needs_its_size() -> None:
    one = bag_at(np.array([[448, 896]]))
    with pytest.raises(SlideError, match="does not say how far its 1 tiles lie apart"):
        tile_cells(one)
    sized = replace(one, info=replace(one.info, side_l0=224.0))
    np.testing.assert_array_equal(tile_cells(sized).cells, [[4, 2]])


def test_tiles_of_ours_off_their_grid_are_refused() -> None:
    coords = np.array([[0, 0], [224, 0], [460, 0]])
    with pytest.raises(SlideError, match=r"one at \(460, 0\) is 12.0 px off"):
        tile_cells(bag_at(coords, layout="gigassl", side_l0=224.0))


def test_tiles_left_of_the_slide_are_refused() -> None:
    coords = np.array([[-224, 0], [0, 0]])
    with pytest.raises(SlideError, match="outside of the slide"):
        tile_cells(bag_at(coords, layout="gigassl", side_l0=224.0))


@needs_shared
@pytest.mark.parametrize(
    ("name", "step", "said"),
    [("TCGA-AD-6964-01Z-00-DX1", 512, None), ("clam_coords", 256, 256.0)],
)
def test_real_bags_of_other_tools(name: str, step: int, said: float | None) -> None:
    with h5py.File(SHARED / "data" / "bags_h5" / f"{name}.h5") as file:
        coords = file["coords"][()]
    found = tile_cells(bag_at(coords, side_l0=said))
    assert found.step_l0 == pytest.approx(step)
    np.testing.assert_array_equal(found.cells[:, ::-1], coords // step)
