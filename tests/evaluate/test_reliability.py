"""Reliability: its bins are those of the calibration error, whatever the ties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.evaluate.metrics import calibration_error
from gigassl.evaluate.reliability import reliability


@given(n=st.integers(1, 60), grain=st.sampled_from([2, 5, 1000]), seed=st.integers(0, 1000))
def test_gaps_of_the_bins_are_the_calibration_error(n: int, grain: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.integers(0, grain + 1, n) / grain
    positive = rng.random(n) < 0.4
    found = reliability(positive, probability)
    both = np.stack([1 - probability, probability], axis=1)
    assert found.error == pytest.approx(calibration_error(positive.astype(np.int64), both))
    assert found.n.sum() == n
    assert (found.n * found.share).sum() == pytest.approx(positive.sum())
    assert (found.low <= found.share + 1e-9).all()
    assert (found.share <= found.high + 1e-9).all()


def test_a_bin_holds_its_rows() -> None:
    probability = np.repeat([0.1, 0.9], 50)
    positive = np.r_[np.arange(50) < 10, np.arange(50) < 40]
    found = reliability(positive, probability)
    assert found.said.tolist() == pytest.approx([0.1, 0.9])
    assert found.share.tolist() == pytest.approx([0.2, 0.8])
    # Wilson's interval of 10 of 50, as tables have it (Brown, Cai & DasGupta 2001)
    assert [found.low[0], found.high[0]] == pytest.approx([0.1124, 0.3304], abs=1e-4)
