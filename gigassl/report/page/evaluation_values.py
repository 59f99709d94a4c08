"""Regression on a page: what was predicted against what was true."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from markupsafe import Markup

from gigassl.evaluate.blocks import Block, Said
from gigassl.evaluate.scores import BlockScores
from gigassl.report.page.evaluation_parts import MARGIN, Looks, choice, short
from gigassl.report.page.figure import figure, plain_text
from gigassl.report.page.section import heading, joined_parts
from gigassl.report.tables import number

MOST_POINTS = 1000
"""Slides drawn, at most, lest many methods make a large page; what is left out is said."""


def value_figures(scores: BlockScores, order: Sequence[str], *, looks: Looks) -> Markup:
    """A scatter plot a method, one seen at a time; controls aside."""
    said = {each.method: each for each in scores.block.methods if not each.control}
    drawn = [(name, _scatter(scores, said[name], looks=looks)) for name in order if name in said]
    if not drawn:
        return Markup("")
    return joined_parts([heading("Predicted against true"), choice("Method", drawn)])


def slide_means(
    block: Block, said: Said
) -> tuple[list[str], Float64[np.ndarray, " slide"], Float64[np.ndarray, " slide"]]:
    """Slides, what was true of each, and the mean of what its folds and repeats predicted."""
    names, numbers = np.unique(np.array(block.slide_ids, dtype=object), return_inverse=True)
    times = np.bincount(numbers)
    true, value = (
        np.bincount(numbers, weights=each) / times
        for each in (block.outcome.target, said.output[:, 0])
    )
    return names.tolist(), true, value


def _scatter(scores: BlockScores, said: Said, *, looks: Looks) -> Markup:
    names, true, value = slide_means(scores.block, said)
    every = -(-len(names) // MOST_POINTS)
    row = next(each for each in scores.rows if each.method == said.method)
    ends = [float(true.min()), float(true.max())]
    look = looks[said.method]
    points = {
        "mode": "markers", "x": short(true[::every]), "y": short(value[::every]),
        "text": [plain_text(n) for n in names[::every]],
        "marker": {"color": look.colour, "size": 7, "opacity": 0.65, "symbol": look.symbol},
        "hovertemplate": "%{text}<br>true %{x:.4g}, predicted %{y:.4g}<extra></extra>",
        "showlegend": False,
    }  # fmt: skip
    ideal = {
        "x": ends, "y": ends, "mode": "lines", "hoverinfo": "skip", "showlegend": False,
        "line": {"color": "var(--muted)", "width": 1, "dash": "dash"},
    }  # fmt: skip
    shown = f"{len(names):,} slides" if every == 1 else f"one in {every} of {len(names):,} slides"
    worth = ", ".join(f"{t} {number(row.scores[m].mean)}" for m, t in _SHOWN.items())
    return figure(
        [ideal, points],
        layout={
            "xaxis": {"title": {"text": f"true {plain_text(scores.block.task)}"}},
            "yaxis": {"title": {"text": "predicted"}},
            "margin": MARGIN,
        },
        caption=f"{shown}, the mean of all their predictions. Mean over folds: {worth}.",
        alt=f"What {said.method} predicted of {scores.block.task} against what was true",
        height_px=440,
    )


_SHOWN = {"spearman": "Spearman ρ", "r2": "R²"}
