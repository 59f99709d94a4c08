"""Plot of tile encoders: how well the linear probe does against how fast they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gigassl.report.encoder_table import EncoderRow
from gigassl.report.figures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ENCODER, _CONTROL = "#0072b2", "#777777"


def save_speed_plot(
    rows: Sequence[EncoderRow], stem: Path, *, title: str, conditions: str
) -> tuple[Path, ...]:
    """Draws ``stem``.png and ``stem``.svg; what has no speed is a line across.

    Args:
        rows: encoders and controls.
        stem: of the files.
        title: what stands above.
        conditions: under which the speed was measured.

    Raises:
        MachineError: they cannot be written.
    """
    figure = new_figure(7.4, 4.6)
    axis = figure.subplots()
    placed = [(row, row.tiles_per_s) for row in rows if row.tiles_per_s is not None]
    for row, speed in placed:
        _point(axis, row, speed)
    _limits(axis, [speed for _, speed in placed])
    for row in rows:
        if row.tiles_per_s is None:
            _line(axis, row)
    _label(axis, placed)
    axis.set_xlabel(f"tiles/s ({conditions})", fontsize=8)
    axis.set_ylabel("AUC of the linear probe, with its interval", fontsize=8)
    axis.set_title(title, fontsize=9, loc="left")
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, color="#e5e5e5", linewidth=0.5)
    return save_figure(figure, stem)


def _colour(row: EncoderRow) -> str:
    return _CONTROL if row.control else _ENCODER


def _point(axis: "Axes", row: EncoderRow, speed: float) -> None:
    score = row.auc
    axis.vlines(speed, score.low, score.high, color=_colour(row), linewidth=1.4, alpha=0.6)
    axis.plot([speed], [score.mean], "o" if row.control else "D", color=_colour(row), markersize=6)


def _limits(axis: "Axes", speeds: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    axis.set_xscale("log")
    # names stand to the right of their points
    axis.set_xlim(min(speeds) / 1.6, max(speeds) * 3)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(NullFormatter())


def _line(axis: "Axes", row: EncoderRow) -> None:
    axis.axhline(row.auc.mean, color=_CONTROL, linewidth=1, linestyle="--", zorder=0)
    axis.annotate(
        row.name, (0.995, row.auc.mean), xycoords=("axes fraction", "data"), xytext=(0, 3),
        textcoords="offset points", fontsize=7.5, color=_CONTROL, ha="right",
    )  # fmt: skip


def _label(axis: "Axes", placed: Sequence[tuple[EncoderRow, float]]) -> None:
    """Names to the right of their points, moved up where they would lie on one another."""
    low, high = axis.get_ylim()
    last = float("-inf")
    for row, speed in sorted(placed, key=lambda each: each[0].auc.mean):
        last = max(row.auc.mean, last + 0.05 * (high - low))
        axis.text(
            speed * 1.06, last, row.name, fontsize=8, color=_colour(row), va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )  # fmt: skip
