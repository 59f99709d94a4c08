"""Tables of a comparison for the terminal, Markdown and LaTeX, all of the same cells."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from gigassl.evaluate.comparison import Comparison
from gigassl.evaluate.intervals import BOOTSTRAP, RESAMPLED_T
from gigassl.evaluate.scores import BlockScores, MethodScores

MISSING = "–"
DELTA_TITLES: Mapping[str, str] = {
    "mean": "Δ mean",
    "random-weights": "Δ random",
    "shuffled-coordinates": "Δ shuffled",
}
"""Columns of differences from a control, by its name."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table as text cells.

    Attributes:
        title: what stands above it.
        header: one cell a column.
        rows: cells; the first column is text, the others are numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def as_text(comparison: Comparison) -> str:
    """The tables as a terminal shows them, with what they mean and leave out below."""
    parts = [grid_as_text(grid) for grid in grids(comparison)]
    return "\n\n".join([*parts, "\n".join(legend(comparison))]) + "\n"


def as_markdown(comparison: Comparison) -> str:
    """The tables as Markdown."""
    parts = [grid_as_markdown(grid) for grid in grids(comparison)]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in legend(comparison))]) + "\n"


def as_latex(comparison: Comparison) -> str:
    r"""The tables as LaTeX that wants ``\usepackage{booktabs}``; the legend as comments."""
    parts = [grid_as_latex(grid) for grid in grids(comparison)]
    return "\n\n".join([*parts, "\n".join(f"% {line}" for line in legend(comparison))]) + "\n"


def grids(comparison: Comparison) -> Iterator[Grid]:
    """Two tables a block (the main metric, and the others), then the pairs."""
    for table in comparison.tables:
        yield _scores_grid(comparison, table)
        if len(comparison.metrics) > 1:
            yield _others_grid(comparison, table)
    if comparison.pairs:
        yield _pairs_grid(comparison)


def legend(comparison: Comparison) -> Iterator[str]:
    """What the numbers are, then what was left out."""
    settings = comparison.settings
    yield (
        f"{comparison.metric.title} and the other metrics: mean over folds ± sd (ddof 1). pooled: "
        "all test rows of a repeat ranked together; never to be mixed with means over folds."
    )
    yield from _intervals(comparison)
    if any(len(table.block.classes) > 2 for table in comparison.tables):
        yield "Several classes: mean of each class against the rest."
    binary = {t.block.task: t.block.classes for t in comparison.tables if len(t.block.classes) == 2}
    for task, classes in binary.items():
        yield f"{task}: AUC and AP are of class '{classes[1]}'."
    if any(row.deltas for table in comparison.tables for row in table.rows):
        yield "Δ: method minus its control, mean over folds, paired on the same test slides."
    if comparison.pairs:
        sizes = sorted({pair.family for pair in comparison.pairs})
        how = {"holm": "Holm", "bh": "Benjamini–Hochberg"}[settings.adjust]
        yield (
            f"p adj.: {how} over the {' or '.join(map(str, sizes))} tests of means over folds, or "
            "of pooled numbers. "
            f"{RESAMPLED_T}: Nadeau & Bengio; {BOOTSTRAP}: patients with all their rows."
        )
    yield from (f"Note: {note}." for note in comparison.notes)


def _intervals(comparison: Comparison) -> Iterator[str]:
    """What the intervals hold; of several test sets and of a single one they are not the same."""
    settings = comparison.settings
    inside = f"{1 - settings.alpha:.0%} interval"
    several = [bool(table.block.test_sets.max()) for table in comparison.tables]
    draws = (
        f"{settings.draws} bootstrap draws of patients, models as trained; of scores Wilson's with "
        "the bootstrap's variance, of differences percentiles."
    )
    if any(several):
        yield (
            f"[ ] of means over several test sets, and Δ of them: {inside} for the method trained "
            f"anew on such a cohort ({RESAMPLED_T}, Nadeau & Bengio; of scores in Wilson's form)."
        )
        yield f"[ ] of pooled: {inside} from {draws}"
        yield (
            "Folds learn from one another's test slides, which no bootstrap of predictions can "
            "see: pooled intervals are too narrow, most of all close to chance "
            "(docs/evaluation.md); go by the mean over folds there."
        )
    if not all(several):
        yield f"[ ] of a single test set: {inside} from {draws}"


def _scores_grid(comparison: Comparison, table: BlockScores) -> Grid:
    columns = _columns(comparison, table)
    rows = [tuple(cell(row) for _, cell in columns) for row in table.rows]
    block = table.block
    repeats = "" if len(set(block.draws)) == 1 else f" over {len(set(block.draws))} draws"
    n_train = block.n_train[~np.isnan(block.n_train)]
    learned = f" ({n_train.mean():.0f} slides learned from)" if len(n_train) else ""
    title = (
        f"{block.task} · {block.split} · train size {block.train_size}{learned} · "
        f"{block.n_slides} {'patients' if block.level == 'patient' else 'slides'} tested of "
        f"{block.n_patients} patients, {block.n_folds} folds{repeats}"
    )
    return Grid(title=title, header=tuple(title for title, _ in columns), rows=tuple(rows))


Cell = Callable[[MethodScores], str]


def _columns(comparison: Comparison, table: BlockScores) -> Sequence[tuple[str, Cell]]:
    main, inside = comparison.metric, f"{1 - comparison.settings.alpha:.0%} interval"
    columns: list[tuple[str, Cell]] = [
        ("method", _name),
        (main.title, partial(_fold_mean, metric=main.name)),
        (inside, partial(_interval, metric=main.name)),
    ]
    if table.block.n_folds > 1:
        columns.append((f"pooled {main.title}", partial(_pooled, metric=main.name)))
    shown = {control for row in table.rows for control in row.deltas}
    deltas = {name: title for name, title in DELTA_TITLES.items() if name in shown}
    columns += [(title, partial(_delta, control=name)) for name, title in deltas.items()]
    if any(row.seen is not None for row in table.rows):
        columns.append(("seen", _seen))
    return columns


def _others_grid(comparison: Comparison, table: BlockScores) -> Grid:
    others = comparison.metrics[1:]
    block = table.block
    return Grid(
        title=f"{block.task} · {block.split} · train size {block.train_size}: further metrics",
        header=("method", *(metric.title for metric in others)),
        rows=tuple(
            (_name(row), *(_fold_mean(row, metric=metric.name) for metric in others))
            for row in table.rows
        ),
    )


def _pairs_grid(comparison: Comparison) -> Grid:
    several = len(comparison.tables) > 1
    header = (
        *(("task", "train size", "splits") if several else ()),
        "method", "reference", "difference", f"{1 - comparison.settings.alpha:.0%} interval", "p",
        "p adj.", "test", "estimand",
    )  # fmt: skip
    rows = [
        (
            *((pair.task, pair.train_size, pair.split) if several else ()),
            pair.method,
            pair.reference,
            signed(pair.difference),
            _range(pair.low, pair.high, show=signed),
            p_value(pair.p),
            p_value(pair.p_adjusted),
            pair.test,
            pair.estimand,
        )
        for pair in comparison.pairs
    ]
    return Grid(title=f"Differences in {comparison.metric.title}", header=header, rows=tuple(rows))


def number(value: float) -> str:
    """Three decimals, as AUCs need them; a dash for NaN."""
    return MISSING if math.isnan(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """Three decimals with sign; a dash for NaN."""
    return MISSING if math.isnan(value) else f"{value:+.3f}"


def p_value(value: float) -> str:
    """Two digits; small ones as a bound."""
    if math.isnan(value):
        return MISSING
    return "< .001" if value < 0.001 else f"{value:.3f}"


def _name(row: MethodScores) -> str:
    return f"{row.method} (control)" if row.control else row.method


def _seen(row: MethodScores) -> str:
    return "not known" if row.seen is None else f"{row.seen:.0%}"


def _spread(mean: float, sd: float) -> str:
    return number(mean) if math.isnan(sd) else f"{number(mean)} ± {number(sd)}"


def _range(low: float, high: float, *, show: Callable[[float], str] = number) -> str:
    return MISSING if math.isnan(low) else f"[{show(low)}, {show(high)}]"


def _fold_mean(row: MethodScores, *, metric: str) -> str:
    return _spread(row.scores[metric].mean, row.scores[metric].sd)


def _interval(row: MethodScores, *, metric: str) -> str:
    return _range(row.scores[metric].low, row.scores[metric].high)


def _pooled(row: MethodScores, *, metric: str) -> str:
    score = row.scores[metric]
    return f"{number(score.pooled)} {_range(score.pooled_low, score.pooled_high)}"


def _delta(row: MethodScores, *, control: str) -> str:
    delta = row.deltas.get(control)
    if delta is None:
        return ""
    return f"{signed(delta.difference)} {_range(delta.low, delta.high, show=signed)}"


def grid_as_text(grid: Grid) -> str:
    """One table as a terminal shows it."""
    rows = [grid.header, *grid.rows]
    widths = [max(len(row[k]) for row in rows) for k in range(len(grid.header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    rule = "  ".join("─" * width for width in widths)
    return "\n".join([grid.title, "", lines[0], rule, *lines[1:]])


def grid_as_markdown(grid: Grid) -> str:
    """One table as Markdown."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "---|" * len(grid.header)
    return "\n".join([f"**{grid.title}**", "", line(grid.header), rule, *map(line, grid.rows)])


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$",
    "±": r"$\pm$", "Δ": r"$\Delta$", "–": "--", "·": r"$\cdot$", "ρ": r"$\rho$", "²": r"$^2$",
    "µ": r"$\mu$",
}  # fmt: skip


def tex(text: str) -> str:
    r"""Text that LaTeX sets as it is written, also slide and class names.

    >>> print(tex("a_b -0.1 ± 5 %"))
    a\_b $-$0.1 $\pm$ 5 \%
    """
    escaped = "".join(_TEX.get(letter, letter) for letter in text)
    return re.sub(r"(?<![\w-])-(?=[\d.])", "$-$", escaped)


def grid_as_latex(grid: Grid) -> str:
    r"""One table as LaTeX that wants ``\usepackage{booktabs}``."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(tex, cells)) + r" \\"

    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{tex(grid.title)}}}",
            rf"\begin{{tabular}}{{{'l' * len(grid.header)}}}",
            r"\toprule",
            line(grid.header),
            r"\midrule",
            *map(line, grid.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )
