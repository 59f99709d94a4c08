"""Labels of slides from a column of a table."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from gigassl.errors import SettingsError
from gigassl.slides.cohort import slide_id_of

ID_COLUMNS = ("slide_id", "ID", "wsi", "FILENAME", "sample_id", "path")
_EMPTY = {"", "nan", "na", "none", "n/a"}


def read_labels(table: Path, column: str) -> Mapping[str, str]:
    """slide_id → label, of a CSV (or TSV); rows with an empty label are left out.

    Raises:
        SettingsError: no such file or column, no column of slide names, or a slide that is there
            twice with different labels.
    """
    if not table.is_file():
        raise SettingsError(f"no such table of labels: {table}")
    with table.open(newline="", encoding="utf-8-sig") as handle:
        dialect = csv.excel_tab if table.suffix.lower() == ".tsv" else csv.excel
        rows = list(csv.DictReader(handle, dialect=dialect, restval=""))
    columns = [] if not rows else [name for name in rows[0] if name]
    names = next((name for name in ID_COLUMNS if name in columns), None)
    if names is None:
        raise SettingsError(f"{table} has no column slide_id; {_has(columns)}")
    if column not in columns:
        raise SettingsError(f"{table} has no column '{column}'; {_has(columns)}")
    found: dict[str, str] = {}
    for row in rows:
        slide_id, label = slide_id_of(Path(row[names].strip())), row[column].strip()
        if label.lower() in _EMPTY:
            continue
        if found.setdefault(slide_id, label) != label:
            raise SettingsError(
                f"{table}: slide '{slide_id}' has two labels, '{found[slide_id]}' and '{label}'"
            )
    return found


def labels_of(
    slide_ids: Sequence[str], labels: Mapping[str, str], *, where: str
) -> Sequence[str | None]:
    """The label of each slide, None where it has none.

    Raises:
        SettingsError: hardly any slide has one, or all have the same.
    """
    chosen = [labels.get(slide_id) for slide_id in slide_ids]
    classes = {label for label in chosen if label is not None}
    n_labelled = sum(label is not None for label in chosen)
    if n_labelled == 0:
        raise SettingsError(
            f"{where} names none of the {len(slide_ids)} slides; they are called "
            f"'{slide_ids[0]}' and so on"
        )
    if len(classes) < 2 or len(classes) == n_labelled:
        raise SettingsError(
            f"{where} has {len(classes)} different values for {n_labelled} slides; "
            "kNN accuracy needs classes of several slides"
        )
    return chosen


def _has(columns: Sequence[str]) -> str:
    return f"it has: {', '.join(columns)}" if columns else "it is empty"
