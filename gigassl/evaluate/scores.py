"""Scores: every metric of every method of a block, with intervals and differences from controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from gigassl.evaluate.blocks import Block, Said
from gigassl.evaluate.bootstrap import Resampled
from gigassl.evaluate.intervals import mean_difference, mean_interval, pooled_interval
from gigassl.evaluate.metrics import Metric
from gigassl.evaluate.pairs import Results

DELTAS = ("mean", "random-weights", "shuffled-coordinates")
"""Controls that a method's difference from is a column of its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """One metric of one method in a block.

    Attributes:
        metric: its name.
        folds: in each fold; NaN where it is not defined.
        mean, sd: over the folds where it is defined; sd with ddof = 1, NaN of one fold.
        low, high: interval of the mean over folds.
        interval: how that was found: "corrected resampled t" or "patient bootstrap".
        pooled, pooled_low, pooled_high: of all test rows of a repeat together (mean over repeats).
        undefined: share of folds and bootstrap draws in which it was not defined.
    """

    metric: str
    folds: Float64[np.ndarray, " fold"]
    mean: float
    sd: float
    low: float
    high: float
    interval: str
    pooled: float
    pooled_low: float
    pooled_high: float
    undefined: float


@dataclass(frozen=True, kw_only=True)
class Delta:
    """How far a method is above its control: of the mean over folds, paired.

    ``interval`` is how low and high were found, as in a score.
    """

    control: str
    difference: float
    low: float
    high: float
    interval: str


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodScores:
    """A row of a table.

    Attributes:
        method, control, control_of: as in the predictions.
        seen: share of test slides that its encoders were pretrained on; None: not known.
        scores: by metric.
        deltas: by control, where the block holds that control of this method.
    """

    method: str
    control: str
    control_of: str
    seen: float | None
    scores: Mapping[str, Score]
    deltas: Mapping[str, Delta]


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockScores:
    """A table: one task at one training size on one set of splits.

    Attributes:
        block: what it was made of.
        rows: methods, then controls.
        reference: the method that others are tested against.
    """

    block: Block
    rows: tuple[MethodScores, ...]
    reference: str | None


def scored(
    block: Block, metrics: Sequence[Metric], *, results: Results, reference: str | None,
    alpha: float,
) -> BlockScores:  # fmt: skip
    """The table of a block; methods first, then controls, each in the order they were given."""
    rows = []
    for said in sorted(block.methods, key=lambda said: bool(said.control)):
        scores = {
            m.name: _score(block, m, found=results[said.method, m.name], alpha=alpha)
            for m in metrics
        }
        deltas = _deltas(block, said, metric=metrics[0].name, results=results, alpha=alpha)
        rows.append(
            MethodScores(
                method=said.method,
                control=said.control,
                control_of=said.control_of,
                seen=said.seen,
                scores=scores,
                deltas=deltas,
            )
        )
    return BlockScores(block=block, rows=tuple(rows), reference=reference)


def control_of(block: Block, said: Said, control: str) -> Said | None:
    """The control of that kind that belongs to a method, the one with the same probe first.

    Names read "vectors · probe"; a control belongs to the vectors that it names, or to all.
    """
    vectors, _, probe = said.method.rpartition(" · ")
    fitting = [
        other
        for other in block.methods
        if other.control == control and other.control_of in {"", said.method, vectors}
    ]
    own = [other for other in fitting if other.control_of] or fitting
    alike = [other for other in own if other.method.rpartition(" · ")[2] == probe]
    return next(iter(alike or own), None)


def _score(block: Block, metric: Metric, *, found: Resampled, alpha: float) -> Score:
    known = found.folds[~np.isnan(found.folds)]
    of_mean = mean_interval(block, metric, found, alpha=alpha)
    pooled_low, pooled_high = pooled_interval(block, metric, found, alpha=alpha)
    return Score(
        metric=metric.name,
        folds=found.folds,
        mean=found.mean,
        sd=float(known.std(ddof=1)) if len(known) > 1 else float("nan"),
        low=of_mean.low,
        high=of_mean.high,
        interval=of_mean.how,
        pooled=found.pooled,
        pooled_low=pooled_low,
        pooled_high=pooled_high,
        undefined=found.undefined,
    )


def _deltas(
    block: Block, said: Said, *, metric: str, results: Results, alpha: float
) -> Mapping[str, Delta]:
    found = {}
    for name in DELTAS if not said.control else ():
        control = control_of(block, said, name)
        if control is not None:
            ours, theirs = (results[each.method, metric] for each in (said, control))
            how, tested = mean_difference(block, ours, theirs, alpha=alpha)
            found[name] = Delta(
                control=control.method,
                difference=tested.difference,
                low=tested.low,
                high=tested.high,
                interval=how,
            )
    return found
