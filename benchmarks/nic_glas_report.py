"""The ranking of encoders as lines, as a Markdown table and as a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.quality_scores import Interval, Scores, difference, drawn_interval
from benchmarks.report import line
from gigassl.files import written_whole
from gigassl.report.figures import new_figure, save_figure

MAIN = ("C = 1", "mean")
"""Probe and pooling that the ranking follows; the other ones stand beside it."""
DRAWS = 1000
_CONTROL, _TRAINED, _GIVEN = "#8a8a8a", "#0072b2", "#d55e00"
_HEAD = ("encoder", "pooled AUC", "mean of folds", "minus random weights")


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """An encoder and how it did.

    Attributes:
        title: of the encoder.
        beside: title of the random network that it is held against; "" for none.
        scores: (probe, pooling) → scores of each seed.
    """

    title: str
    beside: str
    scores: Mapping[tuple[str, str], Sequence[Scores]]

    def pooled(self, way: tuple[str, str]) -> float:
        """Pooled AUC, mean over seeds."""
        return float(np.mean([each.pooled for each in self.scores[way]]))

    def fold_mean(self, way: tuple[str, str]) -> float:
        """Mean AUC of the folds, mean over seeds."""
        return float(np.mean([each.fold_mean for each in self.scores[way]]))


@dataclass(frozen=True, kw_only=True)
class Row:
    """An encoder with its intervals, over patients and seeds.

    Attributes:
        ranked: the encoder.
        whole: pooled AUC.
        gain: how much better it is than its random network, on the same images of the same
            patients; None where it has none.
    """

    ranked: Ranked
    whole: Interval
    gain: Interval | None


def rows_of(found: Sequence[Ranked], *, draws: int = DRAWS) -> list[Row]:
    """All encoders, best first."""
    by_title = {each.title: each for each in found}
    rows = []
    for each in sorted(found, key=lambda one: -one.pooled(MAIN)):
        scores, gain = each.scores[MAIN], None
        if each.beside:
            random = by_title[each.beside].scores[MAIN]
            gain = difference(scores, random, draws=draws)
        rows.append(Row(ranked=each, whole=drawn_interval(scores, draws=draws), gain=gain))
    return rows


def show(rows: Sequence[Row], *, seconds: Mapping[str, Sequence[float]], out: Path) -> None:
    """Prints everything; writes ``nic_glas.md``, ``.png`` and ``.svg``."""
    for row in rows:
        each = row.ranked
        for way, scores in each.scores.items():
            seeds = " ".join(f"{one.pooled:.3f}" for one in scores)
            unit = f"pooled (seeds {seeds}), mean of folds {each.fold_mean(way):.3f}"
            line(f"{each.title}: AUC, {', '.join(way)}", each.pooled(way), unit=unit)
        if row.gain is not None:
            print(f"{'':6}minus {each.beside}: {row.gain}", flush=True)
    for title, spent in seconds.items():
        line(f"{title}: one training", float(np.mean(spent)), unit="CPU s")
    with written_whole(out / "nic_glas.md") as part:
        part.write_text(as_markdown(rows), encoding="utf-8")
    dots(rows, out / "nic_glas")


def as_markdown(rows: Sequence[Row]) -> str:
    """One line an encoder: the main score with its interval, then the other ways to score."""
    ways = [way for way in rows[0].ranked.scores if way != MAIN]
    head = [*_HEAD, *(f"{probe}, {pooling}" for probe, pooling in ways)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        each, whole = row.ranked, row.whole
        cells = [
            each.title, f"{whole.value:.3f} [{whole.low:.3f}, {whole.high:.3f}]",
            f"{each.fold_mean(MAIN):.3f}", "" if row.gain is None else str(row.gain),
            *(f"{each.pooled(way):.3f}" for way in ways),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def dots(rows: Sequence[Row], stem: Path) -> None:
    """Draws a dot with its interval an encoder, best on top; a ring for mean and deviation."""
    figure = new_figure(8.0, 1.4 + 0.36 * len(rows))
    axis = figure.subplots()
    upwards = list(reversed(rows))
    for place, row in enumerate(upwards):
        colour, whole = colour_of(row.ranked), row.whole
        other = row.ranked.pooled((MAIN[0], "mean+std"))
        axis.plot([whole.low, whole.high], [place, place], color=colour, linewidth=2, zorder=2)
        axis.plot([whole.value], [place], "o", color=colour, zorder=3)
        axis.plot([other], [place + 0.28], "o", color=colour, markerfacecolor="white", markersize=4)
    axis.axvline(0.5, color="#b0b0b0", linewidth=0.8, linestyle=":")
    axis.set_yticks(range(len(rows)), [row.ranked.title for row in upwards], fontsize=9)
    axis.set_title("GlaS, benign or malignant, patients held out: pooled AUC of a logistic probe",
                   fontsize=10, loc="left")  # fmt: skip
    axis.set_xlabel(
        "mean of tiles (dot) with its 95 % interval over patients and seeds; mean and standard "
        "deviation (ring)\nblue: learned from the patients for training; orange: learned elsewhere;"
        " grey: controls", fontsize=8,
    )  # fmt: skip
    axis.grid(visible=True, axis="x", color="#e5e5e5", linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    save_figure(figure, stem)


def colour_of(each: Ranked) -> str:
    """Grey for controls, blue for what is trained here, orange for what learned elsewhere."""
    if "random" in each.title or "colour" in each.title:
        return _CONTROL
    return _GIVEN if "," in each.title else _TRAINED
