"""The scm slide encoder: what must not change a vector, and its published size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.slide_encoders import new_network
from tests.vectors.packing import COUNTS, SEEDS, only, packed, reordered

DIM, CELL = 6, 10.0


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return new_network("scm", dim=DIM, cell=CELL, seed=0, options={"width": 8}).eval()


def vectors(network: nn.Module, tiles: PackedTiles) -> torch.Tensor:
    with torch.inference_mode():
        out: torch.Tensor = network(tiles)
    return out


def test_has_the_published_size() -> None:
    published = new_network("scm", dim=256, cell=224.0, seed=0)
    assert sum(weight.numel() for weight in published.parameters()) == 8_393_728
    assert published.width == 512


@given(counts=COUNTS, seed=SEEDS)
@settings(max_examples=25)
def test_a_vector_depends_on_no_other_bag(network: nn.Module, counts: list[int], seed: int) -> None:
    tiles = packed(counts, seed=seed, side=30)
    together = vectors(network, tiles)
    for bag in range(tiles.n_bags):
        torch.testing.assert_close(vectors(network, only(tiles, bag))[0], together[bag])


@given(counts=COUNTS, seed=SEEDS, shift=st.tuples(st.integers(-9999, 9999), st.integers(0, 50)))
@settings(max_examples=25)
def test_neither_order_nor_a_shift_changes_a_vector(
    network: nn.Module, counts: list[int], seed: int, shift: tuple[int, int]
) -> None:
    tiles = packed(counts, seed=seed)
    order = torch.randperm(len(tiles), generator=torch.Generator().manual_seed(seed))
    moved = PackedTiles(
        features=tiles.features, coords=tiles.coords + torch.tensor(shift),
        bag=tiles.bag, n_bags=tiles.n_bags,
    )  # fmt: skip
    expected = vectors(network, tiles)
    torch.testing.assert_close(vectors(network, reordered(tiles, order)), expected)
    torch.testing.assert_close(vectors(network, moved), expected)


def test_where_tiles_lie_changes_a_vector(network: nn.Module) -> None:
    tiles = packed([9], seed=1, side=3)
    apart = PackedTiles(features=tiles.features, coords=tiles.coords * 4, bag=tiles.bag, n_bags=1)
    assert not torch.allclose(vectors(network, tiles), vectors(network, apart))
