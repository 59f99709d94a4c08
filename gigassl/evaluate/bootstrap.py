"""Bootstrap over patients: how far a score would move with other test patients.

Patients are drawn with replacement, each with all of their slides in all folds, and every method
of a block meets the same draws, so that differences are paired. The models stay as they were
trained: what another training set would have done is not in these intervals.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.blocks import Block, Said
from gigassl.evaluate.metrics import Metric
from gigassl.evaluate.significance import widened

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
    pairs = [(said, metric) for said in block.methods for metric in metrics]
    parts: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {
        (said.method, metric.name): [] for said, metric in pairs
    }
    chunk = max(1, _CELLS // max(len(block.patients), block.n_patients))
    for counts in patient_counts(block.n_patients, settings=settings, chunk=chunk):
        for said, metric in pairs:
            in_folds = _in_parts(block, said, metric, rows=folds, counts=counts)
            # with one fold a repeat, pooled is the mean over folds
            whole = (
                in_folds
                if len(folds) == len(repeats)
                else _in_parts(block, said, metric, rows=repeats, counts=counts)
            )
            parts[said.method, metric.name].append((in_folds, whole))
    found = {}
    for said, metric in pairs:
        drawn = [
            np.concatenate(side) for side in zip(*parts[said.method, metric.name], strict=True)
        ]
        found[said.method, metric.name] = Resampled(
            folds=values_in(block, said, metric, rows=folds),
            fold_mean=mean_of_known(drawn[0]),
            pooled=float(mean_of_known(values_in(block, said, metric, rows=repeats)[None])[0]),
            pooled_draws=mean_of_known(drawn[1]),
            undefined=float(np.isnan(drawn[0]).mean()),
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


def _in_parts(
    block: Block, said: Said, metric: Metric, *, rows: Sequence[np.ndarray], counts: np.ndarray
) -> np.ndarray:
    columns = []
    for part in rows:
        drawn = counts[:, block.patients[part]]
        columns.append(metric.draws(block.outcome.rows(part), said.output[part], drawn))
    return np.stack(columns, axis=1)
