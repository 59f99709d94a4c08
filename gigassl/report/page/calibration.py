"""Calibration on a page: reliability diagrams, calibration errors, slopes and intercepts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from gigassl.evaluate.blocks import Block, Said
from gigassl.evaluate.calibration import calibration_fit
from gigassl.evaluate.metric_draws import are_probabilities
from gigassl.evaluate.reliability import reliability
from gigassl.evaluate.scores import BlockScores
from gigassl.report.page.evaluation_parts import BELOW, MARGIN, Look, Looks, choice
from gigassl.report.page.figure import figure, plain_text
from gigassl.report.page.section import Cell, heading, joined_parts, notes, table
from gigassl.report.tables import number

SHOWN_AT_FIRST = 2
"""Methods whose lines are seen before a name is clicked."""


def calibrations(scores: BlockScores, order: Sequence[str], *, looks: Looks) -> Markup:
    """Reliability of the methods in that order, controls aside; one figure a class.

    Methods whose scores are no probabilities are left out, and named.
    """
    block = scores.block
    said = [each for name in order for each in block.methods if each.method == name]
    methods = [each for each in said if not each.control]
    fit = [each for each in methods if are_probabilities(each.output)]
    others = [each.method for each in methods if not are_probabilities(each.output)]
    lines = [f"Left out, because its scores are no probabilities: {name}." for name in others]
    if not fit:
        return joined_parts([heading("Calibration"), notes(lines)])
    numbers = [1] if len(block.classes) == 2 else range(len(block.classes))
    figures = [(block.classes[k], _diagram(block, fit, number=k, looks=looks)) for k in numbers]
    return joined_parts(
        [heading("Calibration"), choice("Class", figures), _errors(scores, fit), notes(lines)]
    )


def _diagram(block: Block, methods: Sequence[Said], *, number: int, looks: Looks) -> Markup:
    name = block.classes[number]
    positive = block.outcome.labels == number
    traces = [_ideal()]
    for place, said in enumerate(methods):
        found = _line(positive, said.output[:, number], look=looks[said.method])
        shown = True if place < SHOWN_AT_FIRST else "legendonly"
        traces.append({**found, "name": plain_text(said.method), "visible": shown})
    unit = {"range": [-0.02, 1.02], "constrain": "domain", "tickformat": ".0%", "dtick": 0.2}
    return figure(
        traces,
        layout={
            "xaxis": {**unit, "title": {"text": f"probability of {plain_text(name)}"}},
            "yaxis": {**unit, "title": {"text": "how often it was true"}, "scaleanchor": "x"},
            "legend": BELOW,
            "margin": MARGIN,
        },
        caption=(
            "Ten bins of as many rows each, those of the calibration error; below the diagonal the "
            "method is too sure of the class. Bars: 95 % intervals, rows taken as independent. "
            + ("A click on a name shows or hides it." if len(methods) > 1 else "")
        ),
        alt=f"Reliability of the probability of {name} by {len(methods)} methods",
        height_px=430 + 14 * len(methods),
    )  # fmt: skip


def _ideal() -> dict[str, Any]:
    return {
        "x": [0, 1], "y": [0, 1], "mode": "lines", "hoverinfo": "skip", "showlegend": False,
        "line": {"color": "var(--muted)", "width": 1, "dash": "dash"},
    }  # fmt: skip


def _line(positive: np.ndarray, probability: np.ndarray, *, look: Look) -> dict[str, Any]:
    bins = reliability(positive, probability)
    return {
        "x": bins.said, "y": bins.share, "mode": "lines+markers", "customdata": bins.n,
        "error_y": {
            "type": "data", "symmetric": False, "array": bins.high - bins.share,
            "arrayminus": bins.share - bins.low, "thickness": 1.2, "width": 0,
        },
        "line": {"color": look.colour, "width": 2},
        "marker": {"size": 8, "symbol": look.symbol, "color": look.colour},
        "hovertemplate": "%{fullData.name}<br>said %{x:.1%}, true %{y:.1%} of %{customdata}"
        "<extra></extra>",
    }  # fmt: skip


def _errors(scores: BlockScores, methods: Sequence[Said]) -> Markup:
    """Errors as the tables have them; slope and intercept where there are two classes."""
    block, rows = scores.block, {row.method: row for row in scores.rows}
    binary = len(block.classes) == 2
    cells: list[list[Cell]] = []
    for said in methods:
        score = rows[said.method].scores["calibration_error"]
        cells.append([said.method, number(score.pooled), number(score.mean)])
        if binary:
            fit = calibration_fit(block.outcome.labels, said.output[:, 1])
            cells[-1] += [number(fit.slope), number(fit.intercept)]
    header = ["method", "ECE, pooled", "ECE, mean of folds", *(("slope", "intercept") * binary)]
    return table(header, cells)
