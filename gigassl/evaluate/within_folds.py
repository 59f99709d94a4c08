"""How well predictions order patients inside the folds that were tested, and whether by chance.

A model's scores are compared only with scores of the same model, so that folds whose predictions
lie higher or lower do not count. Under the null hypothesis (labels that could be swapped among the
patients of a fold) a fold's statistic has mean zero and a known variance, whatever was learned
elsewhere. The folds' statistics are not independent, though: fold a is predicted by what was
learned of b, and b by what was learned of a. For a prediction that is linear in the labels learned
from, these two are the same sum, so that the variance of the total is at most twice the sum of the
folds' variances; it is taken to be that. Tests check it for the probes that are used here.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.stats import norm, rankdata

SMALLEST = 1e-300
"""No p is given as smaller."""
LEARNED_FROM_ONE_ANOTHER = 2.0
"""Variance of the sum over folds, in units of the sum of the folds' variances."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ordered:
    """How well a score orders patients inside folds.

    Attributes:
        value: AUC over pairs of one fold, or rank correlation inside folds; NaN: not defined.
        p: one-sided, that it would be so high by chance.
        influence: of each patient on the value, which their variance is computed from.
    """

    value: float
    p: float
    influence: Float64[np.ndarray, " patient"]

    def interval(self, *, alpha: float = 0.05) -> tuple[float, float]:
        """Of an AUC, on the logit scale; patients are the chance in it, not the training."""
        if not 0 < self.value < 1:
            return float("nan"), float("nan")
        spread = math.sqrt(float(np.square(self.influence).sum()))
        reach = float(norm.isf(alpha / 2)) * spread / (self.value * (1 - self.value))
        middle = math.log(self.value / (1 - self.value))
        return 1 / (1 + math.exp(reach - middle)), 1 / (1 + math.exp(-reach - middle))


def ordered_classes(
    positive: Bool[np.ndarray, " patient"], score: Float64[np.ndarray, " patient"],
    fold: Int64[np.ndarray, " patient"],
) -> Ordered:  # fmt: skip
    """AUC over all pairs of a positive and a negative patient of one fold.

    Its p compares the number of pairs in order with a rank-sum test stratified by fold, whose
    variance is doubled (see above).
    """
    influence, excess, variance, pairs = np.zeros(len(score)), 0.0, 0.0, 0.0
    for rows in _rows_of_folds(fold):
        cases, controls = rows[positive[rows]], rows[~positive[rows]]
        if not (len(cases) and len(controls)):
            continue
        rank = rankdata(score[rows])
        of_case = rank[positive[rows]] - rankdata(score[cases])
        of_control = len(cases) - (rank[~positive[rows]] - rankdata(score[controls]))
        influence[cases], influence[controls] = of_case, of_control
        excess += of_case.sum() - len(cases) * len(controls) / 2
        variance += _variance(rank, positive[rows].astype(np.float64))
        pairs += len(cases) * len(controls)
    if not pairs:
        return Ordered(value=float("nan"), p=float("nan"), influence=influence)
    auc = 0.5 + excess / pairs
    return Ordered(
        value=auc,
        p=_p(excess, variance),
        influence=(influence - auc * _partners(positive, fold)) / pairs,
    )


def ordered_values(
    target: Float64[np.ndarray, " patient"], score: Float64[np.ndarray, " patient"],
    fold: Int64[np.ndarray, " patient"],
) -> Ordered:  # fmt: skip
    """Correlation of ranks inside folds (Spearman's, where there is one fold)."""
    together, ours, theirs, variance = 0.0, 0.0, 0.0, 0.0
    for rows in _rows_of_folds(fold):
        if len(rows) < 2:
            continue
        one, other = _centred(rankdata(score[rows])), _centred(rankdata(target[rows]))
        together += float(one @ other)
        ours, theirs = ours + float(one @ one), theirs + float(other @ other)
        variance += _variance(one, other)
    scale = math.sqrt(ours * theirs)
    blank = np.zeros(len(score))
    if scale == 0:
        return Ordered(value=float("nan"), p=float("nan"), influence=blank)
    return Ordered(value=together / scale, p=_p(together, variance), influence=blank)


def correlation_interval(value: float, n: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """Of a rank correlation of n patients (Bonett & Wright, Psychometrika 2000)."""
    if n < 4 or not -1 < value < 1:
        return float("nan"), float("nan")
    reach = float(norm.isf(alpha / 2)) * math.sqrt((1 + value**2 / 2) / (n - 3))
    middle = math.atanh(value)
    return math.tanh(middle - reach), math.tanh(middle + reach)


def _rows_of_folds(fold: Int64[np.ndarray, " patient"]) -> list[Int64[np.ndarray, " _"]]:
    return [np.flatnonzero(fold == number) for number in np.unique(fold)]


def _partners(
    positive: Bool[np.ndarray, " patient"], fold: Int64[np.ndarray, " patient"]
) -> Float64[np.ndarray, " patient"]:
    """How many patients of the other class a patient's fold has."""
    found = np.zeros(len(fold))
    for rows in _rows_of_folds(fold):
        n_positive = int(positive[rows].sum())
        found[rows] = np.where(positive[rows], len(rows) - n_positive, n_positive)
    return found


def _variance(one: Float64[np.ndarray, " row"], other: Float64[np.ndarray, " row"]) -> float:
    """Of Σ one · other over all permutations of one against the other."""
    squares = float(np.square(_centred(one)).sum()) * float(np.square(_centred(other)).sum())
    return squares / (len(one) - 1)


def _centred(values: Float64[np.ndarray, " row"]) -> Float64[np.ndarray, " row"]:
    centred: Float64[np.ndarray, " row"] = values - values.mean()
    return centred


def _p(excess: float, variance: float) -> float:
    """Scores that are all alike order nothing: p is 1."""
    if variance <= 0:
        return 1.0
    p = float(norm.sf(excess / math.sqrt(LEARNED_FROM_ONE_ANOTHER * variance)))
    return max(p, SMALLEST)
