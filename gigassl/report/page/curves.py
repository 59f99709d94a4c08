"""Learning curves on a page: a metric against the slides that were learned from."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from gigassl.evaluate.comparison import Comparison
from gigassl.report.learning_curves import CHANCE, Curve, Panel, panels_of
from gigassl.report.page.evaluation_parts import BELOW, MARGIN, Look, Looks
from gigassl.report.page.figure import figure, plain_text
from gigassl.report.page.section import heading, joined_parts

Trace = dict[str, Any]


def curve_figures(comparison: Comparison, *, looks: Looks) -> Markup:
    """One figure a task and splits with several training sizes; nothing where there is no such.

    Linear probes and MIL models that were run on the same splits stand in the same figure.
    """
    found = [_figure(comparison, panel, looks=looks) for panel in panels_of(comparison)]
    return joined_parts([heading("Learning curves"), *found]) if found else Markup("")


def _figure(comparison: Comparison, panel: Panel, *, looks: Looks) -> Markup:
    metric = comparison.metric
    traces = [
        trace
        for curve in sorted(panel.curves, key=lambda curve: curve.control)
        for trace in _traces(curve, looks[curve.name], metric=metric.title)
    ]
    inside = f"{1 - comparison.settings.alpha:.0%} intervals"
    return figure(
        traces,
        layout=_layout(comparison, panel),
        caption=(
            f"{panel.title}: mean {metric.title} over folds. Bands, and what the pointer shows in "
            f"brackets, are {inside}; controls are dotted. A click on a name hides it, a double "
            "click leaves it alone."
        ),
        alt=f"{metric.title} of {len(panel.curves)} methods at {len(panel.sizes)} training sizes",
        height_px=470 + 12 * len(panel.curves),
    )


def _traces(curve: Curve, look: Look, *, metric: str) -> Iterator[Trace]:
    group = {"legendgroup": plain_text(curve.name)}
    known = ~np.isnan(curve.value)
    banded = known & ~np.isnan(curve.low)
    n, low, high = curve.n_train[banded], curve.low[banded], curve.high[banded]
    if len(n) > 1 and not curve.control:
        yield {
            "x": np.r_[n, n[::-1]], "y": np.r_[high, low[::-1]], "fill": "toself", "opacity": 0.16,
            "fillcolor": look.colour, "line": {"width": 0}, "mode": "lines", "hoverinfo": "skip",
            "showlegend": False, **group,
        }  # fmt: skip
    yield {
        "x": curve.n_train[known], "y": curve.value[known], "mode": "lines+markers",
        "name": plain_text(curve.name), "text": _intervals(curve, known),
        "hovertemplate": f"%{{fullData.name}}<br>%{{x:.0f}} slides: {metric} %{{y:.3f}}%{{text}}"
        "<extra></extra>",
        "line": {"color": look.colour, "dash": look.dash, "width": 1.4 if curve.control else 2.4},
        "marker": {"size": 6 if curve.control else 9, "symbol": look.symbol, "color": look.colour},
        "opacity": 0.8 if curve.control else 1.0, **group,
    }  # fmt: skip


def _intervals(curve: Curve, known: np.ndarray) -> list[str]:
    return [
        "" if np.isnan(low) else f" ({low:.3f} – {high:.3f})"
        for low, high in zip(curve.low[known], curve.high[known], strict=True)
    ]


def _layout(comparison: Comparison, panel: Panel) -> Trace:
    metric = comparison.metric
    layout: Trace = {
        "xaxis": {
            "type": "log", "title": {"text": "slides learned from"}, "tickmode": "array",
            "tickvals": [n for n, _ in panel.sizes], "ticktext": _ticks(panel.sizes),
            "minor": {"showgrid": False},
        },
        "yaxis": {"title": {"text": metric.title}},
        "legend": BELOW,
        "margin": MARGIN,
        "hovermode": "closest",
    }  # fmt: skip
    if metric.name in CHANCE:
        level = CHANCE[metric.name]
        layout["shapes"] = [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level,
             "line": {"color": "var(--muted)", "width": 1, "dash": "dash"}, "layer": "below"}
        ]  # fmt: skip
        layout["annotations"] = [
            {"xref": "paper", "x": 1, "xanchor": "right", "y": level, "yanchor": "bottom",
             "text": "chance", "showarrow": False, "font": {"color": "var(--muted)", "size": 12}}
        ]  # fmt: skip
    return layout


def _ticks(sizes: Sequence[tuple[float, str]]) -> list[str]:
    """The number of slides, and below it the size's own name where that is another."""
    return [
        f"{n:.0f}" if name == f"{n:.0f}" else f"{n:.0f}<br>{plain_text(name)}" for n, name in sizes
    ]
