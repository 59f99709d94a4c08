"""DeLong against a slow version by placements and against MLstatkit; its edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from MLstatkit import Delong_test

from gigassl.evaluate.delong import delong, delong_interval, delong_test


def slow_delong(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUCs and covariance from every pair of a case and a control (DeLong et al. 1988)."""
    cases, controls = scores[positive], scores[~positive]
    wins = (cases[:, None] > controls) + 0.5 * (cases[:, None] == controls)
    of_cases, of_controls = wins.mean(axis=1), wins.mean(axis=0)
    covariance = np.cov(of_cases.T) / len(cases) + np.cov(of_controls.T) / len(controls)
    return wins.mean(axis=(0, 1)), np.atleast_2d(covariance)


def two_scores(seed: int, *, n: int = 50, digits: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = np.r_[True, True, False, False, rng.random(n - 4) < 0.4]
    common = rng.standard_normal((n, 1))
    scores = positive[:, None] * [1.0, 0.6] + common + rng.standard_normal((n, 2))
    return positive, np.round(scores, digits)


@given(seed=st.integers(0, 10_000), n=st.integers(6, 60), digits=st.integers(0, 8))
@settings(deadline=None, max_examples=60)
def test_delong_equals_the_slow_version(seed: int, n: int, digits: int) -> None:
    positive, scores = two_scores(seed, n=n, digits=digits)
    found, (auc, covariance) = delong(positive, scores), slow_delong(positive, scores)
    np.testing.assert_allclose(found.auc, auc, atol=1e-12)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_test_agrees_with_mlstatkit(seed: int) -> None:
    positive, scores = two_scores(seed)
    ours = delong_test(positive, scores)
    _, p = Delong_test(positive.astype(int), scores[:, 0], scores[:, 1])[:2]
    assert ours.p == pytest.approx(float(p), rel=1e-9)
    assert ours.low < ours.difference < ours.high
    assert (ours.p < 0.05) == (not ours.low <= 0 <= ours.high)


def test_scores_that_rank_alike_do_not_differ() -> None:
    positive, scores = two_scores(1)
    same = delong_test(positive, np.c_[scores[:, 0], np.exp(scores[:, 0])])
    assert (same.difference, same.p) == (0, 1)


def test_what_cannot_be_told_is_not_a_number() -> None:
    scores = np.arange(8.0).reshape(4, 2)
    assert np.isnan(delong(np.ones(4, dtype=bool), scores).auc).all()
    assert np.isnan(delong_test(np.array([True, False, False, False]), scores).p)
    perfect = delong(np.array([False, False, True, True]), np.arange(4.0)[:, None])
    assert perfect.auc[0] == 1
    assert np.isnan(delong_interval(perfect)).all()
    low, high = delong_interval(delong(*two_scores(3)))
    assert 0 < low < high < 1
