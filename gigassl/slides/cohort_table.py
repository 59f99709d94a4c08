"""Tables of slides: our own columns, and those of other tools."""

import math
from collections.abc import Mapping
from pathlib import Path

from gigassl.delimited import rows_of_text
from gigassl.errors import SettingsError
from gigassl.slides.cohort_slide import CohortSlide, patient_of, slide_id_of
from gigassl.slides.listing import files_below
from gigassl.stores import RemoteFile
from gigassl.urls import is_url, joined, name_of, path_of

# column names of other tools' tables, the first that is present counts
_ID_COLUMNS = ("slide_id", "ID", "wsi", "FILENAME", "sample_id")
_PATH_COLUMNS = ("path", "image_path", "wsi")
_PATIENT_COLUMNS = ("patient_id", "case_id", "PATIENT")
_MPP_COLUMNS = ("mpp", "spacing_at_level_0")


def slides_of_table(
    data: bytes, table: str, *, base: Path | str, slide_dir: Path | None
) -> list[CohortSlide]:
    """The slides that a CSV (or TSV) names, in its order; whether they are there is not looked at.

    Args:
        data: the table's content.
        table: its name, for messages.
        base: where relative paths start, a folder or a URL.
        slide_dir: where to look for the slides of a table that names no paths.

    Raises:
        SettingsError: a table that cannot be used.
    """
    rows = rows_of_text(data, where=table)
    if not rows:
        raise SettingsError(f"{table} holds no rows; expected slide_id,path[,patient_id][,mpp]")
    columns = list(rows[0])
    id_column = next((c for c in _ID_COLUMNS if c in columns), None)
    path_column = next((c for c in _PATH_COLUMNS if c in columns), None)
    if id_column is None and path_column is None:
        raise SettingsError(
            f"{table} has neither a slide_id nor a path column; its columns: {', '.join(columns)}"
        )
    if path_column is None and slide_dir is None:
        raise SettingsError(
            f"{table} has no path column; add one, or say where the slides lie with --slide-dir"
        )
    found = {slide_id_of(p): p for p in files_below(slide_dir)} if slide_dir else {}
    slides = []
    for line, row in enumerate(rows, start=2):
        slides.append(
            _slide_of_row(row, id_column=id_column, path_column=path_column, found=found,
                          where=f"{table} line {line}", base=base)
        )  # fmt: skip
    return slides


def _slide_of_row(
    row: Mapping[str, str], *, id_column: str | None, path_column: str | None,
    found: Mapping[str, Path], where: str, base: Path | str,
) -> CohortSlide:  # fmt: skip
    named = (row[path_column] if path_column else "").strip()
    given_id = (row[id_column] if id_column else "").strip()
    if not named and not given_id:
        raise SettingsError(f"{where}: neither slide_id nor path is filled in")
    # tables of other tools write the id with or without the file's suffix
    slide_id = slide_id_of(Path(given_id or (name_of(named) if is_url(named) else named)))
    if slide_id in {"", ".."} or any(ord(character) < ord(" ") for character in slide_id):
        raise SettingsError(f"{where}: {given_id or named!r} names no slide")
    here = None if named else found.get(slide_id)
    place = here or _place(named or slide_id, base, where=where)
    patient_column = next((c for c in _PATIENT_COLUMNS if (row.get(c) or "").strip()), None)
    patient_id, rule = (
        (row[patient_column].strip(), "column") if patient_column else patient_of(slide_id)
    )
    used = {id_column, path_column, patient_column, *_MPP_COLUMNS}
    return CohortSlide(
        slide_id=slide_id,
        path=Path(path_of(place)) if isinstance(place, str) else place,
        remote=RemoteFile(url=place) if isinstance(place, str) else None,
        patient_id=patient_id,
        patient_rule=rule,
        mpp=_mpp_of_row(row, where=where),
        labels={k: v for k, v in row.items() if k and k not in used},
    )


def _place(named: str, base: Path | str, *, where: str) -> Path | str:
    """The path or URL that a table names; relative ones start at ``base``."""
    if is_url(named):
        return named
    if not isinstance(base, str):
        return base / named
    if Path(named).is_absolute():
        return Path(named)
    if ".." in Path(named).parts:
        raise SettingsError(f"{where}: '{named}' leads out of the table's folder; name the URL")
    return joined(base, named)


def _mpp_of_row(row: Mapping[str, str], *, where: str) -> float | None:
    text = next((row[c].strip() for c in _MPP_COLUMNS if (row.get(c) or "").strip()), "")
    if not text or text.lower() in {"nan", "na", "none"}:
        return None
    try:
        mpp = float(text)
    except ValueError:
        raise SettingsError(f"{where}: mpp must be a number in µm/px; got '{text}'") from None
    if not 0 < mpp < math.inf:
        raise SettingsError(f"{where}: mpp must be positive, in µm/px; got '{text}'")
    return mpp


def read_patients(table: Path) -> Mapping[str, str]:
    """slide_id → patient_id of a CSV (or TSV); where no column says it, the rule of the names.

    Raises:
        SettingsError: no such file or column of slide names, or a slide of two patients.
    """
    if not table.is_file():
        raise SettingsError(f"no such table: {table}")
    rows = rows_of_text(table.read_bytes(), where=str(table))
    columns = list(rows[0]) if rows else []
    named = next((c for c in (*_ID_COLUMNS, *_PATH_COLUMNS) if c in columns), None)
    if named is None:
        raise SettingsError(f"{table} has no column slide_id; it has: {', '.join(columns)}")
    patient = next((c for c in _PATIENT_COLUMNS if c in columns), None)
    found: dict[str, str] = {}
    for row in rows:
        slide_id = slide_id_of(Path(row[named].strip()))
        patient_id = (row[patient].strip() if patient else "") or patient_of(slide_id)[0]
        if slide_id and found.setdefault(slide_id, patient_id) != patient_id:
            raise SettingsError(
                f"{table}: slide '{slide_id}' has two patients, '{found[slide_id]}' and "
                f"'{patient_id}'"
            )
    return found
