"""Table of scores: methods with their intervals drawn, controls below, further metrics beside."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from markupsafe import Markup

from gigassl.evaluate.comparison import Comparison
from gigassl.evaluate.metrics import Metric
from gigassl.evaluate.scores import BlockScores, MethodScores
from gigassl.evaluate.standing import Standing, best_first, standing
from gigassl.report.learning_curves import CHANCE
from gigassl.report.page.evaluation_parts import Looks
from gigassl.report.page.section import Cell, joined_parts, rendered, table
from gigassl.report.tables import DELTA_TITLES, number, p_value, signed

_WIDTH_PX = 190.0
_MARGIN_PX = 8.0

Column = tuple[str, Callable[[MethodScores], Cell]]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What the intervals of one table are drawn along.

    Attributes:
        low, high: ends.
        chance: of the metric; None where it has no such value, or beyond the ends.
    """

    low: float
    high: float
    chance: float | None

    def place(self, value: float | None) -> float | None:
        """Where a value stands, in pixels; None for none."""
        if value is None or math.isnan(value):
            return None
        inner = _WIDTH_PX - 2 * _MARGIN_PX
        return round(_MARGIN_PX + inner * (value - self.low) / (self.high - self.low), 1)


def score_table(comparison: Comparison, scores: BlockScores, *, looks: Looks) -> Markup:
    """The table of one training size, the best method first, and what is to be said of the best.

    A method is marked as the best only if it is better than every other beyond chance.
    """
    metric = comparison.metric
    rows = best_first(scores, metric)
    found = standing(scores, metric, settings=comparison.settings)
    columns = [
        *_main_columns(comparison, rows, looks=looks, found=found),
        *_delta_columns(rows),
        *((m.title, _mean_of(m)) for m in comparison.metrics[1:]),
    ]
    if scores.block.n_folds > 1:
        columns.append((f"pooled {metric.title}", lambda row: _pooled(row, metric)))
    if any(row.seen is not None for row in rows):
        columns.append(("seen in pretraining", _seen))
    grid = table([name for name, _ in columns], [[cell(r) for _, cell in columns] for r in rows])
    return joined_parts([verdict(found, metric), grid])


def verdict(found: Standing | None, metric: Metric) -> Markup:
    """Which method is best, if that can be told; nothing where there is but one."""
    if found is None:
        return Markup("")
    tested = f"{found.test}, p = {p_value(found.p)}".replace("= <", "<")
    if found.ahead:
        said = f"is better in {metric.title} than every other method beyond chance; closest is"
    else:
        said = f"has the best {metric.title}, but cannot be told from"
    return rendered("verdict.html", best=found.best, said=said, rival=found.rival, tested=tested)


def axis_of(rows: Sequence[MethodScores], metric: Metric) -> Axis:
    """An axis that holds all means and intervals of a metric."""
    scores = [row.scores[metric.name] for row in rows]
    values = np.array([each for s in scores for each in (s.mean, s.low, s.high)])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else metric.bounds
    chance = CHANCE.get(metric.name)
    if chance is not None and low - (high - low) <= chance:
        low, high = min(low, chance), max(high, chance)
    within = chance if chance is not None and low <= chance <= high else None
    return Axis(low=low, high=high if high > low else low + 1e-6, chance=within)


def _main_columns(
    comparison: Comparison, rows: Sequence[MethodScores], *, looks: Looks, found: Standing | None
) -> list[Column]:
    metric = comparison.metric
    axis = axis_of(rows, metric)
    best = found.best if found is not None and found.ahead else ""
    ends = f"{number(axis.low)} to {number(axis.high)}"
    return [
        ("method", lambda row: _name(row, looks, best=best)),
        (metric.title, lambda row: _mean(row, metric)),
        (f"{1 - comparison.settings.alpha:.0%} interval", lambda row: _interval(row, metric)),
        (ends, lambda row: _drawn(row, metric, axis=axis, colour=looks[row.method].colour)),
    ]


def _delta_columns(rows: Sequence[MethodScores]) -> list[Column]:
    shown = {control for row in rows for control in row.deltas}
    return [
        (title, partial(_delta, control=control))
        for control, title in DELTA_TITLES.items()
        if control in shown
    ]


def _name(row: MethodScores, looks: Looks, *, best: str) -> Markup:
    tag = "control" if row.control else "best" if row.method == best else ""
    colour = looks[row.method].colour
    return rendered("method.html", name=row.method, colour=colour, tag=tag, best=tag == "best")


def _mean_of(metric: Metric) -> Callable[[MethodScores], Cell]:
    return lambda row: number(row.scores[metric.name].mean)


def _mean(row: MethodScores, metric: Metric) -> str:
    score = row.scores[metric.name]
    return number(score.mean) + ("" if math.isnan(score.sd) else f" ± {number(score.sd)}")


def _interval(row: MethodScores, metric: Metric) -> str | None:
    score = row.scores[metric.name]
    return None if math.isnan(score.low) else f"{number(score.low)} – {number(score.high)}"


def _drawn(row: MethodScores, metric: Metric, *, axis: Axis, colour: str) -> Markup:
    score = row.scores[metric.name]
    label = f"{metric.title} {number(score.mean)}, interval {_interval(row, metric) or 'not known'}"
    places = {name: axis.place(getattr(score, name)) for name in ("low", "high")}
    return rendered(
        "forest.html", label=label, colour=colour, value=axis.place(score.mean),
        chance=axis.place(axis.chance), **places,
    )  # fmt: skip


def _pooled(row: MethodScores, metric: Metric) -> str:
    score = row.scores[metric.name]
    inside = f"{number(score.pooled_low)} – {number(score.pooled_high)}"
    return number(score.pooled) + ("" if math.isnan(score.pooled_low) else f" ({inside})")


def _delta(row: MethodScores, *, control: str) -> str | None:
    delta = row.deltas.get(control)
    if delta is None:
        return None
    inside = f"{signed(delta.low)} to {signed(delta.high)}"
    return signed(delta.difference) + ("" if math.isnan(delta.low) else f" ({inside})")


def _seen(row: MethodScores) -> str:
    return "not known" if row.seen is None else f"{row.seen:.0%} of test slides"
