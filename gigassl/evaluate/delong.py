"""DeLong's variance of AUCs on one fixed test set, in n log n.

DeLong, DeLong & Clarke-Pearson, Biometrics 1988; through mid-ranks as Sun & Xu, IEEE Signal
Processing Letters 2014. Valid where every row is an independent patient.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy.stats import norm, rankdata


@dataclass(frozen=True, kw_only=True, eq=False)
class DeLong:
    """AUCs of several scores of the same rows.

    Attributes:
        auc: one a score.
        covariance: of the AUCs.
    """

    auc: Float64[np.ndarray, " score"]
    covariance: Float64[np.ndarray, "score score"]


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A difference with its interval and two-sided p; NaN where it cannot be told."""

    difference: float
    low: float
    high: float
    p: float


def delong(positive: Bool[np.ndarray, " row"], scores: Float64[np.ndarray, "row score"]) -> DeLong:
    """AUC of each score, and how the AUCs vary together; NaN with fewer than two rows a class."""
    cases, controls = scores[positive], scores[~positive]
    m, n = len(cases), len(controls)
    if min(m, n) == 0:
        blank = np.full(scores.shape[1], np.nan)
        return DeLong(auc=blank, covariance=np.full((len(blank), len(blank)), np.nan))
    everywhere = rankdata(scores, axis=0)
    # placement of each case among the controls, and of each control among the cases
    of_cases = (everywhere[positive] - rankdata(cases, axis=0)) / n
    of_controls = 1 - (everywhere[~positive] - rankdata(controls, axis=0)) / m
    covariance = _covariance(of_cases) / m + _covariance(of_controls) / n
    return DeLong(auc=of_cases.mean(axis=0), covariance=covariance)


def delong_interval(found: DeLong, *, score: int = 0, alpha: float = 0.05) -> tuple[float, float]:
    """Interval of one AUC on the logit scale, so that it stays within 0 and 1.

    NaN where the AUC is 0 or 1: its variance cannot be told then.
    """
    auc = float(found.auc[score])
    spread = math.sqrt(max(float(found.covariance[score, score]), 0.0))
    if not 0 < auc < 1:
        return float("nan"), float("nan")
    reach = float(norm.isf(alpha / 2)) * spread / (auc * (1 - auc))
    middle = math.log(auc / (1 - auc))
    return 1 / (1 + math.exp(-(middle - reach))), 1 / (1 + math.exp(-(middle + reach)))


def delong_test(
    positive: Bool[np.ndarray, " row"], scores: Float64[np.ndarray, "row two"], *,
    alpha: float = 0.05,
) -> Tested:  # fmt: skip
    """Whether the first score's AUC differs from the second's, on the same independent rows.

    Scores that order all rows alike differ by nothing: p is 1.
    """
    found = delong(positive, scores)
    difference = float(found.auc[0] - found.auc[1])
    contrast = np.array([1.0, -1.0])
    variance = float(contrast @ found.covariance @ contrast)
    if not variance > 1e-18:  # also NaN
        same = difference == 0 and not math.isnan(variance)
        edge = 0.0 if same else float("nan")
        return Tested(difference=difference, low=edge, high=edge, p=1.0 if same else float("nan"))
    spread = math.sqrt(variance)
    reach = float(norm.isf(alpha / 2)) * spread
    p = 2 * float(norm.sf(abs(difference) / spread))
    return Tested(difference=difference, low=difference - reach, high=difference + reach, p=p)


def _covariance(
    placements: Float64[np.ndarray, "some score"],
) -> Float64[np.ndarray, "score score"]:
    if len(placements) < 2:
        return np.full((placements.shape[1],) * 2, np.nan)
    centred = placements - placements.mean(axis=0)
    return np.asarray(centred.T @ centred / (len(placements) - 1))
