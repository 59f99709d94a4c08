"""Learning curves: a metric against the number of slides that were learned from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from gigassl.evaluate.comparison import Comparison
from gigassl.evaluate.scores import BlockScores, MethodScores
from gigassl.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito, told apart by the colour-blind; yellow is too light for a line
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "osD^vPX"
_GREY = "#8a8a8a"
_CHANCE = {"auc": 0.5, "c_index": 0.5, "spearman": 0.0, "r2": 0.0}


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """One method over training sizes.

    Attributes:
        name: of the method.
        control: whether it is one.
        n_train: slides learned from, rising.
        value, low, high: mean over folds with its interval from the bootstrap over patients.
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
        figure = _figure(comparison, panels)
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


def _figure(comparison: Comparison, panels: Sequence[Panel]) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6.6 * columns, 4.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel, comparison)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    settings = comparison.settings
    figure.supxlabel(
        f"mean over folds; bars: {1 - settings.alpha:.0%} bootstrap interval over test patients, "
        "models as trained; dashed grey: controls",
        fontsize=8,
        color="#555555",
    )
    return figure


def _draw(axis: "Axes", panel: Panel, comparison: Comparison) -> None:
    methods = [curve for curve in panel.curves if not curve.control]
    controls = [curve for curve in panel.curves if curve.control]
    shift = 1.012  # bars of methods beside one another, not over one another
    for number, curve in enumerate([*controls, *methods]):
        own = number - len(controls)
        offset = shift ** (number - (len(panel.curves) - 1) / 2)
        _line(axis, curve, number=None if curve.control else own, offset=offset)
    name = comparison.metric.name
    if name in _CHANCE:
        axis.axhline(_CHANCE[name], color="#bbbbbb", linewidth=0.8, linestyle=":", zorder=0)
    axis.set_xscale("log")
    axis.minorticks_off()
    axis.set_xticks([n for n, _ in panel.sizes], [_size(n, text) for n, text in panel.sizes])
    axis.set_xlabel("slides learned from", fontsize=9)
    axis.set_ylabel(comparison.metric.title, fontsize=9)
    axis.set_title(panel.title, fontsize=10, loc="left")
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, axis="y", color="#e5e5e5", linewidth=0.5)
    _labels(axis, [*controls, *methods], n_controls=len(controls))


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


def _labels(axis: "Axes", curves: Sequence[Curve], *, n_controls: int) -> None:
    """Names at the right ends of their lines, moved apart where they would touch."""
    low, high = axis.get_ylim()
    gap = 0.052 * (high - low)
    places = apart(np.array([curve.value[-1] for curve in curves]), gap=gap)
    right = max(float(curve.n_train[-1]) for curve in curves)
    for number, (curve, place) in enumerate(zip(curves, places, strict=True)):
        if np.isnan(place):
            continue
        colour, _, _ = _look(None if curve.control else number - n_controls)
        axis.annotate(
            curve.name,
            (curve.n_train[-1], curve.value[-1]),
            xytext=(right * 1.12, place),
            fontsize=8,
            color="#555555" if curve.control else colour,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkB": 4},
        )


def apart(wanted: Float64[np.ndarray, " label"], *, gap: float) -> Float64[np.ndarray, " label"]:
    """Places nearest to the wanted ones that lie at least ``gap`` apart, in the same order."""
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    # at least a gap apart in order = rising, after the steps are taken off: isotonic regression
    from sklearn.isotonic import IsotonicRegression

    known = order[~np.isnan(wanted[order])]
    placed = np.full(len(wanted), np.nan)
    if len(known):
        ranks = np.arange(len(known))
        fitted = IsotonicRegression().fit_transform(ranks, wanted[known] - steps[: len(known)])
        placed[known] = fitted + steps[: len(known)]
    return placed
