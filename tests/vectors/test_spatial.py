"""Spatial slide encoders: against slow loops, over all permutations, blind to order and place."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gigassl.errors import SettingsError
from gigassl.vectors.lags import LagCovariances
from gigassl.vectors.neighbours import on_grid, pairs_at
from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.spatial import SpatialEncoder
from gigassl.vectors.whitening import Whitening

CELL = 112.0
DIM = 6


def bag_of(seed: int, *, n_tiles: int, side: int = 7) -> PackedTiles:
    rng = np.random.default_rng(seed)
    places = rng.choice(side * side, size=n_tiles, replace=False)
    xy = np.stack([places % side, places // side], axis=1) * CELL
    return packed([(rng.standard_normal((n_tiles, DIM)), xy)])


def packed(bags: list[tuple[np.ndarray, np.ndarray]]) -> PackedTiles:
    return PackedTiles(
        features=torch.tensor(np.concatenate([b[0] for b in bags]), dtype=torch.float32),
        coords=torch.tensor(np.concatenate([b[1] for b in bags]), dtype=torch.float32),
        bag=torch.repeat_interleave(torch.tensor([len(b[0]) for b in bags])),
        n_bags=len(bags),
    )


def together(bags: list[PackedTiles]) -> PackedTiles:
    return PackedTiles(
        features=torch.cat([b.features for b in bags]),
        coords=torch.cat([b.coords for b in bags]),
        bag=torch.repeat_interleave(torch.tensor([len(b) for b in bags])),
        n_bags=len(bags),
    )


def prepared(name: str, **options: object) -> nn.Module:
    network = new_network(name, dim=DIM, cell=CELL, seed=0, options=options)
    sample = torch.randn(200, DIM, generator=torch.Generator().manual_seed(1))
    network.prepare(sample * torch.arange(1, DIM + 1))  # type: ignore[operator]
    return network.eval()


def slow_pairs(xy: np.ndarray, *, lag: int) -> list[tuple[int, int]]:
    """Ordered pairs whose difference is lag times one of the eight directions."""
    found = []
    for i, a in enumerate(xy):
        for j, b in enumerate(xy):
            dx, dy = abs(b - a)
            if max(dx, dy) == lag and {dx, dy} <= {0, lag}:
                found.append((i, j))
    return found


@given(seed=st.integers(0, 10**6), n_tiles=st.integers(1, 30), lag=st.integers(1, 4))
def test_pairs_are_those_of_a_slow_search(seed: int, n_tiles: int, lag: int) -> None:
    bags = [bag_of(seed, n_tiles=n_tiles), bag_of(seed + 1, n_tiles=max(1, n_tiles // 2))]
    _, cells = on_grid(together(bags), cell=CELL)
    one, other = pairs_at(cells, lag=lag)
    ours = [*zip(one.tolist(), other.tolist(), strict=True)]
    ours += [(b, a) for a, b in ours]
    expected = []
    for bag in range(2):
        rows = np.flatnonzero(cells.bag.numpy() == bag)
        pairs = slow_pairs(cells.xy.numpy()[rows], lag=lag)
        expected += [(int(rows[a]), int(rows[b])) for a, b in pairs]
    assert sorted(ours) == sorted(expected)


@given(seed=st.integers(0, 10**6), n_tiles=st.integers(2, 30))
def test_lag_covariances_are_those_of_a_slow_loop(seed: int, n_tiles: int) -> None:
    network, tiles = prepared("lags", components=3), bag_of(seed, n_tiles=n_tiles)
    white = network.whitening(tiles.features).double().numpy()  # type: ignore[operator]
    values = (white - white.mean(axis=0)) / np.sqrt(white.var(axis=0) + 1e-6)
    expected = []
    for lag in (1, 2, 3):
        pairs = slow_pairs(np.rint(tiles.coords.numpy() / CELL).astype(int), lag=lag)
        outer = [np.outer(values[i], values[j]) for i, j in pairs] or [np.zeros((3, 3))]
        expected.append(np.mean(outer, axis=0)[np.triu_indices(3)])
    np.testing.assert_allclose(network(tiles)[0].numpy(), np.concatenate(expected), atol=2e-4)


def test_arrangement_is_zero_on_average_over_all_permutations() -> None:
    network = prepared("spatial", features=4, lags=(1, 2))
    xy = np.array([[0, 0], [1, 0], [2, 0], [0, 1], [2, 2]]) * CELL
    features = np.random.default_rng(0).standard_normal((5, DIM))
    every = packed([(features[list(order)], xy) for order in permutations(range(5))])
    with torch.no_grad():
        vectors = network.learned(every)  # type: ignore[operator]
    assert vectors.abs().max() > 0.1
    torch.testing.assert_close(
        vectors.mean(dim=0), torch.zeros(vectors.shape[1]), atol=1e-5, rtol=0
    )


Change = Callable[[PackedTiles, np.random.Generator], PackedTiles]


def reordered(tiles: PackedTiles, rng: np.random.Generator) -> PackedTiles:
    order = torch.from_numpy(rng.permutation(len(tiles)))
    return PackedTiles(features=tiles.features[order], coords=tiles.coords[order], bag=tiles.bag,
                       n_bags=1)  # fmt: skip


def moved(tiles: PackedTiles, rng: np.random.Generator) -> PackedTiles:
    shift = torch.from_numpy(rng.integers(-50_000, 50_000, 2))
    return PackedTiles(features=tiles.features, coords=tiles.coords + shift, bag=tiles.bag,
                       n_bags=1)  # fmt: skip


def turned(tiles: PackedTiles, rng: np.random.Generator) -> PackedTiles:
    coords = tiles.coords.flip(1) * torch.tensor([1.0, -1.0]) * float(rng.choice([-1, 1]))
    return PackedTiles(features=tiles.features, coords=coords, bag=tiles.bag, n_bags=1)


@pytest.mark.parametrize("change", [reordered, moved, turned])
@pytest.mark.parametrize("name", ["lags", "spatial"])
@given(seed=st.integers(0, 10**6), n_tiles=st.integers(1, 40))
@settings(max_examples=20)
def test_order_place_and_turns_do_not_show(
    name: str, change: Change, seed: int, n_tiles: int
) -> None:
    network, tiles = prepared(name), bag_of(seed, n_tiles=n_tiles)
    with torch.no_grad():
        ours = network(change(tiles, np.random.default_rng(seed)))
        torch.testing.assert_close(ours, network(tiles), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["lags", "spatial"])
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5))
@settings(max_examples=20)
def test_other_bags_do_not_show(name: str, seed: int, sizes: list[int]) -> None:
    network = prepared(name)
    bags = [bag_of(seed + k, n_tiles=size) for k, size in enumerate(sizes)]
    with torch.no_grad():
        alone = torch.cat([network(bag) for bag in bags])
        torch.testing.assert_close(network(together(bags)), alone, atol=2e-4, rtol=1e-3)


def test_shuffled_features_change_the_arrangement_and_not_the_composition() -> None:
    network, tiles = prepared("spatial"), bag_of(3, n_tiles=30)
    assert isinstance(network, SpatialEncoder)
    order = torch.from_numpy(np.random.default_rng(0).permutation(30))
    shuffled = PackedTiles(features=tiles.features[order], coords=tiles.coords, bag=tiles.bag,
                           n_bags=1)  # fmt: skip
    with torch.no_grad():
        assert (network.learned(shuffled) - network.learned(tiles)).abs().max() > 0.05
        torch.testing.assert_close(network.composition(shuffled), network.composition(tiles))


@pytest.mark.parametrize("n_tiles", [1, 2])
def test_hardly_any_tiles_are_no_trouble(n_tiles: int) -> None:
    tiles = bag_of(0, n_tiles=n_tiles)
    far = PackedTiles(features=tiles.features, coords=tiles.coords * 50, bag=tiles.bag, n_bags=1)
    for name in ("lags", "spatial"):
        vector = prepared(name)(far)
        assert torch.isfinite(vector).all()
    spatial = prepared("spatial")
    assert (spatial.learned(far) == 0).all()  # type: ignore[operator]
    (spatial(far).sum()).backward()


def test_widths_are_said_and_lags_count() -> None:
    tiles = bag_of(0, n_tiles=20)
    for network in (
        LagCovariances(dim=DIM, cell=CELL, components=4, lags=(1, 5)),
        SpatialEncoder(dim=DIM, cell=CELL, components=4, features=3, lags=(2,)),
    ):
        assert network(tiles).shape == (1, network.width)


def test_whitening_gives_uncorrelated_columns_of_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(500, DIM, generator=generator) @ torch.randn(DIM, DIM, generator=generator)
    mixed[:, 0] = mixed[:, 1]  # one direction without variance
    whitening = Whitening(dim=DIM, kept=DIM)
    whitening.prepare(mixed + 100.0)
    found: Tensor = torch.cov(whitening(mixed + 100.0).T)
    expected = torch.eye(DIM)
    expected[-1, -1] = 0.0
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    with pytest.raises(SettingsError, match="at least 2 tiles"):
        whitening.prepare(mixed[:1])
