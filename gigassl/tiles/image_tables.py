"""Tables of labelled images: which columns say what, and which files their rows mean."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gigassl.errors import SettingsError
from gigassl.tiles.image_files import IMAGE_SUFFIXES, image_files_below
from gigassl.tiles.pretrain.source import UnreadableFile

_NAME_COLUMNS = ("path", "file", "image", "filename", "file_name", "name")
_LABEL_COLUMNS = ("label", "class", "target")
_GROUP_COLUMNS = ("group", "patient_id", "patient", "case_id", "slide_id")
_EMPTY = {"", "nan", "na", "none", "n/a", "null"}


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """One image, its class, and its group, "" where not known."""

    name: str
    path: Path
    label: str
    group: str


@dataclass(frozen=True, kw_only=True)
class Columns:
    """A table as rows, and which of its columns say what."""

    table: Path
    rows: Sequence[Mapping[str, str]]
    name: str
    label: str
    group: str | None


def columns_of(table: Path, *, label: str | None, group: str | None) -> Columns:
    """Reads a table and finds its columns; usual names count where none is wanted.

    Raises:
        SettingsError: empty, or without such columns.
    """
    rows = _rows(table)
    if not rows:
        raise SettingsError(f"{table} holds no rows; expected path,label[,group]")
    here = list(rows[0])
    named = _column(here, None, _NAME_COLUMNS)
    wanted, grouped = _column(here, label, _LABEL_COLUMNS), _column(here, group, _GROUP_COLUMNS)
    has = f"it has: {', '.join(here)}"
    if named is None:
        raise SettingsError(
            f"{table} has no column that names images: path, file, image or name; {has}"
        )
    if wanted is None:
        raise SettingsError(
            f"{table} has no column '{label or 'label'}'; choose one with --label-column; {has}"
        )
    if group is not None and grouped is None:
        raise SettingsError(f"{table} has no column '{group}' for groups; {has}")
    return Columns(table=table, rows=rows, name=named, label=wanted, group=grouped)


def _rows(table: Path) -> list[dict[str, str]]:
    dialect = csv.excel_tab if table.suffix.lower() == ".tsv" else csv.excel
    try:
        with table.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, dialect=dialect, restkey="", restval="")
            return [
                {key.strip(): text.strip() for key, text in row.items() if key and key.strip()}
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{table} cannot be read as a table: {error}") from error


def _column(here: Sequence[str], wanted: str | None, usual: Iterable[str]) -> str | None:
    """The column of that name, else the first usual one, in any case, with blanks or dashes."""
    if wanted is not None:
        return wanted.strip() if wanted.strip() in here else None
    plain = {re.sub(r"[ -]+", "_", column.lower()): column for column in reversed(here)}
    return next((plain[name] for name in usual if name in plain), None)


def rows_of_table(
    columns: Columns, folder: Path
) -> tuple[list[ImageRow], list[UnreadableFile], list[str]]:
    """The labelled images of a table that lie in a folder, those that do not, and notes.

    Raises:
        SettingsError: none of them is there, or a name fits several files.
    """
    files = _FilesByName(folder)
    images, missing, unlabelled = [], list[UnreadableFile](), 0
    for row in columns.rows:
        name, label = row[columns.name], row[columns.label]
        if not name or label.lower() in _EMPTY:
            unlabelled += 1
            continue
        path = files.find(name, beside=columns.table)
        if path is None:
            reason = f"no such file in {folder.name or folder}"
            missing.append(UnreadableFile(name=name, path=name, reason=reason))
            continue
        group = row[columns.group] if columns.group else ""
        images.append(ImageRow(name=name, path=path, label=label, group=group))
    if not images:
        packed = next(iter(sorted(folder.glob("*.zip"))), None)
        advice = f"; unpack it first: python -m zipfile -e {packed} {folder}" if packed else ""
        raise SettingsError(
            f"{columns.table} names {len(missing)} labelled images, and {folder} holds none of "
            f"them{advice}"
        )
    said = f"labels: column '{columns.label}' of {columns.table.name}"
    notes = [f"{said}; groups: column '{columns.group}'" if columns.group else said]
    rest = len(files) - len({image.path for image in images})
    if unlabelled:
        notes.append(f"{unlabelled} rows of {columns.table.name} without name or label left out")
    if rest:
        notes.append(f"{rest} images in the folder stand in no row and are left out")
    return images, missing, notes


class _FilesByName:
    """Image files below a folder by path, by name, and by name without suffix."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = image_files_below(folder)
        self._found: dict[str, list[Path]] = {}
        for path in self._files:
            below = path.relative_to(folder)
            for key in {str(below), str(below.with_suffix("")), path.name, path.stem}:
                self._found.setdefault(key, []).append(path)

    def __len__(self) -> int:
        return len(self._files)

    def find(self, name: str, *, beside: Path) -> Path | None:
        """The file that a table means.

        Raises:
            SettingsError: several fit.
        """
        for direct in (self._folder / name, beside.parent / name):
            if direct.suffix.lower() in IMAGE_SUFFIXES and direct.is_file():
                return direct
        fitting = self._found.get(name) or self._found.get(Path(name).name) or []
        if len(fitting) > 1:
            raise SettingsError(
                f"'{name}' fits several files, {fitting[0]} and {fitting[1]}; write the path below "
                "the folder"
            )
        return fitting[0] if fitting else None
