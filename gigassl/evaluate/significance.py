"""Tests of differences between methods, each for what it is valid for, and many tests at once."""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float64
from scipy.stats import norm
from scipy.stats import t as student

from gigassl.evaluate.delong import Tested

Adjustment = Literal["holm", "bh"]


def corrected_resampled_t(
    differences: Float64[np.ndarray, " fold"], *, test_over_train: float, alpha: float = 0.05
) -> Tested:
    """t-test of fold differences whose training sets overlap (Nadeau & Bengio, 2003).

    The variance of the mean is (1 / folds + tested / trained) times that of the folds, not
    1 / folds times it: folds that share training slides are not independent, and the naive t-test
    finds differences far too often.

    Args:
        differences: of two methods, one a fold; NaN (not defined in that fold) is left out.
        test_over_train: tested slides over slides learned from.
        alpha: 1 - alpha is what the interval holds.
    """
    known = differences[~np.isnan(differences)]
    mean = float(known.mean()) if len(known) else float("nan")
    if len(known) < 2 or math.isnan(test_over_train):
        return Tested(difference=mean, low=float("nan"), high=float("nan"), p=float("nan"))
    spread = math.sqrt(float(known.var(ddof=1)) * (1 / len(known) + test_over_train))
    reach = float(student.isf(alpha / 2, len(known) - 1)) * spread
    if spread > 0:
        p = 2 * float(student.sf(abs(mean) / spread, len(known) - 1))
    else:
        p = 1.0 if mean == 0 else float("nan")
    return Tested(difference=mean, low=mean - reach, high=mean + reach, p=p)


def wilson(
    share: float, *, variance: float, quantile: float, perfect: float
) -> tuple[float, float]:
    """Wilson's interval (1927) of a share with as many trials as give it this variance.

    Args:
        share: between 0 and 1.
        variance: of it.
        quantile: of the normal or t distribution that the interval is to hold.
        perfect: trials that a share of 0 or 1, or one without variance, is worth.
    """
    known = variance > 0 and 0 < share < 1
    trials = share * (1 - share) / variance if known else perfect
    add = quantile**2 / trials
    middle = (share + add / 2) / (1 + add)
    reach = quantile * math.sqrt(share * (1 - share) / trials + add / trials / 4) / (1 + add)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def widened(share: float, *, n_patients: int) -> float:
    """The tail of percentiles that makes up for how narrow few patients' bootstraps are.

    A bootstrap's spread is too small by sqrt((n - 1) / n), and has no t-quantile (Hesterberg, The
    American Statistician 2015: "expanded percentile interval").
    """
    if n_patients < 2:
        return float("nan")
    edge = float(student.isf(share, n_patients - 1)) * math.sqrt(n_patients / (n_patients - 1))
    return float(norm.sf(edge))


def bootstrap_p(draws: Float64[np.ndarray, " draw"], *, n_patients: int) -> float:
    """Two-sided p of a difference: the smallest alpha whose interval leaves zero out.

    Draws at zero count half on either side; the p of d draws is never below 2 / (d + 1), widened
    as the interval is.
    """
    known = draws[~np.isnan(draws)]
    if len(known) < 2 or n_patients < 2:
        return float("nan")
    above, below = float((known > 0).sum()), float((known < 0).sum())
    tail = (min(above, below) + (len(known) - above - below) / 2 + 0.5) / (len(known) + 1)
    edge = max(float(norm.isf(tail)), 0.0) * math.sqrt((n_patients - 1) / n_patients)
    return min(1.0, 2 * float(student.sf(edge, n_patients - 1)))


def holm(p: Float64[np.ndarray, " test"]) -> Float64[np.ndarray, " test"]:
    """p-values such that the chance of any false finding is kept (Holm, 1979); NaN stays NaN."""
    order, sorted_p = _known(p)
    steps = np.maximum.accumulate(sorted_p * np.arange(len(order), 0, -1))
    return _put_back(p, order, np.minimum(steps, 1.0))


def benjamini_hochberg(p: Float64[np.ndarray, " test"]) -> Float64[np.ndarray, " test"]:
    """p-values such that the share of false findings is kept (1995); NaN stays NaN."""
    order, sorted_p = _known(p)
    steps = sorted_p * len(order) / np.arange(1, len(order) + 1)
    return _put_back(p, order, np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0))


ADJUSTMENTS: Mapping[Adjustment, Callable[[np.ndarray], np.ndarray]] = {
    "holm": holm,
    "bh": benjamini_hochberg,
}
"""How p-values of one family are adjusted."""


def _known(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.flatnonzero(~np.isnan(p))
    order = rows[np.argsort(p[rows], kind="stable")]
    return order, p[order]


def _put_back(p: np.ndarray, order: np.ndarray, adjusted: np.ndarray) -> np.ndarray:
    result = np.full(p.shape, np.nan)
    result[order] = adjusted
    return result
