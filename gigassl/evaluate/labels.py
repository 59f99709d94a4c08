"""Tables of labels: our own, and those of CLAM, Giga-SSL, Patho-Bench, STAMP and TCGA."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gigassl.delimited import rows_of_text
from gigassl.errors import GigasslError, SettingsError
from gigassl.slides.cohort import slide_id_of

SLIDE_COLUMNS = ("slide_id", "ID", "wsi", "FILENAME", "sample_id", "path")
PATIENT_COLUMNS = ("patient_id", "case_id", "PATIENT", "pat_id")
_EMPTY = {"", "nan", "na", "none", "n/a", "null"}
_SUFFIXES = {".csv", ".tsv", ".txt", ".parquet"}


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """A table as text, each row of a slide or of a patient.

    Attributes:
        where: what messages call it.
        slide_ids: one a row; None where rows are patients.
        patient_ids: one a row, "" where the table does not say.
        cells: column → one text a row, "" where empty.
    """

    where: str
    slide_ids: tuple[str, ...] | None
    patient_ids: tuple[str, ...]
    cells: Mapping[str, Sequence[str]]

    def column(self, name: str) -> Sequence[str]:
        """The texts of one column.

        Raises:
            SettingsError: no such column; those that there are stand in the message.
        """
        if name not in self.cells:
            raise SettingsError(f"{self.where} has no column '{name}'; {_has(list(self.cells))}")
        return self.cells[name]


def read_label_table(path: Path, *, slide_table: Path | None = None) -> LabelTable:
    """Reads a CSV, TSV or Parquet file.

    Rows are slides where a column names them (slide_id, ID, wsi, FILENAME, sample_id or path, with
    or without the file's suffix), else patients (patient_id, case_id, PATIENT or pat_id), as in
    clinical tables.

    Args:
        path: the table of labels.
        slide_table: which slides each patient has, such as STAMP's ``PATIENT,FILENAME``, for a
            table whose rows are patients.

    Raises:
        SettingsError: no such file, another format, no column of slides or patients, empty.
    """
    found = _table(str(path), _cells(path))
    if slide_table is None:
        return found
    slides = _table(str(slide_table), _cells(slide_table))
    if slides.slide_ids is None or not any(slides.patient_ids):
        raise SettingsError(f"{slide_table} must name slides and their patients: PATIENT,FILENAME")
    return _joined(found, slides)


def is_empty(text: str) -> bool:
    """Whether a cell says nothing: blank, NaN, NA, None, null."""
    return text.lower() in _EMPTY


def read_labels(table: Path, column: str) -> Mapping[str, str]:
    """slide_id → label, of a table of slides; rows with an empty label are left out.

    Raises:
        SettingsError: no such file or column, no column of slide names, or a slide that is there
            twice with different labels.
    """
    found = read_label_table(table)
    if found.slide_ids is None:
        raise SettingsError(f"{table} has no column slide_id; {_has(list(found.cells))}")
    return unique_labels(found.slide_ids, found.column(column), what="slide", where=str(table))


def unique_labels(
    names: Sequence[str], labels: Sequence[str], *, what: str, where: str
) -> dict[str, str]:
    """Name → label without the empty ones.

    Raises:
        SettingsError: a name that is there twice with different labels.
    """
    found: dict[str, str] = {}
    for name, label in zip(names, labels, strict=True):
        if not is_empty(label) and found.setdefault(name, label) != label:
            raise SettingsError(
                f"{where}: {what} '{name}' has two labels, '{found[name]}' and '{label}'"
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


def some(names: Sequence[str], *, most: int = 3) -> str:
    """The first names, and that there are more.

    >>> some(["a", "b", "c", "d"])
    "'a', 'b', 'c' and 1 more"
    """
    said = ", ".join(f"'{name}'" for name in names[:most])
    return said if len(names) <= most else f"{said} and {len(names) - most} more"


def _cells(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        raise SettingsError(f"no such table of labels: {path}")
    if path.suffix.lower() not in _SUFFIXES:
        raise SettingsError(f"{path} is no table that can be read; save it as CSV, TSV or Parquet")
    if path.suffix.lower() == ".parquet":
        return _parquet_cells(path)
    rows = rows_of_text(path.read_bytes(), where=str(path))
    names = [name for name in rows[0] if name.strip()] if rows else []
    return {name.strip(): [row[name].strip() for row in rows] for name in names}


def _parquet_cells(path: Path) -> dict[str, list[str]]:
    try:
        schema = pq.read_schema(path)
        plain = [field.name for field in schema if not pa.types.is_nested(field.type)]
        data = pq.read_table(path, columns=plain)
    except (pa.ArrowException, OSError) as error:
        raise GigasslError(f"{path} is not Parquet, or is damaged: {error}") from error
    columns = zip(plain, data.columns, strict=True)
    return {name: [_text(cell) for cell in column.to_pylist()] for name, column in columns}


def _text(cell: object) -> str:
    """A cell as a CSV would have it; numbers that only a missing neighbour made floats as whole."""
    if cell is None:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def _table(where: str, cells: Mapping[str, Sequence[str]]) -> LabelTable:
    n = len(next(iter(cells.values()))) if cells else 0
    slides = next((name for name in SLIDE_COLUMNS if name in cells), None)
    patients = next((name for name in PATIENT_COLUMNS if name in cells), None)
    if n == 0 or (slides is None and patients is None):
        raise SettingsError(f"{where} has no column slide_id; {_has(list(cells) if n else [])}")
    return LabelTable(
        where=where,
        slide_ids=tuple(slide_id_of(Path(name)) for name in cells[slides]) if slides else None,
        patient_ids=tuple(cells[patients]) if patients else ("",) * n,
        cells=cells,
    )


def _joined(labels: LabelTable, slides: LabelTable) -> LabelTable:
    """The rows of patients, once for each of their slides."""
    row_of: dict[str, int] = {}
    for row, patient in enumerate(labels.patient_ids):
        if row_of.setdefault(patient, row) != row:
            raise SettingsError(f"{labels.where} names patient '{patient}' more than once")
    pairs = zip(slides.patient_ids, slides.slide_ids or (), strict=True)
    chosen = [(row_of[p], p, s) for p, s in pairs if p in row_of]
    if not chosen:
        raise SettingsError(
            f"no patient of {slides.where} (such as '{slides.patient_ids[0]}') stands in "
            f"{labels.where} (such as '{labels.patient_ids[0]}')"
        )
    return LabelTable(
        where=labels.where,
        slide_ids=tuple(slide for _, _, slide in chosen),
        patient_ids=tuple(patient for _, patient, _ in chosen),
        cells={name: [texts[row] for row, _, _ in chosen] for name, texts in labels.cells.items()},
    )


def _has(columns: Sequence[str]) -> str:
    return f"it has: {', '.join(columns)}" if columns else "it is empty"
