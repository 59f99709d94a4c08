"""Survival on a page: Kaplan–Meier curves of patients with higher and with lower risk."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from markupsafe import Markup

from gigassl.evaluate.blocks import Block, Said
from gigassl.evaluate.kaplan_meier import kaplan_meier
from gigassl.evaluate.scores import BlockScores
from gigassl.report.page.evaluation_parts import BELOW, MARGIN, choice, short
from gigassl.report.page.figure import COLOURS, figure
from gigassl.report.page.section import Cell, heading, joined_parts, table
from gigassl.report.tables import number

_HIGH, _LOW = COLOURS[1], COLOURS[0]
_N_TIMES = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Patients:
    """Patients of one repeat, divided at the median risk of the fold that tests them.

    Attributes:
        time: under observation.
        event: whether it was seen at that time.
        high: whether the risk is above the median of the fold.
    """

    time: Float64[np.ndarray, " patient"]
    event: Bool[np.ndarray, " patient"]
    high: Bool[np.ndarray, " patient"]


def survival_figures(scores: BlockScores, order: Sequence[str]) -> Markup:
    """Kaplan–Meier curves by median risk, a figure a method, one seen at a time; controls aside."""
    said = {each.method: each for each in scores.block.methods if not each.control}
    drawn = [(name, _curves(scores, said[name])) for name in order if name in said]
    if not drawn:
        return Markup("")
    return joined_parts([heading("Survival by predicted risk"), choice("Method", drawn)])


def divided(block: Block, said: Said) -> Patients:
    """Patients of the first repeat: those of a fold are compared with one another only.

    Risks of different folds are of different models, and need not be on one scale. A patient with
    several slides has their mean.
    """
    rows = np.flatnonzero(block.draws == 0)
    keys = np.stack([block.folds[rows], block.patients[rows]], axis=1)
    found, first, of = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    of = of.ravel()
    risk = np.bincount(of, weights=said.output[rows, 0]) / np.bincount(of)
    high = np.zeros(len(found), dtype=bool)
    for fold in np.unique(found[:, 0]):
        here = found[:, 0] == fold
        high[here] = risk[here] > np.median(risk[here])
    one = block.outcome.rows(rows[first])
    return Patients(time=one.target, event=one.died, high=high)


def _curves(scores: BlockScores, said: Said) -> Markup:
    patients = divided(scores.block, said)
    groups = {"higher risk": patients.high, "lower risk": ~patients.high}
    traces = [
        trace
        for (name, chosen), colour in zip(groups.items(), (_HIGH, _LOW), strict=True)
        for trace in _steps(patients, chosen, name=name, colour=colour)
    ]
    row = next(each for each in scores.rows if each.method == said.method)
    score = row.scores["c_index"]
    drawn = figure(
        traces,
        layout={
            "xaxis": {"title": {"text": "time"}, "rangemode": "tozero"},
            "yaxis": {"title": {"text": "without the event"}, "range": [-0.02, 1.04],
                      "tickformat": ".0%"},
            "legend": BELOW, "margin": MARGIN,
        },
        caption=(
            f"Kaplan–Meier estimates with 95 % bands; ticks are censored patients. C-index, mean "
            f"over folds: {number(score.mean)} ({number(score.low)} – {number(score.high)}). "
            "Patients are divided at the median risk of the fold that tests them."
        ),
        alt=f"Survival of patients with higher and lower risk by {said.method}",
        height_px=450,
    )  # fmt: skip
    return joined_parts([drawn, _at_risk(patients, groups)])


def _steps(
    patients: Patients, chosen: Bool[np.ndarray, " patient"], *, name: str, colour: str
) -> Iterator[dict[str, Any]]:
    time, event = patients.time[chosen], patients.event[chosen]
    if not len(time):
        return
    survival = kaplan_meier(time, event)
    # a band goes on to the end of its curve, also where the last patient had the event
    known = np.flatnonzero(np.isfinite(survival.low))
    until = np.r_[survival.time[known], survival.time[-1]]
    low, high = (np.r_[each[known], each[known[-1]]] for each in (survival.low, survival.high))
    step, group = {"shape": "hv", "color": colour}, {"legendgroup": name}
    band = {"x": short(until), "mode": "lines", "hoverinfo": "skip", "showlegend": False}
    edge = {"line": {**step, "width": 0}, **group}
    yield {**band, "y": short(low), **edge}
    yield {**band, "y": short(high), "fill": "tonexty", "fillcolor": _faint(colour), **edge}
    yield {
        "x": short(survival.time), "y": short(survival.share), "mode": "lines",
        "line": {**step, "width": 2.4},
        "name": f"{name} ({len(time)} patients, {int(event.sum())} events)",
        "hovertemplate": f"{name}<br>time %{{x:.4g}}: %{{y:.1%}}<extra></extra>", **group,
    }  # fmt: skip
    yield {
        "x": short(time[~event]), "y": short(survival.at(time[~event])), "mode": "markers",
        "marker": {"symbol": "line-ns-open", "size": 8, "color": colour}, "hoverinfo": "skip",
        "showlegend": False, **group,
    }  # fmt: skip


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"


def _at_risk(patients: Patients, groups: dict[str, np.ndarray]) -> Markup:
    times = np.linspace(0, float(patients.time.max()), _N_TIMES)
    rows: list[list[Cell]] = [
        [name, *(int((patients.time[chosen] >= time).sum()) for time in times)]
        for name, chosen in groups.items()
    ]
    return table(["patients at risk, time", *(f"{time:.3g}" for time in times)], rows)
