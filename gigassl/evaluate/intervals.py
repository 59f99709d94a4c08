"""Intervals of means over folds, and of differences between two: which one the data allow.

Folds learn from one another's test slides, so no bootstrap of their predictions sees how far their
mean moves from cohort to cohort. Several test sets have the corrected resampled t interval (Nadeau
& Bengio, Machine Learning 2003): of the method trained anew on such a cohort. A single test set has
the bootstrap over patients: of the models as they were trained.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.stats import t as student

from gigassl.evaluate.blocks import Block
from gigassl.evaluate.bootstrap import (
    Resampled,
    interval,
    mean_of_known,
    perfect_trials,
    score_interval,
)
from gigassl.evaluate.delong import Tested
from gigassl.evaluate.metrics import Metric
from gigassl.evaluate.significance import bootstrap_p, corrected_resampled_t, wilson

RESAMPLED_T, BOOTSTRAP = "corrected resampled t", "patient bootstrap"
FEWEST_TEST_SETS = 3
"""Test sets in which a score must be defined for the corrected resampled t."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Between which numbers, and how that was found: RESAMPLED_T or BOOTSTRAP."""

    low: float
    high: float
    how: str


def mean_interval(block: Block, metric: Metric, found: Resampled, *, alpha: float) -> Interval:
    """Of a metric's mean over folds.

    Of a metric with a range it is Wilson's interval with the variance and the quantile of the
    corrected resampled t: near the end of the range folds are lopsided, and the plain t interval
    of five folds held an AUC of .96 in 93 % of simulated cohorts, of few-shot draws in 89 %, this
    one in 99 % and 97 %.
    """
    each = _by_test_set(block, found.folds)
    if each is None:
        draws, estimate = found.fold_mean, found.mean
        low, high = _wilson(block, metric, draws, estimate=estimate, alpha=alpha)
        return Interval(low=low, high=high, how=BOOTSTRAP)
    t = corrected_resampled_t(each, test_over_train=correction_ratio(block), alpha=alpha)
    least, most = metric.bounds
    width = most - least
    if math.isinf(width) or math.isnan(t.low):
        low, high = (float(np.clip(end, least, most)) for end in (t.low, t.high))
        return Interval(low=low, high=high, how=RESAMPLED_T)
    quantile = float(student.isf(alpha / 2, len(each) - 1))
    deviation = (t.high - t.low) / 2 / quantile / width
    bottom, top = wilson(
        (t.difference - least) / width, variance=deviation**2, quantile=quantile,
        perfect=perfect_trials(block),
    )  # fmt: skip
    return Interval(low=least + width * bottom, high=least + width * top, how=RESAMPLED_T)


def pooled_interval(
    block: Block, metric: Metric, found: Resampled, *, alpha: float
) -> tuple[float, float]:
    """Of all test rows of a repeat together: from the bootstrap over patients."""
    return _wilson(block, metric, found.pooled_draws, estimate=found.pooled, alpha=alpha)


def mean_difference(
    block: Block, ours: Resampled, theirs: Resampled, *, alpha: float
) -> tuple[str, Tested]:
    """RESAMPLED_T or BOOTSTRAP, and what it says of the difference of two means over folds."""
    each = _by_test_set(block, ours.folds - theirs.folds)
    if each is not None and np.ptp(each) > 0:
        ratio = correction_ratio(block)
        return RESAMPLED_T, corrected_resampled_t(each, test_over_train=ratio, alpha=alpha)
    draws = ours.fold_mean - theirs.fold_mean
    return BOOTSTRAP, _bootstrapped(block, ours.mean - theirs.mean, draws=draws, alpha=alpha)


def pooled_difference(block: Block, ours: Resampled, theirs: Resampled, *, alpha: float) -> Tested:
    """Of two pooled scores, from the bootstrap over patients; both on the same draws."""
    draws = ours.pooled_draws - theirs.pooled_draws
    return _bootstrapped(block, ours.pooled - theirs.pooled, draws=draws, alpha=alpha)


def correction_ratio(block: Block) -> float:
    """Slides of a test set over those that it was drawn beside.

    That share is how much two random test sets have in common, which is what the correction is for
    (rho / (1 - rho) with rho = tested / all; Nadeau & Bengio). Few-shot trainings learn from few of
    the slides that were there, so these count, not the few. NaN where neither is known.
    """
    tested = float(np.mean(np.bincount(block.folds)))
    beside = block.n_slides - tested
    known = block.n_train[~np.isnan(block.n_train)]
    trained = max(beside, float(known.mean()) if len(known) else 0.0)
    return tested / trained if trained > 0 else float("nan")


def _by_test_set(
    block: Block, folds: Float64[np.ndarray, " fold"]
) -> Float64[np.ndarray, " test_set"] | None:
    """The mean on each test set where it is known; None where these are too few.

    Trainings for one test set are repeats, not further test sets: their mean counts once.
    """
    sets = range(int(block.test_sets.max()) + 1)
    each = np.array([mean_of_known(folds[block.test_sets == k][None])[0] for k in sets])
    known: np.ndarray = each[~np.isnan(each)]
    return known if len(known) >= FEWEST_TEST_SETS else None


def _wilson(
    block: Block, metric: Metric, draws: np.ndarray, *, estimate: float, alpha: float
) -> tuple[float, float]:
    return score_interval(
        draws,
        estimate=estimate,
        bounds=metric.bounds,
        n_patients=block.n_patients,
        perfect=perfect_trials(block),
        alpha=alpha,
    )


def _bootstrapped(block: Block, difference: float, *, draws: np.ndarray, alpha: float) -> Tested:
    low, high = interval(draws, n_patients=block.n_patients, alpha=alpha)
    known = not math.isnan(low)
    p = bootstrap_p(draws, n_patients=block.n_patients) if known else float("nan")
    return Tested(difference=difference, low=low, high=high, p=p)
