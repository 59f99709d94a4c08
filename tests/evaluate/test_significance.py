"""Tests and adjustments against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, ttest_1samp

from gigassl.evaluate.bootstrap import interval
from gigassl.evaluate.significance import (
    benjamini_hochberg,
    bootstrap_p,
    corrected_resampled_t,
    holm,
)


def test_without_correction_it_is_the_usual_t_test() -> None:
    differences = np.random.default_rng(0).normal(0.1, 0.2, size=10)
    ours, usual = corrected_resampled_t(differences, test_over_train=0), ttest_1samp(differences, 0)
    assert ours.p == pytest.approx(usual.pvalue, rel=1e-12)
    low, high = usual.confidence_interval()
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-12)


def test_the_correction_widens_by_the_published_factor() -> None:
    differences = np.random.default_rng(0).normal(0.1, 0.2, size=10)
    naive = corrected_resampled_t(differences, test_over_train=0)
    ours = corrected_resampled_t(differences, test_over_train=1 / 9)
    factor = np.sqrt((1 / 10 + 1 / 9) / (1 / 10))
    assert (ours.high - ours.low) == pytest.approx(factor * (naive.high - naive.low), rel=1e-12)


def test_folds_without_a_number_are_left_out() -> None:
    differences = np.array([0.1, np.nan, 0.2, 0.05])
    ours = corrected_resampled_t(differences, test_over_train=0.25)
    assert ours == corrected_resampled_t(differences[[0, 2, 3]], test_over_train=0.25)
    assert np.isnan(corrected_resampled_t(differences[:2], test_over_train=0.25).p)
    assert np.isnan(corrected_resampled_t(differences, test_over_train=float("nan")).p)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_its_definition(values: list[float]) -> None:
    found, n = holm(np.array(values)), len(values)
    order = sorted(range(n), key=lambda k: values[k])
    for place, k in enumerate(order):
        steps = [min(1, (n - j) * values[order[j]]) for j in range(place + 1)]
        assert found[k] == pytest.approx(max(steps))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_benjamini_hochberg_equals_scipy(values: list[float]) -> None:
    found = benjamini_hochberg(np.array(values))
    np.testing.assert_allclose(found, false_discovery_control(values), atol=1e-12)


def test_tests_without_a_p_are_no_part_of_the_family() -> None:
    p = np.array([0.01, np.nan, 0.04])
    np.testing.assert_allclose(holm(p), [0.02, np.nan, 0.04])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.02, np.nan, 0.04])


@pytest.mark.parametrize("n_patients", [8, 30, 1000])
@pytest.mark.parametrize("shift", [0.5, 1.5, 1.9, 2.1, 2.6, 4])
def test_p_and_interval_of_a_bootstrap_agree(n_patients: int, shift: float) -> None:
    draws = np.random.default_rng(0).standard_normal(4000) + shift
    for alpha in (0.05, 0.2):
        low, high = interval(draws, n_patients=n_patients, alpha=alpha)
        p = bootstrap_p(draws, n_patients=n_patients)
        if abs(p - alpha) > 0.1 * alpha:
            assert (p < alpha) == (not low <= 0 <= high)


def test_draws_that_never_differ_have_a_p_of_one() -> None:
    assert bootstrap_p(np.zeros(500), n_patients=30) == pytest.approx(1)
    assert np.isnan(bootstrap_p(np.full(500, np.nan), n_patients=30))
