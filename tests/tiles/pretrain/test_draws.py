import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gigassl.tiles.pretrain.draws import inside, neighbours, seats, spread_within

WEIGHTS = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=40)


@given(weights=WEIGHTS, size=st.integers(1, 60), most=st.integers(1, 60), seed=st.integers(0, 99))
def test_each_file_has_its_share_of_the_places_but_for_one_mark(
    weights: list[float], size: int, most: int, seed: int
) -> None:
    given_weights = np.array(weights)
    drawn = seats(given_weights, size=size, most=most, rng=np.random.default_rng(seed))
    assert drawn.shape == (size,)
    marks = min(most, size)
    assert len(set(drawn.tolist())) <= marks
    # the first of the places that each mark has: the marks themselves
    each = np.bincount(drawn[:marks], minlength=len(weights))
    due = marks * given_weights / given_weights.sum()
    assert (each >= np.floor(due - 1e-9)).all()
    assert (each <= np.ceil(due + 1e-9)).all()
    np.testing.assert_array_equal(drawn, drawn[np.arange(size) % marks])


def test_the_expected_share_is_the_weights_share_at_every_place() -> None:
    weights = np.array([1.0, 2.0, 4.0, 8.0, 30.0])
    rng = np.random.default_rng(0)
    # 7 marks of 12 places: some have two, and the largest file has more than one mark
    drawn = np.stack([seats(weights, size=12, most=7, rng=rng) for _ in range(4000)])
    due = weights / weights.sum()
    for place in range(12):
        share = np.bincount(drawn[:, place], minlength=5) / len(drawn)
        assert np.abs(share - due).max() < 5 * np.sqrt(0.25 / len(drawn))


def test_processes_that_share_a_batch_open_different_files() -> None:
    drawn = seats(np.ones(1000), size=256, most=64, rng=np.random.default_rng(3))
    mine, yours = set(drawn[0::2].tolist()), set(drawn[1::2].tolist())
    assert len(mine) == len(yours) == 32
    assert not mine & yours


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=6), seed=st.integers(0, 99),
    groups=st.lists(st.integers(0, 5), max_size=50),
)  # fmt: skip
def test_positions_of_a_group_lie_apart(counts: list[int], seed: int, groups: list[int]) -> None:
    count = np.array(counts)
    group = np.array(groups, np.int64) % len(counts)
    position = spread_within(group, count, rng=np.random.default_rng(seed))
    assert ((position >= 0) & (position < count[group])).all()
    for number in set(group.tolist()):
        drawn = np.bincount(position[group == number], minlength=count[number])
        m = int((group == number).sum())
        # two neighbouring stretches may both end in one position
        assert drawn.max() <= np.ceil(m / count[number]) + 1
        if m % count[number] == 0:
            assert drawn.tolist() == [m // count[number]] * count[number]


def test_every_position_is_equally_likely_wherever_it_stands_in_the_batch() -> None:
    group = np.array([0, 1, 0, 0, 1, 0])
    count = np.array([7, 3])
    rng = np.random.default_rng(1)
    drawn = np.stack([spread_within(group, count, rng=rng) for _ in range(4000)])
    for place, number in enumerate(group):
        share = np.bincount(drawn[:, place], minlength=count[number]) / len(drawn)
        assert np.abs(share - 1 / count[number]).max() < 5 * np.sqrt(0.25 / len(drawn))


@given(
    x=st.floats(-500, 1500), y=st.floats(-500, 1500), side=st.floats(1, 300),
    width=st.integers(300, 1000), height=st.integers(300, 1000),
)  # fmt: skip
def test_squares_are_moved_inside_and_no_further(
    x: float, y: float, side: float, width: int, height: int
) -> None:
    corner = np.array([[x, y]])
    kept = inside(corner, side=np.array([side]), size=np.array([[width, height]]))[0]
    for position, wanted, length in zip(kept, (x, y), (width, height), strict=True):
        assert position >= 0
        assert position + side <= length
        if wanted >= 0 and wanted + side <= length - 1:
            assert abs(position - wanted) <= 0.5


@given(seed=st.integers(0, 999), side=st.floats(20, 90))
@settings(max_examples=60)
def test_neighbours_lie_one_side_away_on_what_is_allowed_or_half_a_side(
    seed: int, side: float
) -> None:
    rng = np.random.default_rng(seed)
    size = np.tile(np.array([[200, 150]]), (30, 1))
    sides = np.full(30, side)
    corner = inside(rng.uniform(0, 200, (30, 2)), side=sides, size=size)

    def allowed(centre: np.ndarray) -> np.ndarray:
        return np.asarray(centre[:, 0] < 120)

    found = neighbours(corner, side=sides, size=size, allowed=allowed, rng=rng)
    for at, beside in zip(corner, found, strict=True):
        assert ((beside >= 0) & (beside + side <= [200, 150])).all()
        options = {
            (int(np.rint(at[0] + right * side)), int(np.rint(at[1] + down * side)))
            for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1))
        }
        good = {
            (x, y) for x, y in options
            if 0 <= x <= 200 - side and 0 <= y <= 150 - side and x + side / 2 < 120
        }  # fmt: skip
        if good:
            assert tuple(beside.tolist()) in good
        else:
            moved = np.abs(beside - at)
            assert moved.min() == 0
            assert moved.max() <= side / 2 + 1


def test_a_square_that_fills_its_image_is_its_own_neighbour() -> None:
    corner, size = np.zeros((1, 2), np.int64), np.array([[50, 50]])
    found = neighbours(
        corner, side=np.array([50.0]), size=size, allowed=lambda c: np.ones(len(c), bool),
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert found.tolist() == [[0, 0]]


def test_all_directions_are_drawn_alike() -> None:
    n = 8000
    corner = np.full((n, 2), 500, np.int64)
    found = neighbours(
        corner, side=np.full(n, 100.0), size=np.full((n, 2), 1200),
        allowed=lambda c: np.ones(len(c), bool), rng=np.random.default_rng(0),
    )  # fmt: skip
    ways, counts = np.unique(found - corner, axis=0, return_counts=True)
    assert sorted(map(tuple, ways.tolist())) == [(-100, 0), (0, -100), (0, 100), (100, 0)]
    assert np.abs(counts / n - 0.25).max() < 0.03
