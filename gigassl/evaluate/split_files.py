"""Split files: the lists of Giga-SSL, CLAM and Patho-Bench, and our own, which hold every split."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64

from gigassl.delimited import rows_of_text
from gigassl.errors import SettingsError
from gigassl.evaluate.draws import size_rank
from gigassl.evaluate.labels import LabelTable, is_empty, read_label_table, some
from gigassl.evaluate.split import FULL, Split
from gigassl.evaluate.task import Task, rows_of
from gigassl.files import written_whole
from gigassl.slides.cohort import slide_id_of

TABLE, INDEX = "splits.tsv", "splits.csv"
"""Our own two files: Patho-Bench's table of slides × splits, and what each column of it is."""

_INDEX_COLUMNS = ("column", "scheme", "train_size", "draw", "fold")
_SIDES: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
_FOLD = re.compile(r"^fold_(\d+)$")
_GIGA_SSL = re.compile(r"^split_(\d+)\.csv$")
_CLAM = re.compile(r"^splits_(\d+)\.csv$")
_SIZE = re.compile(r"^(?:full|[1-9]\d*|[1-9]\d*p)$")


@dataclass(frozen=True, kw_only=True)
class SplitList:
    """A split as a file has it: names of slides, with a label and a vector or without.

    Attributes:
        where: the file, and the column where it holds several splits.
        scheme, train_size, draw, fold: as in ``Split``.
        train, val, test: names of slides.

    Raises:
        SettingsError: a slide twice, nothing to learn from, nothing to test.
    """

    where: str
    scheme: str
    train_size: str = FULL
    draw: int = 0
    fold: int
    train: tuple[str, ...]
    val: tuple[str, ...] = ()
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.slide_ids)) < len(self.slide_ids):
            twice = [name for name, count in Counter(self.slide_ids).items() if count > 1]
            raise SettingsError(f"{self.where} names {len(twice)} slides twice: {some(twice)}")
        for side in ("train", "test"):
            if not getattr(self, side):
                raise SettingsError(f"{self.where} has an empty {side} set")

    @property
    def slide_ids(self) -> tuple[str, ...]:
        """All slides of the split."""
        return (*self.train, *self.val, *self.test)


def read_splits(folder: Path, task: Task) -> tuple[Split, ...]:
    """The splits of a folder or file, of the slides that the task has; the others are left out.

    Raises:
        SettingsError: as ``read_split_lists`` and ``splits_of``.
    """
    return splits_of(read_split_lists(folder), task)


def splits_of(lists: Sequence[SplitList], task: Task) -> tuple[Split, ...]:
    """Split lists as rows of a task; rows in rising order.

    Raises:
        SettingsError: a split none of whose training or test slides the task has.
    """
    return tuple(_split_of(each, task) for each in lists)


def _split_of(each: SplitList, task: Task) -> Split:
    rows: dict[str, Int64[np.ndarray, " side"]] = {}
    for side in _SIDES:
        found = rows_of(task.slide_ids, getattr(each, side))
        rows[side] = np.sort(found[found >= 0])
        if side != "val" and len(rows[side]) == 0:
            raise SettingsError(
                f"{each.where}: none of its {len(found)} {side} slides, such as "
                f"'{getattr(each, side)[0]}', has both a label and a vector"
            )
    return Split(
        scheme=each.scheme, train_size=each.train_size, draw=each.draw, fold=each.fold,
        train=rows["train"], val=rows["val"], test=rows["test"],
    )  # fmt: skip


def read_split_lists(path: Path) -> tuple[SplitList, ...]:
    """Reads published split files, or our own.

    Understood: a folder that ``write_splits`` made; Giga-SSL's ``{full,25p,100,50}/split_0.csv``
    or one such folder (columns train, test and perhaps val, of unequal lengths); CLAM's
    ``splits_0.csv``; Patho-Bench's TSV with columns fold_0 … that say train, val or test.

    Raises:
        SettingsError: nothing of that kind there, a slide twice in a split, an empty side.
    """
    if path.is_file():
        return _of_patho_bench(path)
    if not path.is_dir():
        raise SettingsError(f"no such folder or file of splits: {path}")
    if (path / INDEX).is_file():
        return _of_ours(path)
    for readers in (_of_giga_ssl, _of_clam, _of_one_table):
        found = readers(path)
        if found:
            return found
    raise SettingsError(
        f"{path} holds no splits; expected split_0.csv … (or folders full, 25p, 100, 50 of them), "
        "CLAM's splits_0.csv …, or one Patho-Bench TSV with columns fold_0 …"
    )


def _of_giga_ssl(folder: Path) -> tuple[SplitList, ...]:
    sizes = {p.name: p for p in sorted(folder.iterdir()) if p.is_dir() and _SIZE.match(p.name)}
    in_order = dict(sorted(sizes.items(), key=lambda item: size_rank(_train_size(item[0]))))
    parts = in_order or {folder.name if _SIZE.match(folder.name) else FULL: folder}
    return tuple(
        _of_columns(path, scheme="published:giga-ssl", fold=fold, train_size=_train_size(size))
        for size, part in parts.items()
        for fold, path in _numbered(part, _GIGA_SSL)
    )


def _of_clam(folder: Path) -> tuple[SplitList, ...]:
    return tuple(
        _of_columns(path, scheme="published:clam", fold=fold, train_size=FULL)
        for fold, path in _numbered(folder, _CLAM)
    )


def _of_one_table(folder: Path) -> tuple[SplitList, ...]:
    tables = sorted(folder.glob("*.tsv"))
    return _of_patho_bench(tables[0]) if len(tables) == 1 else ()


def _train_size(folder: str) -> str:
    return f"{folder[:-1]}%" if folder.endswith("p") else folder


def _numbered(folder: Path, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    matches = ((pattern.match(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in matches if match)


def _of_columns(path: Path, *, scheme: str, fold: int, train_size: str) -> SplitList:
    """One file a split, one column a side."""
    rows = rows_of_text(path.read_bytes(), where=str(path))
    has = [name for name in rows[0] if name] if rows else []
    if not {"train", "test"} <= set(has):
        raise SettingsError(
            f"{path} needs the columns train and test; it has: {', '.join(has) or 'nothing'}"
        )
    cells = {side: [row.get(side, "").strip() for row in rows] for side in _SIDES}
    names = {
        side: tuple(slide_id_of(Path(cell)) for cell in cells[side] if not is_empty(cell))
        for side in _SIDES
    }
    return SplitList(
        where=str(path), scheme=scheme, train_size=train_size, fold=fold, train=names["train"],
        val=names["val"], test=names["test"],
    )  # fmt: skip


def _of_patho_bench(path: Path) -> tuple[SplitList, ...]:
    """One file, one column a split."""
    table = read_label_table(path)
    folds = {int(found[1]): name for name in table.cells if (found := _FOLD.match(name))}
    if table.slide_ids is None or not folds:
        raise SettingsError(
            f"{path} needs a column slide_id and columns fold_0 … that say train, val or test; it "
            f"has: {', '.join(table.cells)}"
        )
    return tuple(
        _of_column(table, name, scheme="published:patho-bench", fold=fold)
        for fold, name in sorted(folds.items())
    )


def _of_column(
    table: LabelTable, column: str, *, scheme: str, fold: int, draw: int = 0,
    train_size: str = FULL,
) -> SplitList:  # fmt: skip
    """One column of a table of slides × splits."""
    where, cells = f"{table.where}, column {column}", table.column(column)
    unknown = sorted(set(cells) - {*_SIDES, "-1", "-1.0", ""})
    if unknown:
        raise SettingsError(f"{where}: expected train, val, test or -1; got {some(unknown)}")
    names = {side: tuple(compress(table.slide_ids or (), (cell == side for cell in cells)))
             for side in _SIDES}  # fmt: skip
    return SplitList(
        where=where, scheme=scheme, train_size=train_size, draw=draw, fold=fold,
        train=names["train"], val=names["val"], test=names["test"],
    )  # fmt: skip


def _of_ours(folder: Path) -> tuple[SplitList, ...]:
    table = read_label_table(folder / TABLE)
    return tuple(
        _of_column(
            table, row["column"], scheme=row["scheme"], train_size=row["train_size"],
            draw=int(row["draw"]), fold=int(row["fold"]),
        )
        for row in _index(folder / INDEX)
    )  # fmt: skip


def _index(path: Path) -> list[dict[str, str]]:
    """What each column of our table of splits is."""
    rows = rows_of_text(path.read_bytes(), where=str(path))
    if not rows or tuple(rows[0]) != _INDEX_COLUMNS:
        raise SettingsError(f"{path} is no index of splits; expected {','.join(_INDEX_COLUMNS)}")
    return rows


def write_splits(folder: Path, task: Task, splits: Sequence[Split]) -> None:
    """Writes splits so that ``read_splits`` gives them back: slides × splits, and an index.

    The table is Patho-Bench's: case_id, slide_id, the label, fold_0 … with train, val, test or -1.

    Raises:
        MachineError: disk full, quota, read-only folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    columns = [f"fold_{k}" for k in range(len(splits))]
    # the index last: without it the folder does not count as splits
    _write(folder / TABLE, _rows(task, splits, columns), delimiter="\t")
    facts = ([c, s.scheme, s.train_size, s.draw, s.fold] for c, s in zip(columns, splits,
             strict=True))  # fmt: skip
    _write(folder / INDEX, [list(_INDEX_COLUMNS), *facts], delimiter=",")


def _rows(task: Task, splits: Sequence[Split], columns: Sequence[str]) -> Iterator[list[str]]:
    yield ["case_id", "slide_id", task.name, *columns]
    sides = np.full((len(task), len(splits)), "-1", dtype="<U5")
    for k, split in enumerate(splits):
        for side in _SIDES:
            sides[getattr(split, side), k] = side
    for row, (patient, slide) in enumerate(zip(task.patient_ids, task.slide_ids, strict=True)):
        label = task.classes[task.labels[row]] if task.classes else repr(float(task.target[row]))
        yield [patient, slide, label, *sides[row]]


def _write(path: Path, rows: Iterator[list[str]] | list[list[object]], *, delimiter: str) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    with written_whole(path) as part:
        part.write_text(text.getvalue(), encoding="utf-8")
