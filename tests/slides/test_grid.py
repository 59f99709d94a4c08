"""Grid geometry: tiles inside the slide, on the stride, exact tiling, right level, exact tissue."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gigassl.errors import SettingsError, SlideError
from gigassl.slides.grid import (
    GridSettings,
    SlideInfo,
    TissueMask,
    lattice,
    make_grid,
    plan_reading,
    tissue_fractions,
)

infos = st.builds(
    SlideInfo,
    width_l0=st.integers(50, 6000),
    height_l0=st.integers(50, 6000),
    mpp=st.floats(0.1, 0.6),
    downsamples=st.sampled_from([(1.0,), (1.0, 2.0), (1.0, 4.0, 16.0), (1.0, 4.0001, 16.01)]),
)
settings = st.builds(
    GridSettings,
    tile_px=st.integers(16, 256),
    target_mpp=st.floats(0.6, 4.0),
    overlap_px=st.integers(0, 15),
)


@given(info=infos, wish=settings)
def test_tiles_lie_inside_row_by_row_on_the_stride(info: SlideInfo, wish: GridSettings) -> None:
    plan = plan_reading(info, wish)
    coords, side_l0 = lattice(info, wish, plan=plan)
    assume(len(coords) > 0)
    extent = plan.read_px * plan.downsample
    assert (coords >= 0).all()
    assert (coords[:, 0] + extent <= info.width_l0 + 1e-6).all()
    assert (coords[:, 1] + extent <= info.height_l0 + 1e-6).all()
    assert (np.lexsort((coords[:, 0], coords[:, 1])) == np.arange(len(coords))).all()
    step = (wish.tile_px - wish.overlap_px) * plan.mpp / info.mpp
    for axis in (0, 1):
        origins = np.unique(coords[:, axis])
        # never accumulated: the i-th origin is within half a pixel of i · step, however large i is
        assert np.abs(origins - np.arange(len(origins)) * step).max() <= 0.5 + 1e-6
    assert side_l0 == pytest.approx(wish.tile_px * plan.mpp / info.mpp)


@given(info=infos, wish=settings)
def test_no_further_tile_would_fit(info: SlideInfo, wish: GridSettings) -> None:
    plan = plan_reading(info, wish)
    coords, _ = lattice(info, wish, plan=plan)
    assume(len(coords) > 0)
    step = (wish.tile_px - wish.overlap_px) * plan.mpp / info.mpp
    for axis, length in ((0, info.width_l0), (1, info.height_l0)):
        n = len(np.unique(coords[:, axis]))
        assert round(n * step) + plan.read_px * plan.downsample > length


def test_tiling_without_overlap_covers_every_pixel_once() -> None:
    info = SlideInfo(width_l0=2240, height_l0=1120, mpp=0.5)
    grid = make_grid(info, GridSettings(), tissue=None)
    covered = np.zeros((1120, 2240), dtype=int)
    for x, y in grid.coords:
        covered[y : y + 224, x : x + 224] += 1
    assert (covered == 1).all()


@given(
    mpp=st.floats(0.1, 0.5), target=st.floats(0.6, 3.0), finer=st.floats(0.5, 1.0, exclude_max=True)
)
def test_a_finer_target_never_picks_a_coarser_level(
    mpp: float, target: float, finer: float
) -> None:
    info = SlideInfo(width_l0=9999, height_l0=9999, mpp=mpp, downsamples=(1.0, 2.0, 4.0, 8.0))
    level = plan_reading(info, GridSettings(target_mpp=target)).level
    target_finer = max(target * finer, mpp)
    assert plan_reading(info, GridSettings(target_mpp=target_finer)).level <= level


@given(factor=st.sampled_from([0.5, 2.0, 4.0]), target=st.floats(0.6, 2.4))
def test_scaling_slide_and_wish_together_changes_nothing(factor: float, target: float) -> None:
    plans = [
        plan_reading(
            SlideInfo(width_l0=4000, height_l0=3000, mpp=0.25 * f, downsamples=(1.0, 4.0)),
            GridSettings(target_mpp=target * f),
        )
        for f in (1.0, factor)
    ]
    assert plans[0].level == plans[1].level
    assert plans[0].scale == pytest.approx(plans[1].scale)


def test_a_level_within_two_percent_is_read_as_it_is() -> None:
    plan = plan_reading(SlideInfo(width_l0=2220, height_l0=2967, mpp=0.499), GridSettings())
    assert (plan.scale, plan.mpp, plan.read_px) == (1.0, 0.499, 224)
    plan = plan_reading(SlideInfo(width_l0=2220, height_l0=2967, mpp=0.48), GridSettings())
    assert plan.scale == pytest.approx(0.5 / 0.48)
    assert plan.mpp == 0.5


def test_a_slide_coarser_than_the_target_is_refused_with_the_way_out() -> None:
    info = SlideInfo(width_l0=2000, height_l0=2000, mpp=1.0)
    with pytest.raises(SlideError, match=r"1 µm/px, is coarser than the target 0\.5"):
        plan_reading(info, GridSettings())
    plan = plan_reading(info, GridSettings(allow_upsampling=True))
    assert (plan.level, plan.scale, plan.mpp) == (0, 0.5, 0.5)


@given(seed=st.integers(0, 2**32 - 1), side=st.floats(3.0, 40.0))
def test_tissue_fraction_equals_counting_subpixels(seed: int, side: float) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((20, 30)) < 0.4
    tissue = TissueMask(mask=mask, width_l0=300, height_l0=200)
    coords = rng.integers(0, 150, size=(5, 2)).astype(np.int64)
    fast = tissue_fractions(tissue, coords, side_l0=side)
    for (x, y), fraction in zip(coords, fast, strict=True):
        weights_x = _overlap(x, x + side, cells=30)
        weights_y = _overlap(y, y + side, cells=20)
        slow = weights_y @ mask @ weights_x / (side / 10) ** 2
        assert fraction == pytest.approx(slow, abs=1e-9)


def _overlap(
    start: float, end: float, *, cells: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Length of [start, end] / 10 inside each unit cell."""
    edges = np.arange(cells)
    overlap = np.clip(np.minimum(end / 10, edges + 1) - np.maximum(start / 10, edges), 0, None)
    return np.asarray(overlap, dtype=np.float64)


@given(low=st.floats(0, 1), high=st.floats(0, 1))
def test_more_min_tissue_never_adds_a_tile(low: float, high: float) -> None:
    low, high = sorted((low, high))
    mask = np.zeros((40, 40), dtype=bool)
    mask[5:30, 8:31] = True
    tissue = TissueMask(mask=mask, width_l0=4000, height_l0=4000)
    info = SlideInfo(width_l0=4000, height_l0=4000, mpp=0.5)
    many = make_grid(info, GridSettings(min_tissue=low), tissue=tissue)
    few = make_grid(info, GridSettings(min_tissue=high), tissue=tissue)
    assert set(map(tuple, few.coords.tolist())) <= set(map(tuple, many.coords.tolist()))


def test_no_tissue_says_the_best_fraction() -> None:
    mask = np.zeros((100, 100), dtype=bool)
    mask[:2] = True  # 44.8 of the first tile row's 224 px
    with pytest.raises(
        SlideError, match=r"no tissue found: .*≥ 50% tissue \(best: 20%\)"
    ) as caught:
        make_grid(
            SlideInfo(width_l0=2240, height_l0=2240, mpp=0.5),
            GridSettings(),
            tissue=TissueMask(mask=mask, width_l0=2240, height_l0=2240),
        )
    assert caught.value.stage == "tissue"


def test_a_slide_smaller_than_a_tile_is_named_so() -> None:
    with pytest.raises(SlideError, match=r"16 × 16 px .* smaller than one tile \(224 px\)"):
        make_grid(SlideInfo(width_l0=16, height_l0=16, mpp=0.5), GridSettings(), tissue=None)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"tile_px": 0}, "tile size"),
        ({"target_mpp": 0.0}, "target mpp"),
        ({"overlap_px": 224}, "overlap"),
        ({"min_tissue": 1.5}, "min tissue"),
    ],
)
def test_settings_check_themselves(wrong: dict[str, float], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        GridSettings(**wrong)  # type: ignore[arg-type]
