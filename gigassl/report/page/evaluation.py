"""Evaluation on a page: what methods are worth on each task, out of tables of predictions."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from markupsafe import Markup

from gigassl.evaluate.comparison import CompareSettings, Comparison, compare
from gigassl.evaluate.predictions import Predictions
from gigassl.evaluate.scores import BlockScores
from gigassl.evaluate.standing import best_first
from gigassl.report.page.calibration import calibrations
from gigassl.report.page.confusion import confusions
from gigassl.report.page.curves import curve_figures
from gigassl.report.page.evaluation_parts import (
    Looks,
    choice,
    looks_of,
    named_size,
    side_by_side,
)
from gigassl.report.page.evaluation_survival import survival_figures
from gigassl.report.page.evaluation_table import score_table
from gigassl.report.page.evaluation_values import value_figures
from gigassl.report.page.section import (
    Section,
    facts,
    folded,
    heading,
    joined_parts,
    notes,
    paragraph,
    table,
)
from gigassl.report.tables import grids, legend

_KINDS = ("classification", "regression", "survival")
_ONE_SIZE = (
    "There is one training size, so there is no learning curve; gigassl probe and gigassl mil draw "
    "more with --train-sizes 50,100,25%,full, or gigassl fewshot both at once."
)


def evaluation_sections(
    predictions: Sequence[Predictions], *, settings: CompareSettings | None = None
) -> tuple[Section, ...]:
    """One section a task: scores with intervals and controls, learning curves, and what went wrong.

    Every number is that of ``gigassl compare`` on the same tables. Confusion and calibration
    of classes, predicted against true values, or survival by risk follow by the kind of task.

    Args:
        predictions: tables of any kinds of task; an empty one gives no section.
        settings: as of ``compare``, for every kind of task.

    Raises:
        SettingsError: tables that cannot be compared, or settings that do not suit a kind of task.
    """
    settings = settings or CompareSettings()
    tables = [each for each in predictions if len(each)]
    comparisons = [
        compare([each for each in tables if each.kind == kind], settings=settings)
        for kind in _KINDS
        if any(each.kind == kind for each in tables)
    ]
    looks = looks_of(each for comparison in comparisons for each in comparison.tables)
    parts = [part for comparison in comparisons for part in _by_task(comparison)]
    return tuple(
        _section(task, part, looks=looks, number=k) for k, (task, part) in enumerate(parts, start=1)
    )


def _by_task(comparison: Comparison) -> list[tuple[str, Comparison]]:
    """The comparison of each task; p-values stay adjusted for all."""
    found = []
    for task in dict.fromkeys(each.block.task for each in comparison.tables):
        tables = tuple(each for each in comparison.tables if each.block.task == task)
        titles = tuple(f"{each.block.title}:" for each in tables)
        part = replace(
            comparison,
            tables=tables,
            pairs=tuple(pair for pair in comparison.pairs if pair.task == task),
            notes=tuple(note for note in comparison.notes if note.startswith(titles)),
        )
        found.append((task, part))
    return found


def _section(task: str, comparison: Comparison, *, looks: Looks, number: int) -> Section:
    largest = sorted(comparison.tables, key=_learned, reverse=True)
    curves = curve_figures(comparison, looks=looks)
    sizes = [(_option(comparison, each), _of_size(comparison, each, looks=looks))
             for each in largest]  # fmt: skip
    return Section(
        anchor=f"evaluation-{number}",
        title=f"Evaluation: {task}",
        lead=_lead(comparison),
        body=joined_parts([
            _facts(largest[0]),
            *contaminated(comparison),
            curves or paragraph(_ONE_SIZE),
            heading("Scores"),
            choice("Learned from", sizes),
            *_tests(comparison),
            folded("What these numbers are", notes(list(legend(replace(comparison, notes=()))))),
            *_remarks(comparison),
        ]),
    )  # fmt: skip


def _learned(table: BlockScores) -> float:
    n_train = table.block.n_train[~np.isnan(table.block.n_train)]
    return float(n_train.mean()) if len(n_train) else 0.0


def _option(comparison: Comparison, table: BlockScores) -> str:
    """A training size; with its kind of splits and level where the task has several of them."""
    size = named_size(table)
    kinds = {(each.block.split, each.block.level) for each in comparison.tables}
    if len(kinds) == 1:
        return size
    return f"{size} · {table.block.split} · {table.block.level}"


def _lead(comparison: Comparison) -> str:
    metric = comparison.metric.title
    binary = [each.block.classes for each in comparison.tables if len(each.block.classes) == 2]
    of_class = f" of class '{binary[0][1]}'" if binary and comparison.metric.name == "auc" else ""
    return (
        f"{metric}{of_class} on test slides that the methods did not learn from. Controls say what "
        "is gained without looking at tissue, or without having learned how."
    )


def _facts(table: BlockScores) -> Markup:
    block = table.block
    n_repeats = len(set(block.draws.tolist()))
    return facts({
        "patients" if block.level == "patient" else "slides": block.n_slides,
        **({} if block.level == "patient" else {"patients": block.n_patients}),
        "test sets": len(set(block.test_sets.tolist())),
        "repeats": n_repeats,
        "methods": sum(not row.control for row in table.rows),
        "controls": sum(bool(row.control) for row in table.rows),
    })  # fmt: skip


def _of_size(comparison: Comparison, table: BlockScores, *, looks: Looks) -> Markup:
    order = tuple(row.method for row in best_first(table, comparison.metric))
    further = {
        "classification": lambda: [
            confusions(table.block, order), calibrations(table, order, looks=looks)
        ],
        "regression": lambda: [value_figures(table, order, looks=looks)],
        "survival": lambda: [survival_figures(table, order)],
    }[comparison.kind]()  # fmt: skip
    scores = score_table(comparison, table, looks=looks)
    return joined_parts([scores, side_by_side(further)])


def _tests(comparison: Comparison) -> list[Markup]:
    """The tests against the reference, as ``gigassl compare`` writes them."""
    if not comparison.pairs:
        return []
    *_, grid = grids(comparison)
    return [folded(f"{grid.title}: tests", table(grid.header, grid.rows))]


def contaminated(comparison: Comparison) -> list[Markup]:
    """Which methods rest on encoders that saw test slides in pretraining, where tables know."""
    rows = [row for each in comparison.tables for row in each.rows if row.seen]
    most = {row.method: max(r.seen or 0 for r in rows if r.method == row.method) for row in rows}
    if not most:
        return []
    named = ", ".join(f"{method} ({share:.0%})" for method, share in most.items())
    said = "Encoders that were pretrained, without labels, on slides that are tested here: "
    return [Markup('<p class="notice">{}{}.</p>').format(said, named)]


def _remarks(comparison: Comparison) -> list[Markup]:
    """Notes of the comparison; what holds of several training sizes is said once."""
    said: dict[str, list[str]] = {}
    for note in comparison.notes:
        block = next(t.block for t in comparison.tables if note.startswith(f"{t.block.title}: "))
        said.setdefault(note.removeprefix(f"{block.title}: "), []).append(block.train_size)
    n_sizes = len({each.block.train_size for each in comparison.tables})
    lines = [
        text
        if len(set(sizes)) == n_sizes
        else f"train size {', '.join(dict.fromkeys(sizes))}: {text}"
        for text, sizes in said.items()
    ]
    return [folded(f"Notes ({len(lines)})", notes(lines))] if lines else []
