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
    figure = new_figure(8.4, 4.6)
    axis = figure.subplots()
    placed = [(row, row.tiles_per_s) for row in rows if row.tiles_per_s is not None]
    for row, speed in placed:
        _point(axis, row, speed)
    _limits(axis, [speed for _, speed in placed])
    for row in rows:
        if row.tiles_per_s is None:
            axis.axhline(row.auc.mean, color=_CONTROL, linewidth=1, linestyle="--", zorder=0)
    _label(axis, rows)
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
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axis.set_xscale("log")
    axis.set_xlim(min(speeds) / 1.5, max(speeds) * 1.5)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _label(axis: "Axes", rows: Sequence[EncoderRow]) -> None:
    """Names beside the plot, in the order of their heights, each with a line to its point."""
    (low, high), (_, right) = axis.get_ylim(), axis.get_xlim()
    ordered = sorted(rows, key=lambda row: row.auc.mean)
    heights = _apart([row.auc.mean for row in ordered], gap=0.05 * (high - low), top=high)
    for row, height in zip(ordered, heights, strict=True):
        axis.annotate(
            row.name, (right if row.tiles_per_s is None else row.tiles_per_s, row.auc.mean),
            xytext=(1.03, (height - low) / (high - low)), textcoords="axes fraction",
            fontsize=8, color=_colour(row), va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": _colour(row),
                        "linewidth": 0.6, "alpha": 0.5},
        )  # fmt: skip


def _apart(heights: Sequence[float], *, gap: float, top: float) -> list[float]:
    """Rising heights at least ``gap`` apart, moved up where needed, and down again from the top."""
    found: list[float] = []
    for height in heights:
        found.append(max(height, found[-1] + gap) if found else height)
    ceiling = top
    for k in reversed(range(len(found))):
        found[k] = min(found[k], ceiling)
        ceiling = found[k] - gap
    return found
