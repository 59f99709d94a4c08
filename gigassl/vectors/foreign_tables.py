"""Slide vectors in tables: a column of names, and numeric columns or one column of lists."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from jaxtyping import Float

from gigassl.errors import SettingsError
from gigassl.vectors.foreign_record import ForeignVectors
from gigassl.vectors.table import FORMAT

ID_COLUMNS = ("slide_id", "ID", "wsi", "FILENAME", "sample_id", "filename", "slide")
PATIENT_COLUMNS = ("patient_id", "case_id", "PATIENT")
_NUMBERED = re.compile(r"^(.*?)(\d+)$")


def read_csv(path: Path) -> ForeignVectors:
    """A CSV (or TSV): a column of slide names, and one numeric column a dimension.

    Raises:
        SettingsError: no readable table, or no such columns.
    """
    try:
        data = pc.read_csv(
            path,
            parse_options=pc.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ","),
            convert_options=pc.ConvertOptions(
                column_types={name: pa.string() for name in (*ID_COLUMNS, *PATIENT_COLUMNS)},
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowException, OSError) as error:
        raise SettingsError(f"{path.name} is no readable table: {error}") from error
    return _of_table(data, path)


def read_parquet(path: Path) -> ForeignVectors:
    """A Parquet table: a column of slide names, and numeric columns or one column of lists.

    Raises:
        SettingsError: no readable table, one of ours, or no such columns.
    """
    try:
        data = pq.read_table(path)
        data.validate(full=True)  # reading does not look whether a text is one
    except (pa.ArrowException, OSError) as error:
        raise SettingsError(f"{path.name} is no readable Parquet file: {error}") from error
    if (data.schema.metadata or {}).get(b"format", b"").decode() == FORMAT:
        raise SettingsError(f"{path.name} is a table of gigassl already; use it as it is")
    return _of_table(data, path)


def _of_table(data: pa.Table, path: Path) -> ForeignVectors:
    named = next((name for name in ID_COLUMNS if name in data.column_names), None)
    if named is None:
        held = ", ".join(data.column_names[:8])
        raise SettingsError(
            f"{path.name} has no column of slide names; expected {', '.join(ID_COLUMNS)}, "
            f"it has: {held}"
        )
    names = [str(name or "").strip() for name in data[named].to_pylist()]
    if "" in names:
        raise SettingsError(f"{path.name}, row {names.index('') + 1}: {named} is not filled in")
    patients = next((name for name in PATIENT_COLUMNS if name in data.column_names), None)
    vectors, notes = _vectors(data.drop_columns([c for c in (named, patients) if c]), path)
    return ForeignVectors(
        tool=path.suffix[1:].lower(),
        names=tuple(names),
        vectors=vectors,
        patient_ids=None if patients is None else _texts(data[patients]),
        notes=notes,
    )


def _texts(column: pa.ChunkedArray) -> tuple[str, ...]:
    return tuple("" if value is None else str(value).strip() for value in column.to_pylist())


def _vectors(data: pa.Table, path: Path) -> tuple[Float[np.ndarray, "slide dim"], tuple[str, ...]]:
    lists = [field.name for field in data.schema if _is_list(field.type)]
    if len(lists) > 1:
        raise SettingsError(
            f"{path.name} has several columns of lists: {', '.join(lists[:5])}; keep one"
        )
    if lists:
        return _of_lists(data[lists[0]], path), _left_out(data.column_names, lists, path)
    numeric = [field.name for field in data.schema if _is_number(field.type)]
    chosen = _series(numeric)
    if not chosen:
        raise SettingsError(f"{path.name} has no numeric columns, and no column of lists")
    columns = [data[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in chosen]
    return np.stack(columns, axis=1), _left_out(data.column_names, chosen, path)


def _is_list(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(check(kind) for check in lists) and pa.types.is_floating(kind.value_type)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _of_lists(column: pa.ChunkedArray, path: Path) -> Float[np.ndarray, "slide dim"]:
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    widths = Counter(0 if value is None else len(value) for value in array)
    if len(widths) != 1 or 0 in widths:
        raise SettingsError(
            f"{path.name} holds vectors of different widths: {', '.join(map(str, sorted(widths)))}"
        )
    flat = array.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
    vectors: Float[np.ndarray, "slide dim"] = flat.reshape(len(array), -1)
    return vectors


def _series(names: list[str]) -> list[str]:
    """The numbered columns, such as f0 … f511, where there are some; else all."""
    matched = [found for found in map(_NUMBERED.match, names) if found is not None]
    if not matched:
        return names
    prefix, count = Counter(found[1] for found in matched).most_common(1)[0]
    if count < 2:
        return names
    numbered = {int(found[2]): found[0] for found in matched if found[1] == prefix}
    return [numbered[number] for number in sorted(numbered)]


def _left_out(names: list[str], used: list[str], path: Path) -> tuple[str, ...]:
    others = [name for name in names if name not in set(used)]
    if not others:
        return ()
    said = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
    return (f"{path.name}: {len(others)} columns are no part of the vectors: {said}",)
