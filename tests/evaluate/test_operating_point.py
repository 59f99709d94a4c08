"""Thresholds: against trying every one; rates against counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from gigassl.errors import SettingsError
from gigassl.evaluate.operating_point import check_rule, rates, threshold_of

POSITIVE = np.array([0, 0, 1, 0, 1, 1], bool)
SAID = np.array([0.1, 0.2, 0.3, 0.4, 0.8, 0.9])


def at(threshold: float, positive: np.ndarray, said: np.ndarray) -> tuple[float, float]:
    decided = said >= threshold
    return float(decided[positive].mean()), float((~decided)[~positive].mean())


def test_each_rule_by_hand() -> None:
    assert at(threshold_of(POSITIVE, SAID, rule="sensitivity=1"), POSITIVE, SAID) == (1, 2 / 3)
    assert at(threshold_of(POSITIVE, SAID, rule="specificity=1"), POSITIVE, SAID) == (2 / 3, 1)
    assert threshold_of(POSITIVE, SAID, rule="specificity=1") == pytest.approx(0.6)


@given(st.integers(0, 10_000), st.integers(2, 9))
def test_youden_is_the_best_of_all_thresholds(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    positive = np.append(rng.random(30) < 0.4, [True, False])
    said = rng.integers(0, levels, 32) / levels
    found = sum(at(threshold_of(positive, said, rule="youden"), positive, said))
    assert found == pytest.approx(max(sum(at(t, positive, said)) for t in [*said, 2]))


@given(st.integers(0, 10_000), st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_a_wanted_rate_is_reached(seed: int, wanted: float) -> None:
    rng = np.random.default_rng(seed)
    positive = np.append(rng.random(30) < 0.4, [True, False])
    said = rng.integers(0, 9, 32) / 9
    for number, name in enumerate(("sensitivity", "specificity")):
        threshold = threshold_of(positive, said, rule=f"{name}={wanted}")
        assert at(threshold, positive, said)[number] >= wanted


@pytest.mark.parametrize("rule", ["best", "sensitivity", "sensitivity=2", "sensitivity=x", "f1=1"])
def test_another_rule_is_refused(rule: str) -> None:
    with pytest.raises(SettingsError, match="the rule of the threshold"):
        check_rule(rule)


def test_rates_count_slides_and_draw_patients() -> None:
    patients = [f"p{k // 2}" for k in range(60)]
    rng = np.random.default_rng(0)
    positive, decided = rng.random(60) < 0.5, rng.random(60) < 0.5
    found = {rate.name: rate for rate in rates(positive, decided, patients)}
    assert found["sensitivity"].value == pytest.approx(decided[positive].mean())
    assert found["specificity"].value == pytest.approx((~decided)[~positive].mean())
    assert found["positive predictive value"].of == decided.sum()
    for rate in found.values():
        assert rate.low < rate.value < rate.high
    never = rates(positive, np.zeros(60, bool), patients)[2]
    assert np.isnan(never.value)


def test_few_that_are_all_right_are_no_certainty() -> None:
    positive = np.array([True] * 4 + [False] * 4)
    found = rates(positive, positive, [f"p{k}" for k in range(8)])
    for rate in found:
        assert (rate.value, rate.high) == (1.0, 1.0)
        # Wilson: n / (n + t²), t of 3 degrees of freedom
        assert rate.low == pytest.approx(4 / (4 + student.isf(0.025, 3) ** 2))
