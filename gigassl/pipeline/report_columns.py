"""What slides of a report are coloured by: their table, tables of labels, predictions."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gigassl.errors import SettingsError
from gigassl.evaluate.labels import (
    PATIENT_COLUMNS,
    SLIDE_COLUMNS,
    LabelTable,
    read_label_table,
    some,
)
from gigassl.evaluate.predictions import Predictions
from gigassl.evaluate.targets import tcga_site, texts_by_slide
from gigassl.report.page.columns import Column, column_of_numbers, column_of_texts
from gigassl.vectors.table import SlideTable

TCGA_SITE = "TCGA site"
SCANNED_AT = "level-0 µm/px"
_MOST_METHODS = 12
_OF_TABLE = {
    "n_tiles": "tiles",
    "view_spread": "view spread",
    "effective_mpp": "read at, µm/px",
    "width_l0": "width, px",
    "height_l0": "height, px",
}


def table_columns(table: SlideTable) -> list[Column]:
    """What the table of vectors says of its slides."""
    group = "Slides"
    found = [
        column_of_numbers(title, table.data[name].to_pylist(), group=group)
        for name, title in _OF_TABLE.items()
    ]
    # a scanner's resolution, which it states to more digits than slides of it share
    mpp = ["" if v is None else f"{v:.2f}" for v in table.data["mpp"].to_pylist()]
    sites = [
        tcga_site(slide) or tcga_site(patient)
        for slide, patient in zip(table.slide_ids, table.patient_ids, strict=True)
    ]
    return [
        Column(name=TCGA_SITE, group=group, texts=tuple(sites)),
        Column(name=SCANNED_AT, group=group, texts=tuple(mpp)),
        column_of_texts("µm/px said by", table.data["mpp_source"].to_pylist(), group=group),
        column_of_texts("patient", table.patient_ids, group=group),
        *found,
    ]


def label_columns(
    path: Path, table: SlideTable, *, slide_table: Path | None, notes: list[str]
) -> list[Column]:
    """Every column of a table of labels that says something of these slides.

    Args:
        notes: gets what was left out, and why.

    Raises:
        SettingsError: no table of labels, or one of other slides.
    """
    labels = read_label_table(path, slide_table=slide_table)
    available = dict(zip(table.slide_ids, table.patient_ids, strict=True))
    named = {*SLIDE_COLUMNS, *PATIENT_COLUMNS}
    found: list[Column] = []
    for name in labels.cells:
        if name in named:
            continue
        try:
            texts = texts_by_slide(labels, name, available=available)
        except SettingsError as error:
            notes.append(f"column '{name}' is left out: {error}")
            continue
        column = [texts.get(slide, "") for slide in table.slide_ids]
        if any(column):
            found.append(column_of_texts(name, column, group=f"Labels: {path.stem}"))
    if not found:
        raise _of_other_slides(labels, table)
    known = max(column.known for column in found)
    if known < len(table):
        notes.append(f"{path.name} says something of {known} of {len(table)} slides")
    return found


def _of_other_slides(labels: LabelTable, table: SlideTable) -> SettingsError:
    theirs = labels.slide_ids or labels.patient_ids
    ours = table.slide_ids if labels.slide_ids else table.patient_ids
    return SettingsError(
        f"{labels.where} says nothing of the slides of the vectors: it names {some(theirs)}, the "
        f"vectors {some(ours)}"
    )


def prediction_columns(
    predictions: Sequence[Predictions], table: SlideTable, *, notes: list[str]
) -> list[Column]:
    """What methods said of the slides, in the mean over the folds that tested them.

    Args:
        predictions: tables of them.
        notes: gets how many methods were left out.
    """
    groups = [
        (task, method, rows) for each in predictions for task, method, rows in _methods(each.data)
    ]
    if len(groups) > _MOST_METHODS:
        notes.append(
            f"the map can be coloured by the first {_MOST_METHODS} of {len(groups)} methods that "
            "predicted"
        )
    found: list[Column] = []
    for task, method, rows in groups[:_MOST_METHODS]:
        columns = _said(rows, name=f"{task} · {method}")
        by_patient = set(rows["level"].to_pylist()) == {"patient"}
        keys = table.patient_ids if by_patient else table.slide_ids
        id_column = "patient_id" if by_patient else "slide_id"
        found += [_on_slides(column, rows[id_column].to_pylist(), keys) for column in columns]
    return [column for column in found if column.known]


def _methods(data: pa.Table) -> Iterator[tuple[str, str, pa.Table]]:
    """Task, method and rows of the largest training set; controls are not shown on the map."""
    own = data.filter(pc.equal(data["control"], ""))
    for task in pc.unique(own["task"]).to_pylist():
        of_task = own.filter(pc.equal(own["task"], task))
        for method in pc.unique(of_task["method"]).to_pylist():
            rows = of_task.filter(pc.equal(of_task["method"], method))
            sizes = pc.unique(rows["train_size"]).to_pylist()
            size = "full" if "full" in sizes else sizes[-1]
            yield task, method, rows.filter(pc.equal(rows["train_size"], size))


def _said(rows: pa.Table, *, name: str) -> list[Column]:
    """Columns of the rows themselves: what was said, and of classes whether it was right."""
    group = "Predictions"
    classes = [
        c[2:] for c in rows.column_names if c.startswith("p_") and rows[c].null_count < len(rows)
    ]
    if not classes:
        output = "value" if "value" in rows.column_names else "risk"
        return [column_of_numbers(f"{name}: {output}", rows[output].to_pylist(), group=group)]
    ids = rows["slide_id"].to_pylist()
    shares = _means(ids, np.stack([rows[f"p_{c}"].to_numpy() for c in classes], axis=1))
    likely = [classes[k] for k in shares.argmax(axis=1)]
    truth = rows["y_true"].to_pylist()
    right = ["right" if a == b else "wrong" for a, b in zip(likely, truth, strict=True)]
    shown = classes[-1:] if len(classes) == 2 else classes
    chances = [
        column_of_numbers(f"{name}: p({c})", shares[:, classes.index(c)].tolist(), group=group)
        for c in shown
    ]
    return [
        *chances,
        Column(name=f"{name}: predicted", group=group, texts=tuple(likely)),
        Column(name=f"{name}: right or wrong", group=group, texts=tuple(right)),
    ]


def _means(ids: Sequence[str], shares: np.ndarray) -> np.ndarray:
    """Each row's probabilities as the mean over all rows of its slide."""
    _, number = np.unique(np.array(ids, dtype=object), return_inverse=True)
    total = np.zeros((number.max() + 1, shares.shape[1]))
    np.add.at(total, number, shares)
    means: np.ndarray = (total / np.bincount(number)[:, None])[number]
    return means


def _on_slides(column: Column, ids: Sequence[str], slides: Sequence[str]) -> Column:
    """A column of rows as one of the slides of the table; of several rows the first counts."""
    row_of = {name: row for row, name in reversed(list(enumerate(ids)))}
    rows = [row_of.get(name, -1) for name in slides]
    texts = tuple("" if row < 0 else column.texts[row] for row in rows)
    numbers = column.numbers
    if numbers is not None:
        numbers = np.array([np.nan if row < 0 else numbers[row] for row in rows])
    return Column(name=column.name, group=column.group, texts=texts, numbers=numbers)
