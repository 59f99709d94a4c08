"""The limit on how many of a known number can be bad, against sums of exact fractions."""

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.evaluate.finite_population import most_bad


def _probability_of_so_few(
    n_bad: int, *, bad_of_all: int, sample: int, population: int
) -> Fraction:
    ways = sum(
        comb(bad_of_all, k) * comb(population - bad_of_all, sample - k) for k in range(n_bad + 1)
    )
    return Fraction(ways, comb(population, sample))


@given(data=st.data(), population=st.integers(1, 60), level=st.sampled_from([0.5, 0.9, 0.95]))
def test_it_is_the_last_number_that_exact_fractions_allow(
    data: st.DataObject, population: int, level: float
) -> None:
    sample = data.draw(st.integers(1, population))
    n_bad = data.draw(st.integers(0, sample))
    possible = range(n_bad, population - (sample - n_bad) + 1)
    allowed = [
        bad
        for bad in possible
        if _probability_of_so_few(n_bad, bad_of_all=bad, sample=sample, population=population)
        > 1 - Fraction(str(level))
    ]
    assert most_bad(n_bad, sample=sample, population=population, level=level) == max(allowed)


def test_a_probability_that_equals_the_limit_is_not_above_it() -> None:
    assert most_bad(0, sample=1, population=50, level=0.5) == 24


def test_twenty_of_tcga_without_a_bad_one() -> None:
    most = most_bad(0, sample=20, population=11_642)
    limits = [
        _probability_of_so_few(0, bad_of_all=bad, sample=20, population=11_642)
        for bad in (most, most + 1)
    ]
    assert limits[0] > Fraction(1, 20) >= limits[1]
    assert most / 11_642 == pytest.approx(1 - 0.05 ** (1 / 20), abs=2e-3)


def test_all_looked_at_leaves_no_doubt() -> None:
    assert most_bad(0, sample=50, population=50) == 0
    assert most_bad(7, sample=50, population=50) == 7
