"""Parquet files as read: columns, format, version and provenance, whoever wrote them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gigassl.errors import GigasslError
from gigassl.files import machine_error


@dataclass(frozen=True, kw_only=True)
class ParquetFile:
    """A Parquet file as read: its columns, and what its metadata say (empty where nothing)."""

    data: pa.Table
    format: str
    version: int
    metadata: Mapping[str, str]
    provenance: Mapping[str, Any]


def read_parquet(path: Path) -> ParquetFile:
    """Reads a Parquet file whole, checksums included, whoever wrote it.

    Raises:
        GigasslError: missing, not Parquet, truncated or damaged.
        MachineError: no file handles left.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            data = file.read()
        metadata = {k.decode(): v.decode() for k, v in (data.schema.metadata or {}).items()}
        return ParquetFile(
            data=data.replace_schema_metadata(None),
            format=metadata.get("format", ""),
            version=int(metadata.get("version", "0")),
            metadata=metadata,
            provenance=json.loads(metadata.get("provenance", "{}")),
        )
    except FileNotFoundError as error:
        raise GigasslError(f"{path}: no such file") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> GigasslError:
    known = (
        machine_error(error, doing=f"cannot read {path}") if isinstance(error, OSError) else None
    )
    if known is not None:
        return known
    if path.is_dir():
        return GigasslError(f"{path} is a folder; give one Parquet file")
    with path.open("rb") as handle:
        is_parquet = handle.read(4) == b"PAR1"
    if is_parquet:
        return GigasslError(f"{path} is a truncated or damaged Parquet file; make it again")
    return GigasslError(f"{path} is not a Parquet file")
