"""Learning curves: a metric against the number of slides that were learned from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from gigassl.evaluate.comparison import Comparison
from gigassl.evaluate.intervals import BOOTSTRAP, RESAMPLED_T
from gigassl.evaluate.scores import BlockScores, MethodScores
from gigassl.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito, told apart by the colour-blind; yellow is too light for a line
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "osD^vPX"
_GREY = "#8a8a8a"
_LONGEST, _LETTER = 44, 0.07  # letters of a name beside its line, and inches of one
_WIDEST = 14.0  # inches of two panels
_LINE = 0.165  # inches between names
_TURN, _NAME = 1.01, 1.05  # where leaders leave their heights, and names begin; in panel widths
CHANCE = {"auc": 0.5, "c_index": 0.5, "spearman": 0.0, "r2": 0.0}
"""What a metric is of predictions that know nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """One method over training sizes.

    Attributes:
        name: of the method.
        control: whether it is one.
        n_train: slides learned from, rising.
        value, low, high: mean over folds with its interval, as in the tables.
    """

    name: str
    control: bool
    n_train: Float64[np.ndarray, " size"]
    value: Float64[np.ndarray, " size"]
    low: Float64[np.ndarray, " size"]
    high: Float64[np.ndarray, " size"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One task on one set of splits at several training sizes.

    Attributes:
        title: of the panel.
        sizes: name of each training size, by the slides learned from, rising.
        curves: one a method.
    """

    title: str
    sizes: tuple[tuple[float, str], ...]
    curves: tuple[Curve, ...]


def panels_of(comparison: Comparison) -> tuple[Panel, ...]:
    """A panel for every task and splits with two training sizes or more, where sizes are known."""
    groups: dict[tuple[str, str, str], list[BlockScores]] = {}
    for table in comparison.tables:
        block = table.block
        if not np.isnan(block.n_train).all():
            groups.setdefault((block.task, block.split, block.level), []).append(table)
    return tuple(
        _panel(" · ".join(key[:2]), tables, metric=comparison.metric.name)
        for key, tables in groups.items()
        if len({_learned(table) for table in tables}) > 1
    )


def save_learning_curves(comparison: Comparison, stem: Path) -> tuple[Path, ...]:
    """Draws ``stem.png`` and ``stem.svg``; nothing where there is a single training size.

    Equal comparisons give equal bytes.

    Raises:
        MachineError: they cannot be written.
    """
    import matplotlib as mpl

    panels = panels_of(comparison)
    if not panels:
        return ()
    # text stays text, and names inside the SVG do not change from run to run
    with mpl.rc_context({"svg.hashsalt": "gigassl", "svg.fonttype": "none"}):
        figure = drawn(comparison, panels)
        paths = (stem.with_suffix(".png"), stem.with_suffix(".svg"))
        for path in paths:
            kind = path.suffix[1:]
            about = {"Date": None} if kind == "svg" else {"Software": None}
            with written_whole(path) as part:
                figure.savefig(part, dpi=150, format=kind, metadata=about)
    return paths


def _learned(table: BlockScores) -> float:
    return float(np.nanmean(table.block.n_train))


def _panel(title: str, tables: Sequence[BlockScores], *, metric: str) -> Panel:
    tables = sorted(tables, key=_learned)
    names = dict.fromkeys(row.method for table in tables for row in table.rows)
    sizes = tuple((_learned(table), table.block.train_size) for table in tables)
    return Panel(
        title=title, sizes=sizes, curves=tuple(_curve(n, tables, metric=metric) for n in names)
    )


def _curve(name: str, tables: Sequence[BlockScores], *, metric: str) -> Curve:
    found: list[tuple[float, MethodScores]] = [
        (_learned(table), row) for table in tables for row in table.rows if row.method == name
    ]
    scores = [row.scores[metric] for _, row in found]
    return Curve(
        name=name,
        control=bool(found[0][1].control),
        n_train=np.array([n for n, _ in found]),
        value=np.array([score.mean for score in scores]),
        low=np.array([score.low for score in scores]),
        high=np.array([score.high for score in scores]),
    )


def drawn(comparison: Comparison, panels: Sequence[Panel]) -> "Figure":
    """The panels beside one another where two are not too wide, else below one another."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = _size_of(panels)
    columns = min(2 if 2 * width <= _WIDEST else 1, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel, comparison, gap=_LINE / (height - 1.2))
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel(_caption(comparison), fontsize=8, color="#555555")
    return figure


def _size_of(panels: Sequence[Panel]) -> tuple[float, float]:
    """Inches of a panel: room for its longest name, and for all names below one another."""
    names = [[_short(curve.name) for curve in panel.curves] for panel in panels]
    longest = max(len(name) for each in names for name in each)
    return 4.9 + _LETTER * longest, max(4.2, 1.4 + _LINE * max(map(len, names)))


def _caption(comparison: Comparison) -> str:
    inside = f"{1 - comparison.settings.alpha:.0%} interval"
    words = {
        RESAMPLED_T: f"method trained anew ({RESAMPLED_T})",
        BOOTSTRAP: "models as trained (bootstrap over patients)",
    }
    used = {
        row.scores[comparison.metric.name].interval
        for table in comparison.tables
        for row in table.rows
        if not row.control
    }
    how = " or ".join(text for name, text in words.items() if name in used)
    return f"mean over folds; bars: {inside}, {how}; dashed grey: controls"


def _draw(axis: "Axes", panel: Panel, comparison: Comparison, *, gap: float) -> None:
    methods = [curve for curve in panel.curves if not curve.control]
    controls = [curve for curve in panel.curves if curve.control]
    for number, curve in enumerate([*controls, *methods]):
        own = number - len(controls)
        _line(axis, curve, number=None if curve.control else own,
              offset=_offset(number, len(panel.curves)))  # fmt: skip
    name = comparison.metric.name
    if name in CHANCE:
        axis.axhline(CHANCE[name], color="#bbbbbb", linewidth=0.8, linestyle=":", zorder=0)
    axis.set_xscale("log")
    axis.minorticks_off()
    axis.set_xticks([n for n, _ in panel.sizes], [_size(n, text) for n, text in panel.sizes])
    axis.set_xlabel("slides learned from", fontsize=9)
    axis.set_ylabel(comparison.metric.title, fontsize=9)
    axis.set_title(panel.title, fontsize=10, loc="left")
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, axis="y", color="#e5e5e5", linewidth=0.5)
    _labels(axis, [*controls, *methods], gap=gap)


def _offset(number: int, n_curves: int) -> float:
    """Bars of methods stand beside one another, not over one another."""
    return float(1.012 ** (number - (n_curves - 1) / 2))


def _size(n: float, text: str) -> str:
    return text if text == f"{n:.0f}" else f"{text}\n({n:.0f})"


def _look(number: int | None) -> tuple[str, str, str]:
    """Colour, line and marker; None: a control."""
    if number is None:
        return _GREY, "--", "."
    return COLOURS[number % len(COLOURS)], "-", MARKERS[number % len(MARKERS)]


def _line(axis: "Axes", curve: Curve, *, number: int | None, offset: float) -> None:
    colour, line, marker = _look(number)
    x, known = curve.n_train * offset, ~np.isnan(curve.low)
    weight = 1.0 if curve.control else 1.8
    axis.plot(x, curve.value, line, color=colour, linewidth=weight, marker=marker, markersize=5)
    if not curve.control:
        axis.vlines(x[known], curve.low[known], curve.high[known], color=colour, linewidth=1.0)


def _labels(axis: "Axes", curves: Sequence[Curve], *, gap: float) -> None:
    """Names at the right of their lines, moved apart where they would touch.

    Leaders run at their own height to one turning place, and from there to the left edges of the
    names, which stand in the order of the heights: so they cross neither names nor one another.
    """
    axis.set_xlim(axis.get_xlim())  # limits are lazy, and places depend on them
    low, high = axis.get_ylim()
    axis.set_ylim(low, high)
    places = apart(np.array([curve.value[-1] for curve in curves]), gap=gap * (high - low),
                   within=(low, high))  # fmt: skip
    n_controls = sum(curve.control for curve in curves)
    across, beside = axis.transScale + axis.transLimits, axis.get_yaxis_transform()
    for number, (curve, place) in enumerate(zip(curves, places, strict=True)):
        if np.isnan(place):
            continue
        colour, _, _ = _look(None if curve.control else number - n_controls)
        end = curve.value[-1]
        begin = across.transform((curve.n_train[-1] * _offset(number, len(curves)), end))[0]
        axis.plot(
            [begin, _TURN, _NAME - 0.008], [end, end, place], color=colour, linewidth=0.5,
            transform=beside, clip_on=False, zorder=0.5,
        )  # fmt: skip
        colour = "#555555" if curve.control else colour
        axis.text(
            _NAME, place, _short(curve.name), fontsize=8, color=colour, va="center",
            transform=beside,
        )  # fmt: skip


def _short(name: str) -> str:
    """A name of at most so many letters; longer ones lack their middle, and are in the tables."""
    half = (_LONGEST - 1) // 2
    return name if len(name) <= _LONGEST else f"{name[:half].rstrip()}…{name[-half:].lstrip()}"


def apart(
    wanted: Float64[np.ndarray, " label"], *, gap: float, within: tuple[float, float]
) -> Float64[np.ndarray, " label"]:
    """Places nearest to the wanted ones, at least ``gap`` apart in the same order, NaN for NaN.

    All lie within the two bounds where these have room for so many.
    """
    order = np.argsort(wanted, kind="stable")
    known = order[~np.isnan(wanted[order])]
    placed = np.full(len(wanted), np.nan)
    if not len(known):
        return placed
    # at least a gap apart in order = rising, after the steps are taken off: isotonic regression
    from sklearn.isotonic import IsotonicRegression

    steps = gap * np.arange(len(known))
    low, high = within[0], within[1] - steps[-1]
    fitted = IsotonicRegression().fit_transform(np.arange(len(known)), wanted[known] - steps)
    placed[known] = np.clip(fitted, min(low, high), max(low, high)) + steps
    return placed
