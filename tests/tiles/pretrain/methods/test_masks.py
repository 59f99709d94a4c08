"""Masks of patches: how many, of which views, the same however many processes share a batch."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gigassl.tiles.pretrain.methods.masks import MaskSettings, draw_masks


def masks(
    n_tiles: int, *, part: tuple[int, int] = (0, 1), seed: int = 0, side: int = 14,
    views: float = 0.5, least: float = 0.1, most: float = 0.5,
) -> Tensor:  # fmt: skip
    return draw_masks(
        n_tiles, settings=MaskSettings(views=views, least=least, most=most, side=side), part=part,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


@given(
    n_tiles=st.integers(1, 20), seed=st.integers(0, 99), side=st.integers(4, 18),
    views=st.floats(0, 1), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)  # fmt: skip
def test_as_many_are_hidden_as_the_settings_say(
    n_tiles: int, seed: int, side: int, views: float, shares: tuple[float, float]
) -> None:
    least, most = sorted(shares)
    found = masks(n_tiles, seed=seed, side=side, views=views, least=least, most=most)
    hidden = found.flatten(1).sum(dim=1)
    assert found.shape == (2 * n_tiles, side, side)
    assert int((hidden > 0).sum()) <= int(2 * n_tiles * views)
    # blocks do not always fit to the last patch, but never hide more; fewer than 4 are not asked
    assert int(hidden.max()) <= max(4, int(most * side * side))


@given(seed=st.integers(0, 99), world=st.integers(1, 4))
def test_processes_see_their_parts_of_the_same_masks(seed: int, world: int) -> None:
    n_tiles = 2 * world
    first, second = masks(n_tiles, seed=seed).chunk(2)
    for rank in range(world):
        mine = masks(n_tiles, part=(rank, world), seed=seed)
        assert torch.equal(mine, torch.cat([first[rank::world], second[rank::world]]))


def test_shares_are_spread_over_their_range() -> None:
    hidden = masks(200).flatten(1).sum(dim=1).float() / 14**2
    some = hidden[hidden > 0]
    assert len(some) == 200
    assert float(some.mean()) == pytest.approx(0.3, abs=0.02)
    assert float(some.min()) < 0.12
    assert float(some.max()) > 0.47


def test_hidden_patches_lie_in_blocks() -> None:
    found = masks(50, views=1.0).float()
    beside = (found[:, :, 1:] * found[:, :, :-1]).sum() / found[:, :, :-1].sum()
    assert float(beside) > 0.6  # of patches hidden one by one, 0.3


def test_pythons_own_generator_is_left_alone() -> None:
    before = random.getstate()
    first, second = masks(20), masks(20)
    assert random.getstate() == before
    assert torch.equal(first, second)
    assert not torch.equal(first, masks(20, seed=1))
