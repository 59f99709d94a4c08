"""Columns of a search: those of the vectors and of the labels, to filter by and to show."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from gigassl.errors import SettingsError, unknown_name
from gigassl.evaluate.labels import (
    PATIENT_COLUMNS,
    SLIDE_COLUMNS,
    LabelTable,
    read_label_table,
    unique_labels,
)
from gigassl.evaluate.targets import texts_by_slide
from gigassl.vectors.table import SlideTable
from gigassl.vectors.where import Where, columns_of, parse_where
from gigassl.vectors.where_columns import Column, column_of_texts, columns_of_table, rows_where

MOST_SHOWN = 6
"""Columns of the labels that are shown where the user names none."""

Cell = str | float | None
_NAMES = frozenset({*SLIDE_COLUMNS, *PATIENT_COLUMNS})


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchColumns:
    """What is asked and shown of each row of a table.

    Attributes:
        kept: rows that satisfy the condition.
        shown: by name; one cell a row of the table.
        patients: of each row; the word of the labels counts before that of the vectors.
        patients_are_known: a column or barcode told them.
        notes: sentences on labels and condition.
    """

    kept: Bool[np.ndarray, " row"]
    shown: dict[str, Column]
    patients: tuple[str, ...]
    patients_are_known: bool
    notes: tuple[str, ...]

    def patients_note(self) -> tuple[str, ...]:
        """What must be said where patients are left out that nobody told."""
        note = "no patients are known, so each slide is its own; patient_id in --labels tells"
        return () if self.patients_are_known else (note,)

    def cells(self, row: int) -> dict[str, Cell]:
        """What is shown of one row."""
        return {name: _cell(column, row) for name, column in self.shown.items()}


def search_columns(
    table: SlideTable, labels: Path | None = None, *, where: str | None = None,
    show: Sequence[str] | None = None,
) -> SearchColumns:  # fmt: skip
    """Reads the columns that a condition and the user name.

    Args:
        table: vectors; its columns can be named.
        labels: table of its slides or patients, whose columns can be named as well.
        where: condition, in the language of ``parse_where``; None keeps all rows.
        show: columns to show; None: those of the condition and the first of the labels.

    Raises:
        SettingsError: a condition that cannot be read or asked, unknown columns, labels that name
            none of the slides or say two things of one.
    """
    condition = None if where is None else parse_where(where)
    columns, notes = columns_of_table(table), list[str]()
    read = None if labels is None else read_label_table(labels)
    offered: tuple[str, ...] = ()
    if read is not None:
        notes += _understood(read, table, columns.keys())
        offered = tuple(n for n in read.cells if n not in _NAMES and n not in columns)
    asked = () if condition is None else tuple(dict.fromkeys(columns_of(condition)))
    shown = tuple(show) if show is not None else (*asked, *offered[:MOST_SHOWN])
    for name in (*asked, *shown):
        if name not in columns and name not in offered:
            raise unknown_name("column", name, known=(*columns, *offered))
    available = dict(zip(table.slide_ids, table.patient_ids, strict=True))
    for name in dict.fromkeys((*asked, *shown)):
        if name not in columns and read is not None:
            texts = texts_by_slide(read, name, available=available)
            columns[name] = column_of_texts([texts.get(slide) for slide in available])
    kept = np.ones(len(table), dtype=bool)
    if condition is not None:
        kept = rows_where(condition, columns)
        notes += _left_out(condition, columns, kept)
    visible = {n: columns[n] for n in shown if n not in {"slide_id", "patient_id"}}
    return SearchColumns(
        kept=kept, shown=visible, patients=_patients(read, table),
        patients_are_known=_are_known(read, table), notes=tuple(notes),
    )  # fmt: skip


def _cell(column: Column, row: int) -> Cell:
    found: Cell = column.cells[row].as_py()
    return int(found) if isinstance(found, float) and found.is_integer() else found


def _patients(read: LabelTable | None, table: SlideTable) -> tuple[str, ...]:
    said: dict[str, str] = {}
    if read is not None and read.slide_ids is not None:
        said = unique_labels(read.slide_ids, read.patient_ids, what="slide", where=read.where)
    pairs = zip(table.slide_ids, table.patient_ids, strict=True)
    return tuple(said.get(slide, patient) for slide, patient in pairs)


def _are_known(read: LabelTable | None, table: SlideTable) -> bool:
    """Whether a column or barcode told patients, not the slides' own names."""
    of_labels = read is not None and any(read.patient_ids)
    return of_labels or set(table.data["patient_rule"].to_pylist()) != {"slide_id"}


def _understood(read: LabelTable, table: SlideTable, taken: Container[str]) -> list[str]:
    """What must be known of the labels; refuses those of other slides."""
    of_slides = read.slide_ids is not None
    named = set(read.slide_ids or read.patient_ids)
    keys = table.slide_ids if of_slides else table.patient_ids
    lacking = [s for s, key in zip(table.slide_ids, keys, strict=True) if key not in named]
    if len(lacking) == len(table):
        raise SettingsError(
            f"{read.where} names none of the {len(table)} "
            f"{'slides' if of_slides else 'patients'}; those with vectors are called '{keys[0]}' "
            "and so on"
        )
    twice = [name for name in read.cells if name in taken and name not in _NAMES]
    notes = [f"column '{name}' stands in both tables; that of the vectors counts" for name in twice]
    if lacking:
        notes.append(
            f"{len(lacking)} of {len(table)} slides do not stand in the labels, first "
            f"'{lacking[0]}'; their cells are empty"
        )
    return notes


def _left_out(
    where: Where, columns: dict[str, Column], kept: Bool[np.ndarray, " row"]
) -> list[str]:
    notes = [f"{int(kept.sum())} of {len(kept)} slides satisfy: {where}"]
    for name in dict.fromkeys(columns_of(where)):
        n_empty = int((columns[name].empty & ~kept).sum())
        if n_empty:
            notes.append(
                f"{n_empty} of the others have nothing in '{name}', which satisfies no comparison "
                f"('{name} is null' asks for them)"
            )
    return notes
