"""Pooling against the obvious float64 formula, bounded memory, and vectors of length one."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gigassl.errors import SettingsError, SlideError
from gigassl.vectors.pooling import POOLINGS, l2_normalised, pool

FEATURES = hnp.arrays(
    np.float16,
    st.tuples(st.integers(1, 30), st.integers(1, 6)),
    elements=st.floats(-1000, 1000, width=16),
)


def obvious(features: Any, method: str) -> Any:
    wide = features.astype(np.float64)
    parts = {
        "mean": [wide.mean(axis=0)],
        "max": [wide.max(axis=0)],
        "mean+std": [wide.mean(axis=0), wide.std(axis=0, ddof=0)],
    }
    return np.concatenate(parts[method])


@pytest.mark.parametrize("method", sorted(POOLINGS))
@given(features=FEATURES)
def test_agrees_with_the_formula(method: str, features: Any) -> None:
    np.testing.assert_allclose(
        pool(features, method=method), obvious(features, method), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("method", sorted(POOLINGS))
@pytest.mark.parametrize("n_tiles", [1023, 1024, 1025, 5000])
def test_chunks_do_not_show(method: str, n_tiles: int) -> None:
    rng = np.random.default_rng(n_tiles)
    features = (300 + rng.standard_normal((n_tiles, 3))).astype(np.float16)
    np.testing.assert_allclose(pool(features, method=method), obvious(features, method), rtol=1e-6)


@given(features=FEATURES)
def test_one_tile_and_equal_tiles_do_not_spread(features: Any) -> None:
    equal = np.repeat(features[:1], 5, axis=0)
    dim = features.shape[1]
    assert (pool(equal, method="mean+std")[dim:] < 1e-5 * (1 + abs(features[0]))).all()
    assert (pool(features[:1], method="mean+std")[dim:] == 0).all()
    assert (pool(features[:1], method="mean") == features[0]).all()


@pytest.mark.parametrize("method", sorted(POOLINGS))
def test_memory_stays_far_below_a_wide_copy(method: str) -> None:
    features = np.ones((200_000, 64), np.float16)
    tracemalloc.start()
    pool(features, method=method)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.1 * features.nbytes * 4


def test_unknown_method_and_empty_bag_are_said() -> None:
    with pytest.raises(SettingsError, match="'maen'; did you mean 'mean'"):
        pool(np.ones((2, 2), np.float32), method="maen")
    with pytest.raises(SlideError, match="empty"):
        pool(np.ones((0, 2), np.float32), method="max")


@given(
    vector=hnp.arrays(
        np.float32, st.integers(1, 50), elements=st.floats(-(2.0**20), 2.0**20, width=32)
    )
)
def test_normalised_vectors_have_length_one_and_the_same_direction(vector: Any) -> None:
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if length == 0:
        with pytest.raises(SlideError, match="length 0"):
            l2_normalised(vector)
        return
    unit = l2_normalised(vector)
    assert np.linalg.norm(unit.astype(np.float64)) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(unit * length, vector, rtol=1e-5, atol=1e-6 * length)


def test_a_vector_that_is_not_finite_is_refused() -> None:
    with pytest.raises(SlideError, match="length nan"):
        l2_normalised(np.array([1.0, np.nan], np.float32))
