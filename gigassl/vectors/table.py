"""Slide table: one row a slide with its vector, as one Parquet file with its provenance."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32

from gigassl.errors import GigasslError, unknown_name
from gigassl.files import written_whole
from gigassl.vectors.frames import anndata_of, pandas_of, polars_of
from gigassl.vectors.parquet_files import read_parquet
from gigassl.vectors.row import SlideRow

if TYPE_CHECKING:
    # beartype finds the classes by their full names
    import anndata  # type: ignore[import-untyped]
    import pandas  # noqa: ICN001
    import polars  # noqa: ICN001

__all__ = [
    "SlideRow", "SlideTable", "one_row", "open_table", "save_table", "table_from_columns",
    "table_from_rows",
]  # fmt: skip

FORMAT = "gigassl-vectors"
VERSION = 1
_ROWS_PER_GROUP = 65_536


_COLUMNS = {
    "slide_id": pa.string(),
    "patient_id": pa.string(),
    "patient_rule": pa.string(),
    "file": pa.string(),
    "n_tiles": pa.int64(),
    "n_views": pa.int64(),
    "view_spread": pa.float64(),
    "mpp": pa.float64(),
    "mpp_source": pa.string(),
    "effective_mpp": pa.float64(),
    "width_l0": pa.int64(),
    "height_l0": pa.int64(),
    "slide_digest": pa.string(),
    "inputs_digest": pa.string(),
    "settings_digest": pa.string(),
}
COLUMN_NAMES = (*_COLUMNS, "embedding")


@dataclass(frozen=True, kw_only=True)
class SlideTable:
    """Vectors of slides, sorted by slide_id, each id once, with one common settings digest.

    Attributes:
        data: the columns of ``SlideRow``, ``embedding`` last; further columns may follow.
        provenance: JSON-ready record: settings, versions, encoder, patient rule.

    Raises:
        GigasslError: no rows, a slide_id twice, or settings digests that differ.
    """

    data: pa.Table
    provenance: Mapping[str, Any]

    def __post_init__(self) -> None:
        if len(self) == 0:
            raise GigasslError("the table holds no slide")
        twice = [name for name, count in Counter(self.slide_ids).items() if count > 1]
        if twice:
            raise GigasslError(
                f"{len(twice)} slide_ids stand more than once in the table: {_some(twice)}; "
                "rename the files, or leave one out"
            )
        digests = sorted(set(self.data["settings_digest"].to_pylist()))
        if len(digests) > 1:
            raise GigasslError(
                f"the rows were made with different settings (digests {_some(digests)}); "
                "embed all slides with the same settings"
            )
        order = np.argsort(np.array(self.slide_ids, dtype=object), kind="stable")
        if (order != np.arange(len(order))).any():
            object.__setattr__(self, "data", self.data.take(pa.array(order)))

    def __len__(self) -> int:
        return int(self.data.num_rows)

    @property
    def slide_ids(self) -> list[str]:
        """Names of the slides, in the order of the rows."""
        names: list[str] = self.data["slide_id"].to_pylist()
        return names

    @property
    def patient_ids(self) -> list[str]:
        """Names of the patients, in the order of the rows."""
        names: list[str] = self.data["patient_id"].to_pylist()
        return names

    @property
    def settings_digest(self) -> str:
        """Digest of the settings that all rows share."""
        return str(self.data["settings_digest"][0])

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.data.schema.field("embedding").type.list_size)

    @property
    def embeddings(self) -> Float32[np.ndarray, "slide dim"]:
        """The vectors, one row a slide; read-only."""
        column = self.data["embedding"].combine_chunks()
        array = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        flat = array.flatten().to_numpy(zero_copy_only=True)
        vectors: Float32[np.ndarray, "slide dim"] = flat.reshape(-1, self.dim)
        return vectors

    def vector(self, slide_id: str) -> Float32[np.ndarray, " dim"]:
        """The vector of one slide.

        Raises:
            SettingsError: no slide of that name; the nearest name is guessed.
        """
        names = self.slide_ids
        if slide_id not in names:
            raise unknown_name("slide", slide_id, known=names)
        row: Float32[np.ndarray, " dim"] = self.embeddings[names.index(slide_id)]
        return row

    def rows(self) -> list[SlideRow]:
        """The rows as records, in order; further columns are left out."""
        facts = self.data.select(list(_COLUMNS)).to_pylist()
        vectors = self.embeddings
        return [SlideRow(**f, embedding=v) for f, v in zip(facts, vectors, strict=True)]

    def to_pandas(self) -> "pandas.DataFrame":
        """The table as a pandas data frame, ``embedding`` as a column of arrays.

        Raises:
            SettingsError: pandas is not installed.
        """
        return pandas_of(self.data)

    def to_polars(self) -> "polars.DataFrame":
        """The table as a polars data frame, ``embedding`` as a column of ``Array(Float32, dim)``.

        Raises:
            SettingsError: polars is not installed.
        """
        return polars_of(self.data)

    def to_anndata(self, *, labels: "pandas.DataFrame | None" = None) -> "anndata.AnnData":
        """The table as AnnData, for scanpy and the rest of scverse; see ``frames.anndata_of``.

        Args:
            labels: more columns of slides: a data frame with a column ``slide_id``, or with the
                slide ids as its index.

        Raises:
            SettingsError: anndata is not installed, or labels that fit no slide, name one twice, or
                repeat a column.
        """
        return anndata_of(self.data, provenance=self.provenance, labels=labels)


def table_from_rows(rows: Sequence[SlideRow], *, provenance: Mapping[str, Any]) -> SlideTable:
    """A table of slides, whatever the order in which they were finished.

    Raises:
        GigasslError: no rows, a slide_id twice, widths or settings digests that differ.
    """
    if not rows:
        raise GigasslError("no slide was embedded, so there is no table to make")
    widths = Counter(len(row.embedding) for row in rows)
    if len(widths) > 1:
        raise GigasslError(f"the slides' vectors have different widths: {_some(sorted(widths))}")
    columns: dict[str, Any] = {
        name: pa.array([getattr(row, name) for row in rows], type=kind)
        for name, kind in _COLUMNS.items()
    }
    columns["embedding"] = _embedding_column(np.stack([row.embedding for row in rows]))
    return table_from_columns(columns, provenance=provenance)


def table_from_columns(columns: Mapping[str, Any], *, provenance: Mapping[str, Any]) -> SlideTable:
    """A table of Arrow columns by their names, in any order of slides; further ones are left out.

    Raises:
        GigasslError: no rows, a slide_id twice, settings digests that differ.
    """
    unknown = [name for name in _COLUMNS if columns[name].null_count > 0]
    schema = _schema(columns["embedding"].type.list_size, unknown=unknown)
    data = pa.table([columns[name] for name in schema.names], schema=schema)
    return SlideTable(data=data, provenance=provenance)


def one_row(row: SlideRow, *, provenance: Mapping[str, Any]) -> SlideTable:
    """A table of one slide: a finished part of a running job."""
    return table_from_rows([row], provenance=provenance)


def _schema(dim: int, *, unknown: Sequence[str]) -> pa.Schema:
    nullable = {f.name for f in fields(SlideRow) if f.default is None}.union(unknown)
    columns = [pa.field(name, kind, name in nullable) for name, kind in _COLUMNS.items()]
    return pa.schema([*columns, pa.field("embedding", _vector_type(dim), nullable=False)])


def _vector_type(dim: int) -> pa.FixedSizeListType:
    return pa.list_(pa.field("element", pa.float32(), nullable=False), dim)


def _embedding_column(vectors: Float32[np.ndarray, "slide dim"]) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(vectors).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, type=_vector_type(vectors.shape[1]))


def save_table(table: SlideTable, path: Path) -> None:
    """Writes a table as Parquet; equal tables give equal bytes, and the file appears whole.

    Raises:
        MachineError: disk full, quota, read-only or missing folder.
    """
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "normalised": "true",
        "provenance": json.dumps(table.provenance, sort_keys=True, allow_nan=False),
    }
    # where the chunks of a merged table end must not show in the file
    data = table.data.replace_schema_metadata(metadata).combine_chunks()
    plain = [name for name in data.column_names if name != "embedding"]
    with written_whole(path) as part:
        pq.write_table(
            data,
            part,
            compression="zstd",
            use_dictionary=plain,
            column_encoding={"embedding.list.element": "BYTE_STREAM_SPLIT"},
            row_group_size=_ROWS_PER_GROUP,
            write_page_checksum=True,
        )


def open_table(path: Path) -> SlideTable:
    """Reads a table that ``save_table`` wrote.

    Raises:
        GigasslError: missing, not Parquet, truncated, not a table of slide vectors, newer version.
        MachineError: no file handles left.
    """
    found = read_parquet(path)
    if found.format != FORMAT:
        held = _some(found.data.column_names)
        raise GigasslError(
            f"{path} is Parquet, but not a table of slide vectors made by gigassl; it holds: {held}"
        )
    _refuse_columns(found.data, version=found.version, path=path)
    return SlideTable(data=found.data.combine_chunks(), provenance=found.provenance)


def _refuse_columns(data: pa.Table, *, version: int, path: Path) -> None:
    if version > VERSION:
        raise GigasslError(
            f"{path} has format version {version}, this gigassl reads up to {VERSION}; "
            "install a newer gigassl"
        )
    expected = {**_COLUMNS, "embedding": None}
    missing = sorted(expected.keys() - set(data.column_names))
    if missing:
        raise GigasslError(f"{path} lacks the columns {_some(missing)}; make it again")
    kinds = {name: data.schema.field(name).type for name in expected}
    wrong = [name for name, kind in _COLUMNS.items() if kinds[name] != kind]
    if not pa.types.is_fixed_size_list(kinds["embedding"]):
        wrong.append("embedding")
    if wrong:
        raise GigasslError(f"{path} holds columns of the wrong type: {_some(wrong)}; make it again")


def _some(names: Sequence[object]) -> str:
    return ", ".join(str(name) for name in names[:5]) + (" …" if len(names) > 5 else "")
