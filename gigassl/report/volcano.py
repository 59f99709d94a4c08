"""Volcano: all targets of a screen, how well each is predicted against how surely."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gigassl.evaluate.findings import Finding
from gigassl.report.figures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TITLES = {"auc": "AUC inside folds, patients", "spearman": "rank correlation inside folds"}
_CHANCE = {"auc": 0.5, "spearman": 0.0}
_NAMED = 12
_MOST = 40.0  # smaller p-values are drawn there
_LETTER, _LINE, _GAP = 0.0125, 0.03, 0.012  # of a label, in parts of the panel
_FOUND, _OTHER = "#c1442e", "#9aa5ab"


def save_volcano(findings: Sequence[Finding], path: Path, *, alpha: float = 0.05) -> None:
    """Draws ``path``.png and ``path``.svg: one panel a metric, the best targets by name.

    Raises:
        MachineError: it cannot be written.
    """
    tested = [each for each in findings if not math.isnan(each.p)]
    metrics = [name for name in _TITLES if any(each.metric == name for each in tested)]
    figure = new_figure(5.6 * max(1, len(metrics)), 4.6)
    panels = figure.subplots(1, max(1, len(metrics)), squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=False):
        _draw(panel, [each for each in tested if each.metric == metric], alpha=alpha)
    save_figure(figure, path)


def _draw(panel: "Axes", findings: Sequence[Finding], *, alpha: float) -> None:
    metric = findings[0].metric
    found = [each for each in findings if each.q < alpha]
    others = [each for each in findings if not each.q < alpha]
    for group, colour, label in (
        (others, _OTHER, f"{len(others)} others"),
        (found, _FOUND, f"{len(found)} with q < {alpha:g}"),
    ):
        points = [(each.value, _height(each)) for each in group]
        x, y = zip(*points, strict=True) if points else ((), ())
        panel.scatter(x, y, s=16, color=colour, linewidths=0, alpha=0.8, label=label)
    panel.axvline(_CHANCE[metric], color="#444444", linewidth=0.8, linestyle=(0, (4, 3)))
    panel.set_xlabel(_TITLES[metric], fontsize=9)
    panel.set_ylabel(r"$-\log_{10}$ p (one-sided)", fontsize=9)
    panel.set_ylim(bottom=-0.03 * panel.get_ylim()[1])
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=8, edgecolor="none", framealpha=0.9, loc="upper left")
    if any(_height(each) >= _MOST for each in findings):
        panel.set_title(
            rf"drawn at {_MOST:g}: p below $10^{{-{_MOST:g}}}$", fontsize=8, loc="right"
        )
    panel.margins(x=0.12)
    best = sorted(found, key=lambda each: (-_height(each), -each.value))
    _name(panel, best, findings)


def _height(each: Finding) -> float:
    return min(_MOST, -math.log10(max(each.p, 1e-300)))


def _name(panel: "Axes", best: Sequence[Finding], everything: Sequence[Finding]) -> None:
    """Names beside the best points, left or right of them, where nothing else is."""
    panel.autoscale_view()  # the limits are drawn lazily, and places depend on them
    place, n_named = panel.transLimits.transform, 0
    points = [tuple(place((each.value, _height(each)))) for each in everything]
    taken = [(x, x, y) for x, y in points]
    for each in best:
        if n_named == _NAMED:
            break
        x, y = place((each.value, _height(each)))
        width = _LETTER * len(each.target)
        for side, begin in (("right", x - _GAP - width), ("left", x + _GAP)):
            end = begin + width
            hits = (abs(y - row) < _LINE and begin < last and first < end
                    for first, last, row in taken)  # fmt: skip
            if begin > 0 and end < 1 and not any(hits):
                panel.annotate(
                    each.target, (x - _GAP if side == "right" else x + _GAP, y),
                    xycoords="axes fraction", fontsize=7, ha=side, va="center",
                )  # fmt: skip
                taken.append((begin, end, y))
                n_named += 1
                break
