"""Columns of other tools' predictions: where labels, probabilities, values and risks stand."""

import math
from collections.abc import Sequence
from typing import Any

from gigassl.errors import SettingsError
from gigassl.evaluate.labels import LabelTable
from gigassl.evaluate.task import Kind

_PROBABILITY = ("prob", "probability", "p", "score")
_VALUE = ("value", "prediction", "score")
_RISK = ("risk", "score")
_LABEL = ("y_true", "label")
_TRUE = {"1", "1.0", "true", "yes"}


def truth_of(table: LabelTable) -> tuple[Kind, dict[str, Sequence[Any]]]:
    """The kind of task that a file by itself is of, and its columns of labels.

    Raises:
        SettingsError: no labels.
    """
    if {"time", "event"} <= table.cells.keys():
        events = [text.lower() in _TRUE for text in table.cells["event"]]
        return "survival", {"time": numbers_in(table, "time"), "event": events}
    label = _first(table, _LABEL)
    if label is None:
        raise SettingsError(
            f"{table.where} has no labels (y_true or label; time and event), and there are no "
            f"other predictions to take them from; it has: {', '.join(table.cells)}"
        )
    if _first(table, ("value", "prediction")):
        return "regression", {"y_true": numbers_in(table, label)}
    named = [c[2:] for c in table.cells if c.startswith("p_")]
    classes = named or sorted(set(table.cells[label]))
    return "classification", {
        "y_true": list(table.cells[label]),
        **{f"p_{name}": [None] * len(table.patient_ids) for name in classes},
    }


def outputs_of(
    table: LabelTable, kind: Kind, *, classes: Sequence[str]
) -> dict[str, Sequence[float]]:
    """The columns of predictions, named as in ours.

    Raises:
        SettingsError: no column that they could be, or a number that is not finite.
    """
    if kind != "classification":
        ours, names = ("value", _VALUE) if kind == "regression" else ("risk", _RISK)
        return {ours: numbers_in(table, _wanted(table, names))}
    named = {
        name: numbers_in(table, column)
        for name in classes
        for column in (f"p_{name}", name)[: 2 if f"p_{name}" not in table.cells else 1]
        if column in table.cells
    }
    if len(named) == len(classes):
        return {f"p_{name}": named[name] for name in classes}
    if len(classes) > 2:
        lacking = [f"p_{name}" for name in classes if name not in named]
        raise SettingsError(f"{table.where} lacks the columns {', '.join(lacking)}")
    if named:
        ((name, values),) = named.items()
        other = next(c for c in classes if c != name)
    else:
        other, name = classes
        values = numbers_in(table, _wanted(table, _PROBABILITY))
    both = {name: values, other: [1 - value for value in values]}
    return {f"p_{c}": both[c] for c in classes}


def numbers_in(table: LabelTable, column: str) -> list[float]:
    """A column as finite numbers.

    Raises:
        SettingsError: a cell that is none.
    """
    found = []
    names = table.slide_ids or table.patient_ids
    for name, text in zip(names, table.column(column), strict=True):
        try:
            found.append(float(text))
        except ValueError:
            found.append(math.nan)
        if not math.isfinite(found[-1]):
            raise SettingsError(
                f"{table.where}: column '{column}' of '{name}' is '{text}', not a finite number"
            )
    return found


def _first(table: LabelTable, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in table.cells), None)


def _wanted(table: LabelTable, names: Sequence[str]) -> str:
    found = _first(table, names)
    if found is None:
        raise SettingsError(
            f"{table.where} has no column of predictions; expected one of {', '.join(names)}; it "
            f"has: {', '.join(table.cells)}"
        )
    return found
