from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gigassl.tiles.pretrain.index import TileIndex, joined
from gigassl.tiles.pretrain.sampling import DrawnTiles, draw_tiles, on_a_tile
from gigassl.tiles.pretrain.settings import SamplingSettings
from tests.tiles.pretrain.index_of import one_slide, slides_of

STILL = SamplingSettings(jitter_px=0.0, jitter_mpp=0.0)


@st.composite
def indices(draw: st.DrawFn) -> TileIndex:
    """Slides of any tissue, resolution and overlap."""
    slides = []
    for number in range(draw(st.integers(1, 5))):
        rows, columns = draw(st.integers(1, 7)), draw(st.integers(1, 7))
        seed = draw(st.integers(0, 999))
        kept = np.random.default_rng(seed).random((rows, columns)) < 0.6
        kept[seed % rows, seed % columns] = True
        side = draw(st.floats(40.0, 250.0))
        slides.append(
            replace(
                one_slide(
                    f"s{number}", kept=kept, side_l0=side, mpp_l0=50.0 / side,
                    step_l0=side * draw(st.sampled_from([1.0, 0.75])), spare=(seed % 50, seed % 30),
                ),
                target_mpp=0.5,
            )
        )  # fmt: skip
    return joined(slides)


SAMPLING = st.builds(
    SamplingSettings,
    slide_weight=st.floats(0, 1), slides_per_batch=st.integers(1, 20), jitter_px=st.floats(0, 1),
    jitter_mpp=st.floats(0, 0.5), second_mpp=st.sampled_from([None, 0.25, 2.0]),
    neighbours=st.booleans(),
)  # fmt: skip


def sides_of(index: TileIndex, drawn: DrawnTiles) -> np.ndarray:
    return np.asarray(drawn.mpp * index.side_l0[drawn.slide] / index.target_mpp)


@given(index=indices(), sampling=SAMPLING, seed=st.integers(0, 9), size=st.integers(1, 40))
@settings(max_examples=60)
def test_squares_and_their_neighbours_lie_inside_their_slides(
    index: TileIndex, sampling: SamplingSettings, seed: int, size: int
) -> None:
    drawn = draw_tiles(index, sampling, seed=seed, step=3, size=size)
    side = sides_of(index, drawn)[:, None]
    for corner in (drawn.corner, drawn.partner):
        if corner is not None:
            assert (corner >= 0).all()
            assert (corner + side <= index.size_l0[drawn.slide] + 1e-6).all()
    assert (drawn.partner is not None) == sampling.neighbours


@given(index=indices(), sampling=SAMPLING, seed=st.integers(0, 9))
def test_a_draw_depends_on_seed_step_and_attempt_alone(
    index: TileIndex, sampling: SamplingSettings, seed: int
) -> None:
    one = draw_tiles(index, sampling, seed=seed, step=5, size=24)
    draw_tiles(index, sampling, seed=seed, step=6, size=24)
    again = draw_tiles(index, sampling, seed=seed, step=5, size=24)
    np.testing.assert_array_equal(one.corner, again.corner)
    np.testing.assert_array_equal(one.slide, again.slide)
    np.testing.assert_array_equal(one.mpp, again.mpp)
    if one.partner is not None and again.partner is not None:
        np.testing.assert_array_equal(one.partner, again.partner)


def test_other_seeds_steps_and_attempts_give_other_tiles() -> None:
    index, sampling = slides_of(200, 300), SamplingSettings()
    drawn = [
        draw_tiles(index, sampling, seed=seed, step=step, size=64, attempt=attempt)
        for seed, step, attempt in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    assert len({one.corner.tobytes() for one in drawn}) == 4


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_the_parts_of_all_processes_make_the_whole(world: int) -> None:
    index = slides_of(20, 30, 5)
    whole = draw_tiles(index, SamplingSettings(neighbours=True), seed=0, step=0, size=24)
    parts = [whole.part(rank, world=world) for rank in range(world)]
    assert {len(part) for part in parts} == {24 // world}
    for name in ("slide", "corner", "mpp", "partner"):
        merged = np.empty_like(getattr(whole, name))
        for rank, part in enumerate(parts):
            merged[rank::world] = getattr(part, name)
        np.testing.assert_array_equal(merged, getattr(whole, name))


def test_a_batch_that_does_not_divide_gives_every_process_as_many() -> None:
    whole = draw_tiles(slides_of(50), SamplingSettings(), seed=0, step=0, size=10)
    assert [len(whole.part(rank, world=4)) for rank in range(4)] == [2, 2, 2, 2]


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_large_slides_are_drawn_as_their_weight_says(weight: float) -> None:
    counts = np.array([4, 16, 64, 400])
    sampling = SamplingSettings(slide_weight=weight, slides_per_batch=3)
    index, share = slides_of(*counts), np.zeros(4)
    for step in range(1000):
        drawn = draw_tiles(index, sampling, seed=0, step=step, size=8)
        share += np.bincount(drawn.slide, minlength=4) / 8 / 1000
    due = counts**weight / (counts**weight).sum()
    assert np.abs(share - due).max() < 0.03


def test_without_jitter_the_squares_are_the_tiles_of_the_index() -> None:
    # at 0.499 µm/px, read as it is for 0.5, a tile of the grid has 100 px
    index = replace(one_slide("s", kept=np.ones((5, 5), bool), mpp_l0=0.499), target_mpp=0.5)
    drawn = draw_tiles(index, STILL, seed=0, step=0, size=25)
    assert sorted(map(tuple, drawn.corner.tolist())) == sorted(map(tuple, index.coords.tolist()))
    assert (drawn.mpp == 0.5).all()


def test_jitter_moves_tiles_by_up_to_its_share_and_scales_them_around_their_centre() -> None:
    index = one_slide("s", kept=np.eye(1, 1, dtype=bool), spare=(0, 0))
    index = replace(index, size_l0=np.array([[2000, 2000]]), coords=np.array([[900, 900]]))
    sampling = SamplingSettings(jitter_px=0.3, jitter_mpp=0.2, second_mpp=2.0, second_share=0.25)
    drawn = draw_tiles(index, sampling, seed=0, step=0, size=20_000)
    centre = drawn.corner + sides_of(index, drawn)[:, None] / 2
    moved = (centre - 950) / 100
    assert np.abs(moved).max() <= 0.3 + 0.006
    assert np.abs(moved).max() > 0.29
    assert abs(moved.mean()) < 0.01
    second = drawn.mpp > 1.0
    assert abs(second.mean() - 0.25) < 0.02
    for factor in (drawn.mpp[~second] / 0.5, drawn.mpp[second] / 2.0):
        assert np.exp(-0.2) <= factor.min() < np.exp(-0.19)
        assert np.exp(0.19) < factor.max() <= np.exp(0.2)
        assert abs(np.log(factor).mean()) < 0.01


def test_nothing_is_drawn_larger_than_its_slide() -> None:
    index = one_slide("s", kept=np.ones((2, 2), bool))
    drawn = draw_tiles(index, SamplingSettings(second_mpp=8.0), seed=0, step=0, size=50)
    assert sides_of(index, drawn).max() <= 200 + 1e-9


@given(index=indices(), seed=st.integers(0, 99))
def test_points_on_tiles_of_the_index_are_told_from_others(index: TileIndex, seed: int) -> None:
    rng = np.random.default_rng(seed)
    slide = rng.integers(0, len(index), 60)
    centre = rng.random((60, 2)) * index.size_l0[slide]
    told = on_a_tile(index, slide, centre)
    for number, point, said in zip(slide.tolist(), centre, told, strict=True):
        first, count = index.first[number], index.count[number]
        kept = set(map(tuple, index.coords[first : first + count].tolist()))
        side, step = index.side_l0[number], index.step_l0[number]
        row_col = [round((p - side / 2) / step) for p in point.tolist()]
        assert said == (tuple(round(k * step) for k in row_col) in kept)


def test_neighbours_lie_on_tissue_where_there_is_any_beside() -> None:
    kept = np.zeros((9, 9), bool)
    kept[2:7, 2:7] = True
    index = one_slide("s", kept=kept)
    sampling = SamplingSettings(jitter_px=0.0, jitter_mpp=0.0, neighbours=True)
    drawn = draw_tiles(index, sampling, seed=0, step=0, size=200)
    assert drawn.partner is not None
    steps = np.abs(drawn.partner - drawn.corner)
    assert (steps.max(axis=1) == 100).all()
    assert (steps.min(axis=1) == 0).all()
    assert ((drawn.partner >= 200) & (drawn.partner <= 600)).all()
    alone = draw_tiles(
        one_slide("s", kept=np.eye(3, dtype=bool)), sampling, seed=0, step=0, size=50
    )
    assert alone.partner is not None
    assert (np.abs(alone.partner - alone.corner).sum(axis=1) == 50).all()
