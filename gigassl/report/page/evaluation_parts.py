"""Parts that all sections on evaluation share: looks of methods, choices, figures side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from markupsafe import Markup

from gigassl.evaluate.scores import BlockScores
from gigassl.report.page.figure import COLOURS
from gigassl.report.page.section import rendered

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "x", "hexagon")
_CONTROL = "#8d929a"

BELOW = {
    "orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom",
    "font": {"color": "var(--text)"},
}  # fmt: skip
"""A legend at the lower end of its figure, which takes its height from the drawing."""

MARGIN = {"l": 64, "r": 16, "t": 12, "b": 56}
"""Pixels around a figure with titles at its axes."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a method is drawn wherever it stands on the page.

    Attributes:
        colour: of lines, points and swatches; the same grey for all controls.
        symbol: of its points, so that colours need not be told apart.
        dash: of its lines.
    """

    colour: str
    symbol: str
    dash: str


def looks_of(tables: Iterable[BlockScores]) -> dict[str, Look]:
    """One look a method, in the order in which methods are first met."""
    rows = [row for table in tables for row in table.rows]
    methods = dict.fromkeys(row.method for row in rows if not row.control)
    controls = dict.fromkeys(row.method for row in rows if row.control)
    looks = {
        name: Look(
            colour=COLOURS[k % len(COLOURS)],
            symbol=_SYMBOLS[k % len(_SYMBOLS)],
            dash="solid" if k < len(COLOURS) else "dash",
        )
        for k, name in enumerate(methods)
    }
    return looks | {
        name: Look(colour=_CONTROL, symbol=f"{_SYMBOLS[k % len(_SYMBOLS)]}-open", dash="dot")
        for k, name in enumerate(controls)
    }


Looks = Mapping[str, Look]


def choice(label: str, options: Sequence[tuple[str, Markup]]) -> Markup:
    """Bodies of which one is seen at a time; a single one stands without a choice."""
    if len(options) == 1:
        return options[0][1]
    return rendered("choice.html", label=label, options=list(options))


def side_by_side(parts: Sequence[Markup]) -> Markup:
    """Parts beside one another where the page is wide enough."""
    return rendered("pair.html", parts=[part for part in parts if part])


def named_size(table: BlockScores) -> str:
    """A training size as choices call it, with its number of slides where that is known."""
    size, known = table.block.train_size, table.block.n_train[~np.isnan(table.block.n_train)]
    if not len(known) or size == f"{known.mean():.0f}":
        return size
    return f"{size} ({known.mean():.0f} slides)"


def short(values: Float64[np.ndarray, " value"]) -> list[float]:
    """Numbers with five digits, as many as a drawing can show."""
    return [float(f"{value:.5g}") for value in values.tolist()]
