"""Metrics of many weighted draws of the same rows at once: what bootstraps are made of.

Every function takes ``counts``: how often each row stands in each draw. A row drawn twice counts as
two rows. Where a metric is not defined in a draw (a class without a row, a constant truth), it
is NaN.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float64, Int64

from gigassl.evaluate.outcome import Outcome

N_BINS = 10
"""Bins of the calibration error."""

Counts = Float64[np.ndarray, "draw row"]
Output = Float64[np.ndarray, "row output"]
PerDraw = Float64[np.ndarray, " draw"]
_Binary = Callable[[np.ndarray, np.ndarray], PerDraw]

_EPS = float(np.finfo(np.float64).eps)


def auc_draws(outcome: Outcome, output: Output, counts: Counts) -> PerDraw:
    """Area under the ROC curve; several classes: mean of each against the rest."""
    return _macro(partial(_binary_auc, counts=counts), outcome, output)


def average_precision_draws(outcome: Outcome, output: Output, counts: Counts) -> PerDraw:
    """Average precision of the second class; several classes: mean over all."""
    return _macro(partial(_binary_average_precision, counts=counts), outcome, output)


def balanced_accuracy_draws(outcome: Outcome, output: Output, counts: Counts) -> PerDraw:
    """Mean over classes of the share found, where the most probable class is decided for."""
    hits, truly, _ = _confusion(outcome, output, counts)
    mean: PerDraw = _quotient(hits, truly).mean(axis=1)
    return mean


def macro_f1_draws(outcome: Outcome, output: Output, counts: Counts) -> PerDraw:
    """Mean F1 over classes, where the most probable class is decided for."""
    hits, truly, decided = _confusion(outcome, output, counts)
    f1 = _quotient(2 * hits, truly + decided)
    f1[truly == 0] = np.nan
    mean: PerDraw = f1.mean(axis=1)
    return mean


def log_loss_draws(outcome: Outcome, output: Output, counts: Counts) -> PerDraw:
    """Mean negative logarithm of the true class's probability."""
    if not are_probabilities(output):
        return _undefined(counts)
    true = output[np.arange(len(outcome)), outcome.labels]
    return _quotient(counts @ -np.log(np.clip(true, _EPS, 1.0)), counts.sum(axis=1))


def calibration_error_draws(outcome: Outcome, output: Output, counts: Counts) -> PerDraw:
    """Expected calibration error, 10 bins of equal mass; several classes: mean over all.

    Equal probabilities share a bin, so that the order of the rows does not matter.
    """
    if not are_probabilities(output):
        return _undefined(counts)
    return _macro(partial(_binary_calibration_error, counts=counts), outcome, output)


def r2_draws(outcome: Outcome, output: Output, counts: Counts) -> PerDraw:
    """Share of the variance explained."""
    total = counts.sum(axis=1)
    mean = _quotient(counts @ outcome.target, total)
    spread = (counts * (outcome.target - mean[:, None]) ** 2).sum(axis=1)
    wrong = counts @ (outcome.target - output[:, 0]) ** 2
    unexplained: PerDraw = _quotient(wrong, np.where(spread > _EPS * total, spread, 0.0))
    return 1 - unexplained


def spearman_draws(outcome: Outcome, output: Output, counts: Counts) -> PerDraw:
    """Correlation of mid-ranks."""
    x, y = _midranks(output[:, 0], counts), _midranks(outcome.target, counts)
    half = counts.sum(axis=1, keepdims=True) / 2  # the mean of mid-ranks, ties or none
    x, y = x - half, y - half
    along = np.sqrt((counts * x**2).sum(axis=1) * (counts * y**2).sum(axis=1))
    return _quotient((counts * x * y).sum(axis=1), along)


def c_index_draws(outcome: Outcome, output: Output, counts: Counts) -> PerDraw:
    """Harrell's concordance: of comparable pairs, the share with the higher risk earlier.

    A pair is comparable if the earlier time is an event, or if the times are equal and one of them
    is censored; equal risks count half.
    """
    dead = np.flatnonzero(outcome.died)
    time, risk = outcome.target, output[:, 0]
    # both have a row for each death and a column for each row
    later = (time > time[dead, None]) | ((time == time[dead, None]) & ~outcome.died)
    agree = (risk < risk[dead, None]) + 0.5 * (risk == risk[dead, None])
    first = counts[:, dead]
    concordant = ((first @ (later * agree)) * counts).sum(axis=1)
    index: PerDraw = _quotient(
        concordant, ((first @ later.astype(np.float64)) * counts).sum(axis=1)
    )
    return index


def are_probabilities(output: Float64[np.ndarray, "row output"]) -> bool:
    """Whether rows lie in [0, 1] and sum to 1, as metrics other than rankings need it."""
    return bool((output >= 0).all() and (output <= 1).all()) and bool(
        np.abs(output.sum(axis=1) - 1).max(initial=0.0) < 1e-6
    )


def _undefined(counts: Counts) -> PerDraw:
    return np.full(len(counts), np.nan)


def _quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    blank = np.full(np.shape(above), np.nan)
    divided: np.ndarray = np.divide(above, below, out=blank, where=below > 0)
    return divided


def _macro(binary: _Binary, outcome: Outcome, output: Output) -> PerDraw:
    classes = [1] if outcome.n_classes == 2 else range(outcome.n_classes)
    mean: PerDraw = np.mean([binary(output[:, k], outcome.labels == k) for k in classes], axis=0)
    return mean


def _ties(values: np.ndarray) -> tuple[np.ndarray, Int64[np.ndarray, " row"], np.ndarray]:
    """Order of the values, and for each place in it where its ties begin and end."""
    order = np.argsort(values, kind="stable")
    new = np.flatnonzero(np.diff(values[order])) + 1
    group = np.searchsorted(new, np.arange(len(values)), side="right")
    return order, np.r_[0, new][group], np.r_[new, len(values)][group]


def _running(counts: np.ndarray) -> np.ndarray:
    total = np.zeros((len(counts), counts.shape[1] + 1))
    np.cumsum(counts, axis=1, out=total[:, 1:])
    return total


def _binary_auc(score: np.ndarray, positive: np.ndarray, *, counts: Counts) -> PerDraw:
    order, begin, end = _ties(score)
    true = positive[order]
    drawn = counts[:, order]
    below = _running(drawn * ~true)
    pos = drawn[:, true]
    wins = (pos * (below[:, begin[true]] + below[:, end[true]])).sum(axis=1) / 2
    return _quotient(wins, pos.sum(axis=1) * below[:, -1])


def _binary_average_precision(
    score: np.ndarray, positive: np.ndarray, *, counts: Counts
) -> PerDraw:
    order, _, end = _ties(-score)
    true = positive[order]
    drawn = counts[:, order]
    hits, named = _running(drawn * true)[:, end[true]], _running(drawn)[:, end[true]]
    precision = np.divide(hits, named, out=np.zeros_like(hits), where=named > 0)
    pos = drawn[:, true]
    found = pos.sum(axis=1)
    sure = np.where(found < counts.sum(axis=1), found, 0)  # without a negative: not defined
    return _quotient((pos * precision).sum(axis=1), sure)


def _binary_calibration_error(
    score: np.ndarray, positive: np.ndarray, *, counts: Counts
) -> PerDraw:
    total = counts.sum(axis=1)
    place = _quotient(_midranks(score, counts), total[:, None])
    excess = counts * (score - positive)
    bins = np.minimum(np.nan_to_num(place) * N_BINS, N_BINS - 1).astype(np.int64)
    bins += N_BINS * np.arange(len(counts))[:, None]
    sums = np.bincount(bins.ravel(), weights=excess.ravel(), minlength=N_BINS * len(counts))
    return _quotient(np.abs(sums).reshape(-1, N_BINS).sum(axis=1), total)


def _midranks(values: np.ndarray, counts: Counts) -> np.ndarray:
    order, begin, end = _ties(values)
    total = _running(counts[:, order])
    ranks = np.empty(counts.shape)
    ranks[:, order] = (total[:, begin] + total[:, end]) / 2
    return ranks


def _confusion(
    outcome: Outcome, output: Output, counts: Counts
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each draw and class: rightly decided for, truly there, decided for."""
    if not are_probabilities(output):
        empty = np.zeros((len(counts), outcome.n_classes))
        return empty, empty, empty
    classes = np.arange(outcome.n_classes)
    true = outcome.labels[:, None] == classes
    decided = output.argmax(axis=1)[:, None] == classes
    both = (true & decided).astype(np.float64)
    return counts @ both, counts @ true.astype(np.float64), counts @ decided.astype(np.float64)
