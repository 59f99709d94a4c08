"""Forest plot: every method of a table, its score in each fold, their mean and its interval."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gigassl.evaluate.comparison import Comparison
from gigassl.evaluate.scores import BlockScores, MethodScores
from gigassl.report.figures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_METHOD, _CONTROL, _FOLD = "#0072b2", "#777777", "#b9c4cc"
_CHANCE = {"auc": 0.5, "c_index": 0.5, "spearman": 0.0, "r2": 0.0}


def save_forest(comparison: Comparison, stem: Path) -> tuple[Path, ...]:
    """Draws ``stem``.png and ``stem``.svg: a panel for each task at its largest training size.

    Equal comparisons give equal bytes.

    Raises:
        MachineError: they cannot be written.
    """
    tables = _largest(comparison)
    height = sum(0.3 * len(table.rows) + 1.1 for table in tables)
    figure = new_figure(7.4, height + 0.3)
    shares = [len(table.rows) + 3 for table in tables]
    axes = figure.subplots(len(tables), 1, squeeze=False, height_ratios=shares)[:, 0]
    for axis, table in zip(axes, tables, strict=True):
        _draw(axis, table, comparison)
    figure.supxlabel(
        f"dots: folds; bars: their mean with its {1 - comparison.settings.alpha:.0%} interval, "
        "as in the table; grey: controls",
        fontsize=8,
        color="#555555",
    )
    return save_figure(figure, stem)


def _largest(comparison: Comparison) -> list[BlockScores]:
    """Of each task and splits, the table that learned from most slides."""
    found: dict[tuple[str, str, str], BlockScores] = {}
    for table in comparison.tables:
        key = (table.block.task, table.block.split, table.block.level)
        if key not in found or _learned(table) > _learned(found[key]):
            found[key] = table
    return list(found.values())


def _learned(table: BlockScores) -> float:
    known = table.block.n_train[~np.isnan(table.block.n_train)]
    return float(known.mean()) if len(known) else 0.0


def _draw(axis: "Axes", table: BlockScores, comparison: Comparison) -> None:
    name = comparison.metric.name
    for place, row in enumerate(reversed(table.rows)):
        _row(axis, row, metric=name, place=place)
    if name in _CHANCE:
        axis.axvline(_CHANCE[name], color="#bbbbbb", linewidth=0.8, linestyle=":", zorder=0)
    axis.set_yticks(range(len(table.rows)), [row.method for row in reversed(table.rows)])
    for label, row in zip(axis.get_yticklabels(), reversed(table.rows), strict=True):
        label.set_color(_CONTROL if row.control else "black")
    axis.set_ylim(-0.6, len(table.rows) - 0.4)
    axis.set_xlabel(comparison.metric.title, fontsize=9)
    block = table.block
    axis.set_title(f"{block.task} · {block.split} · {block.train_size}", fontsize=10, loc="left")
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, axis="x", color="#e5e5e5", linewidth=0.5)


def _row(axis: "Axes", row: MethodScores, *, metric: str, place: int) -> None:
    score = row.scores[metric]
    colour = _CONTROL if row.control else _METHOD
    known = score.folds[~np.isnan(score.folds)]
    axis.plot(known, np.full(len(known), place), "o", color=_FOLD, markersize=3.5, zorder=1)
    axis.hlines(place, score.low, score.high, color=colour, linewidth=1.6, zorder=2)
    axis.plot([score.mean], [place], "D", color=colour, markersize=5, zorder=3)
