"""The rows as bars: tiles/s with their range, and peak memory."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.summary import Row, is_ours
from gigassl.report.figures import new_figure, save_png

OURS, THEIRS = "#2f6f9f", "#c3c9d0"


def draw(rows: Sequence[Row], path: Path) -> None:
    """One row of axes a case: tiles/s on the left, memory on the right."""
    cases = list(dict.fromkeys(row.case for row in rows))
    figure = new_figure(9.0, 1.0 + 1.5 * len(cases))
    grid = figure.subplots(len(cases), 2, squeeze=False)
    for (speed, memory), case in zip(grid, cases, strict=True):
        group = [row for row in rows if row.case == case][::-1]
        names = [row.name for row in group]
        colours = [OURS if is_ours(row) else THEIRS for row in group]
        middle = [row.rate[1] for row in group]
        below = [row.rate[1] - row.rate[0] for row in group]
        above = [row.rate[2] - row.rate[1] for row in group]
        bars = speed.barh(names, middle, color=colours, xerr=[below, above], ecolor="#404040")
        speed.bar_label(bars, fmt="{:,.0f}", padding=8, fontsize=7)
        speed.set_title(f"{case}: tiles/s", fontsize=9)
        bars = memory.barh(names, [row.pss_mb for row in group], color=colours)
        memory.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=7)
        memory.set_title("peak memory (PSS), MB", fontsize=9)
        memory.set_yticklabels([])
        for axis in (speed, memory):
            axis.margins(x=0.2)
            axis.tick_params(labelsize=8)
            axis.spines[["top", "right"]].set_visible(False)
    save_png(figure, path)
