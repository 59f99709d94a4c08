"""Groups: disjoint, complete, seeded by slide, and contiguous where they should be."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gigassl.vectors.groups import dense_groups, generator_of, in_order, scattered_groups
from tests.vectors.stores import TILE_PX, grid_bag


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(n_tiles=st.integers(1, 60), size=st.integers(1, 12), most=st.integers(1, 8))
def test_scattered_groups_are_disjoint_and_full(n_tiles: int, size: int, most: int) -> None:
    groups = scattered_groups(n_tiles, size=size, most=most, generator=rng())
    tiles = np.concatenate(groups).tolist()
    assert len(tiles) == len(set(tiles)) == min(n_tiles, size * most)
    assert set(tiles) <= set(range(n_tiles))
    assert [len(group) for group in groups[:-1]] == [size] * (len(groups) - 1)
    assert 1 <= len(groups[-1]) <= size


@given(cols=st.integers(1, 12), rows=st.integers(1, 12), size=st.integers(1, 40))
def test_dense_groups_hold_every_tile_once_and_are_alike(cols: int, rows: int, size: int) -> None:
    coords = grid_bag(cols=cols, rows=rows).coords
    groups = dense_groups(coords, size=size, most=1000, generator=rng())
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(coords)))
    lengths = [len(group) for group in groups]
    assert max(lengths) - min(lengths) <= max(1, size // 2)
    if len(coords) >= size:
        assert size / 1.5 - 1 <= min(lengths) <= max(lengths) <= 1.5 * size + 1


def connected(place: Any) -> bool:
    """Whether one walks from any tile to any other over neighbouring tiles (also diagonal)."""
    todo, left = [tuple(place[0])], {tuple(p) for p in place[1:]}
    while todo:
        x, y = todo.pop()
        near = {p for p in left if max(abs(p[0] - x), abs(p[1] - y)) <= 1}
        left -= near
        todo += near
    return not left


@given(
    cols=st.integers(1, 14),
    rows=st.integers(1, 14),
    size=st.integers(1, 40).filter(lambda size: size != 2),  # some pairs lie apart
)
def test_dense_groups_of_a_full_grid_are_contiguous(cols: int, rows: int, size: int) -> None:
    coords = grid_bag(cols=cols, rows=rows).coords
    for group in dense_groups(coords, size=size, most=1000, generator=rng()):
        assert connected((coords[group] // TILE_PX).tolist())


def test_a_square_becomes_four_squares() -> None:
    coords = grid_bag(cols=8, rows=8).coords // TILE_PX
    groups = dense_groups(coords, size=16, most=10, generator=rng())
    corners = sorted(tuple(coords[group].min(axis=0).tolist()) for group in groups)
    assert corners == [(0, 0), (0, 4), (4, 0), (4, 4)]
    assert all((np.ptp(coords[group], axis=0) == 3).all() for group in groups)


def test_of_too_many_windows_some_are_drawn() -> None:
    coords = grid_bag(cols=12, rows=12).coords
    every = dense_groups(coords, size=4, most=100, generator=rng())
    known = {tuple(sorted(group.tolist())) for group in every}
    some = dense_groups(coords, size=4, most=5, generator=rng(1))
    others = dense_groups(coords, size=4, most=5, generator=rng(2))
    drawn, drawn_else = ({tuple(sorted(g.tolist())) for g in found} for found in (some, others))
    assert len(drawn) == len(drawn_else) == 5
    assert drawn <= known
    assert drawn != drawn_else


def test_each_slide_has_random_numbers_of_its_own() -> None:
    drawn = {
        (seed, name): generator_of(seed, name).integers(2**62)
        for seed in (0, 1, 10)
        for name in ("a", "b", "0|a")
    }
    assert len(set(drawn.values())) == 9
    assert generator_of(0, "a").integers(2**62) == drawn[0, "a"]


@given(seed=st.integers(0, 99), twice=st.booleans())
def test_the_order_does_not_depend_on_the_file(seed: int, twice: bool) -> None:
    bag = grid_bag(cols=4, rows=3, seed=seed)
    features = np.concatenate([bag.features, -bag.features[:5]]) if twice else bag.features
    coords = np.concatenate([bag.coords, bag.coords[:5]]) if twice else bag.coords
    shuffled = rng(seed).permutation(len(coords))
    order = in_order(coords, features)
    other = shuffled[in_order(coords[shuffled], features[shuffled])]
    assert features[order].tobytes() == features[other].tobytes()
    assert coords[order].tobytes() == coords[other].tobytes()
    assert sorted(order.tolist()) == list(range(len(coords)))
