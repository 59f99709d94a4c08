"""Bootstrap over patients: how far a score would move with other test patients.

Patients are drawn with replacement, each with all of their slides in all folds, and every method
of a block meets the same draws, so that differences are paired. The models stay as they were
trained: what another training set would have done is not in these intervals.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.stats import t as student

from gigassl.errors import SettingsError
from gigassl.evaluate.blocks import Block, Said
from gigassl.evaluate.metrics import Metric
from gigassl.evaluate.significance import widened, wilson

_CELLS = 1_000_000
"""Numbers of draws × rows that are worked on at once."""


@dataclass(frozen=True, kw_only=True)
class BootstrapSettings:
    """How patients are drawn.

    Attributes:
        draws: number of bootstrap draws.
        seed: of the draws.
        alpha: 1 - alpha is what an interval holds.

    Raises:
        SettingsError: fewer than 100 draws, or an alpha outside 0 and 0.5.
    """

    draws: int = 1000
    seed: int = 0
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if self.draws < 100 or not 0 < self.alpha < 0.5 or self.seed < 0:
            raise SettingsError(
                f"a bootstrap wants at least 100 draws, an alpha between 0 and 0.5 and a seed not "
                f"below 0; got {self.draws}, {self.alpha} and {self.seed}"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampled:
    """One metric of one method: as it is, and in every draw.

    Attributes:
        folds: in each fold; NaN where it is not defined.
        fold_mean: mean over the folds where it is defined, in each draw.
        pooled: of all test rows of a repeat together, mean over repeats.
        pooled_draws: the same in each draw.
        undefined: share of folds and draws in which it was not defined.
    """

    folds: Float64[np.ndarray, " fold"]
    fold_mean: Float64[np.ndarray, " draw"]
    pooled: float
    pooled_draws: Float64[np.ndarray, " draw"]
    undefined: float

    @property
    def mean(self) -> float:
        """Mean over the folds where it is defined."""
        return float(mean_of_known(self.folds[None])[0])


def interval(
    draws: Float64[np.ndarray, " draw"], *, n_patients: int, alpha: float = 0.05
) -> tuple[float, float]:
    """Percentile interval, widened for few patients; NaN where half the draws are not defined."""
    known = draws[~np.isnan(draws)]
    tail = widened(alpha / 2, n_patients=n_patients)
    if len(known) < max(2, len(draws) / 2) or np.isnan(tail):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def score_interval(
    draws: Float64[np.ndarray, " draw"], *, estimate: float, bounds: tuple[float, float],
    n_patients: int, perfect: float, alpha: float = 0.05,
) -> tuple[float, float]:  # fmt: skip
    """Interval of one score: Wilson's, with as many trials as give the bootstrap's variance.

    A score near its bound has lopsided draws, and a perfect one has no spread at all: of 30
    patients with an AUC of .95 the percentile interval holds it in 87 % of samples, this one in 97
    %. A score without two finite bounds has its percentile interval.

    Args:
        draws: the score in each draw.
        estimate: the score itself.
        bounds: between which it lies.
        n_patients: that were drawn.
        perfect: trials that a score at its bound is worth.
        alpha: 1 - alpha is what the interval holds.
    """
    known = draws[~np.isnan(draws)]
    if not np.isfinite(bounds).all():
        return interval(draws, n_patients=n_patients, alpha=alpha)
    if len(known) < max(2, len(draws) / 2) or n_patients < 2 or np.isnan(estimate):
        return float("nan"), float("nan")
    low, width = bounds[0], bounds[1] - bounds[0]
    share = (estimate - low) / width
    variance = float(known.var()) / width**2 * n_patients / (n_patients - 1)
    quantile = float(student.isf(alpha / 2, n_patients - 1))
    bottom, top = wilson(share, variance=variance, quantile=quantile, perfect=perfect)
    return low + width * bottom, low + width * top


def perfect_trials(block: Block) -> float:
    """How many trials a perfect score of the block is worth, for ``score_interval``.

    Of m patients in the smallest class and n others 4 m n / (m + n + 2): what the variance of an
    AUC near 1 comes to (Hanley & McNeil 1982); for survival, the patients with an event.
    """
    outcome = block.outcome
    if outcome.kind == "survival":
        return float(len(np.unique(block.patients[outcome.died])))
    if outcome.kind == "regression":
        return float(block.n_patients)
    labels = outcome.labels
    m = min(len(np.unique(block.patients[labels == k])) for k in range(outcome.n_classes))
    n = max(block.n_patients - m, 1)
    return 4 * m * n / (m + n + 2)


def patient_counts(
    n_patients: int, *, settings: BootstrapSettings, chunk: int
) -> Iterator[Float64[np.ndarray, "draws patients"]]:
    """How often each patient stands in each draw, some draws at a time; chunks change nothing."""
    rng = np.random.default_rng(settings.seed)
    for begin in range(0, settings.draws, chunk):
        n = min(chunk, settings.draws - begin)
        drawn = rng.integers(n_patients, size=(n, n_patients))
        places = drawn + n_patients * np.arange(n)[:, None]
        counts = np.bincount(places.ravel(), minlength=n * n_patients)
        yield counts.reshape(n, n_patients).astype(np.float64)


def resample(
    block: Block, metrics: Sequence[Metric], *, settings: BootstrapSettings
) -> dict[tuple[str, str], Resampled]:
    """Every metric of every method of a block, by (method, metric), on the same draws."""
    folds = [np.flatnonzero(block.folds == fold) for fold in range(block.n_folds)]
    repeats = [np.flatnonzero(block.draws == draw) for draw in range(int(block.draws.max()) + 1)]
    # with one fold a repeat, pooled is the mean over folds
    parts = folds if len(folds) == len(repeats) else [*folds, *repeats]
    pairs = [(said, metric) for said in block.methods for metric in metrics]
    chunk = max(1, _CELLS // max(block.n_patients, *(len(part) for part in parts)))
    drawn = np.concatenate(
        [
            _drawn(block, pairs, parts=parts, counts=counts)
            for counts in patient_counts(block.n_patients, settings=settings, chunk=chunk)
        ]
    )
    found = {}
    for (said, metric), draws in zip(pairs, np.moveaxis(drawn, 1, 0), strict=True):
        found[said.method, metric.name] = Resampled(
            folds=values_in(block, said, metric, rows=folds),
            fold_mean=mean_of_known(draws[:, : len(folds)]),
            pooled=float(mean_of_known(values_in(block, said, metric, rows=repeats)[None])[0]),
            pooled_draws=mean_of_known(draws[:, len(parts) - len(repeats) :]),
            undefined=float(np.isnan(draws[:, : len(folds)]).mean()),
        )
    return found


def values_in(
    block: Block, said: Said, metric: Metric, *, rows: Sequence[Int64[np.ndarray, " _"]]
) -> Float64[np.ndarray, " part"]:
    """The metric on each of several sets of rows."""
    return np.array([metric.value(block.outcome.rows(part), said.output[part]) for part in rows])


def mean_of_known(
    values: Float64[np.ndarray, "draw part"],
) -> Float64[np.ndarray, " draw"]:
    """Mean over the parts that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    total, n = np.where(known, values, 0).sum(axis=1), known.sum(axis=1)
    blank = np.full(len(values), np.nan)
    mean: np.ndarray = np.divide(total, n, out=blank, where=n > 0)
    return mean


def _drawn(
    block: Block, pairs: Sequence[tuple[Said, Metric]], *, parts: Sequence[np.ndarray],
    counts: np.ndarray,
) -> Float64[np.ndarray, "draw pair part"]:  # fmt: skip
    values = np.empty((len(counts), len(pairs), len(parts)))
    for k, part in enumerate(parts):
        rows, outcome = counts[:, block.patients[part]], block.outcome.rows(part)
        for m, (said, metric) in enumerate(pairs):
            values[:, m, k] = metric.draws(outcome, said.output[part], rows)
    return values
