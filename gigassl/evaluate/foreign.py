"""Foreign predictions: any tool's table of slides and probabilities joins a comparison."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from gigassl.errors import SettingsError
from gigassl.evaluate.foreign_columns import outputs_of, truth_of
from gigassl.evaluate.labels import LabelTable, read_label_table
from gigassl.evaluate.predictions import COLUMNS, OUTCOMES, Predictions, joined
from gigassl.evaluate.split import FULL
from gigassl.slides.cohort import patient_of

KEYS = ("train_size", "draw", "fold")

Row = dict[str, Any]


def read_foreign(path: Path, *, like: Sequence[Predictions], name: str = "") -> Predictions:
    """Predictions of another tool, lined up with ours.

    The file names slides (slide_id, or as in tables of labels) and has, for a classification,
    columns ``p_<class>`` or ``<class>``, or one of the second class: prob, probability, p or
    score. For a regression: value, prediction or score; for survival: risk or score. Columns
    task, train_size, draw and fold are wanted only where slides are tested more than once. Labels
    (y_true or label; time and event) are taken from ``like``, and compared with it where
    the file has them; where ``like`` is empty the file must have them.

    Args:
        path: CSV, TSV or Parquet.
        like: predictions that it shall be compared with.
        name: of the method; the file's name by default.

    Raises:
        SettingsError: missing columns, numbers or slides, slides that were not tested by the
            others, or rows that cannot be told apart.
    """
    table = read_label_table(path)
    kind, template = _template(table, like=like, where=path)
    rows = _matched(table, template, where=path)
    truth = [column for column in OUTCOMES[kind] if column in rows[0]]
    _refuse_other_labels(table, rows, where=path)
    n = len(rows)
    found = outputs_of(table, kind, classes=_classes(rows))
    facts: dict[str, Any] = {
        **{column: [row[column] for row in rows] for column in (*COLUMNS, *truth)},
        "method": [name or path.stem] * n,
        "control": [""] * n,
        "control_of": [""] * n,
        "seen": [None] * n,
        **found,
    }
    types = {**COLUMNS, **OUTCOMES[kind], **dict.fromkeys(found, pa.float64())}
    data = pa.table({c: pa.array(facts[c], type=t) for c, t in types.items()})
    return joined(kind, [data], provenance={"foreign": path.name})


def _template(
    table: LabelTable, *, like: Sequence[Predictions], where: Path
) -> tuple[Any, Sequence[Row]]:
    """Kind of task, and the rows that the file should have, as another method has them."""
    if not like:
        kind, truth = truth_of(table)
        return kind, _own_rows(table, truth, where=where)
    rows = [row for p in like for row in p.data.to_pylist() if not row["control"]]
    tasks = sorted({row["task"] for row in rows})
    wanted = set(table.cells.get("task", tasks))
    if len(wanted) > 1 or not wanted <= set(tasks):
        raise SettingsError(
            f"{where}: of which task are its predictions? The others have {', '.join(tasks)}; "
            "give it a column task with one of them, and one file a task"
        )
    level = "slide" if table.slide_ids is not None else "patient"
    fitting = [r for r in rows if r["task"] in wanted and r["level"] == level]
    if not fitting:
        raise SettingsError(
            f"{where} is of {level}s, the other predictions are not; give both at the same level"
        )
    first = fitting[0]["method"], fitting[0]["split"]
    return like[0].kind, [r for r in fitting if (r["method"], r["split"]) == first]


def _own_rows(table: LabelTable, truth: Mapping[str, Sequence[Any]], *, where: Path) -> list[Row]:
    n = len(table.patient_ids)
    level = "slide" if table.slide_ids is not None else "patient"
    names = table.slide_ids or table.patient_ids
    return [
        {
            "task": table.cells.get("task", [where.stem] * n)[i],
            "split": table.cells.get("split", ["foreign"] * n)[i],
            "train_size": table.cells.get("train_size", [FULL] * n)[i],
            "draw": int(table.cells.get("draw", ["0"] * n)[i]),
            "fold": int(table.cells.get("fold", ["0"] * n)[i]),
            "n_train": None,
            "level": level,
            "slide_id": names[i],
            "patient_id": table.patient_ids[i] or patient_of(names[i])[0],
            "method": "",
            "control": "",
            "control_of": "",
            "seen": None,
            **{column: values[i] for column, values in truth.items()},
        }
        for i in range(n)
    ]


def _matched(table: LabelTable, template: Sequence[Row], *, where: Path) -> list[Row]:
    """For each row of the file the one that it stands for."""
    given = [key for key in KEYS if key in table.cells]
    places: dict[tuple[str, ...], list[int]] = {}
    for number, row in enumerate(template):
        key = (row["slide_id"], *(str(row[k]) for k in given))
        places.setdefault(key, []).append(number)
    names = table.slide_ids or table.patient_ids
    keys = list(zip(names, *(table.cells[k] for k in given), strict=True))
    _refuse_several(places, given, where=where)
    unknown = [key[0] for key in keys if key not in places]
    held = set(keys)
    missing = [key[0] for key in places if key not in held]
    if unknown or missing:
        raise SettingsError(
            f"{where} does not hold the test slides of the other methods: {len(missing)} tests lack"
            f" ({_some(missing)}), {len(unknown)} are too many ({_some(unknown)}). Predict exactly "
            "the slides of the folder of splits beside the others' predictions, and leave out the "
            "rest"
        )
    if len(held) < len(keys):
        twice = next(key[0] for key in keys if keys.count(key) > 1)
        raise SettingsError(f"{where} names '{twice}' twice; say the fold and draw of each row")
    return [template[places[key][0]] for key in keys]


def _classes(rows: Sequence[Row]) -> Sequence[str]:
    """Classes of the task: the columns that others filled, or all where there are no others."""
    named = [column for column in rows[0] if column.startswith("p_")]
    filled = [column for column in named if rows[0][column] is not None]
    return [column[2:] for column in filled or named]


def _refuse_other_labels(table: LabelTable, rows: Sequence[Row], *, where: Path) -> None:
    label = next((name for name in ("y_true", "label") if name in table.cells), None)
    if label is None or not isinstance(rows[0].get("y_true"), str):
        return
    for row, text in zip(rows, table.cells[label], strict=True):
        if text != row["y_true"]:
            raise SettingsError(
                f"{where}: slide '{row['slide_id']}' has the label '{text}', the other "
                f"predictions have '{row['y_true']}'; correct the column {label}, or leave it out"
            )


def _refuse_several(
    places: Mapping[tuple[str, ...], Sequence[int]], given: Sequence[str], *, where: Path
) -> None:
    several = [key[0] for key, rows in places.items() if len(rows) > 1]
    if several:
        lacking = ", ".join(key for key in KEYS if key not in given)
        raise SettingsError(
            f"{where}: '{several[0]}' is tested more than once by the other methods, so each row "
            f"must say which test it is; add the columns {lacking or 'of their tables'}"
        )


def _some(names: Sequence[str]) -> str:
    return (", ".join(names[:3]) + (" …" if len(names) > 3 else "")) if names else "none"
