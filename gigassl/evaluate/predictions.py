"""Predictions: one row a test slide of each fold and method, from which every number is derived."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64

from gigassl.errors import GigasslError, SettingsError
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Kind, Task
from gigassl.evaluate.vector_set import Control
from gigassl.files import written_whole
from gigassl.vectors.parquet_files import read_parquet

FORMAT, VERSION = "gigassl-predictions", 1

COLUMNS = {
    "task": pa.string(),
    "method": pa.string(),
    "control": pa.string(),
    "control_of": pa.string(),
    "split": pa.string(),
    "train_size": pa.string(),
    "draw": pa.int64(),
    "fold": pa.int64(),
    "n_train": pa.int64(),
    "level": pa.string(),
    "slide_id": pa.string(),
    "patient_id": pa.string(),
    "seen": pa.bool_(),
}
"""Columns of every table.

``n_train``: slides of the fold that were learned from, those for early stopping included (null: not
known); the corrected t-test needs it. ``seen``: an encoder was pretrained on this slide (null: not
known).
"""

OUTCOMES: Mapping[Kind, Mapping[str, pa.DataType]] = {
    "classification": {"y_true": pa.string()},
    "regression": {"y_true": pa.float64(), "value": pa.float64()},
    "survival": {"time": pa.float64(), "event": pa.bool_(), "risk": pa.float64()},
}
"""Further columns of each kind; a classification also has ``p_<class>`` for each class."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What methods said of test slides; one kind of task a table.

    Attributes:
        kind: of all its tasks.
        data: ``COLUMNS``, then the kind's own; a ``p_`` column is null for tasks without the class.
        provenance: JSON-ready record of how it was made.
    """

    kind: Kind
    data: pa.Table
    provenance: Mapping[str, Any]

    def __len__(self) -> int:
        return int(self.data.num_rows)


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a row says of the method that made it.

    Attributes:
        name: what tables call it.
        control: "" for a method, else which control it is.
        control_of: the method it controls, where it belongs to a single one.
        seen: slides that its encoders were pretrained on, where known.
    """

    name: str
    control: Control = ""
    control_of: str = ""
    seen: frozenset[str] = frozenset()


def rows_of_split(
    task: Task, split: Split, output: Float64[np.ndarray, "test output"], *, method: Method,
    level: str = "slide",
) -> pa.Table:  # fmt: skip
    """The rows of one method on one split.

    Args:
        task: the task.
        split: whose ``test`` rows were predicted, in that order.
        output: probabilities of the classes (rows that sum to 1), or one column with the value or
            the risk (higher: earlier event).
        method: who predicted.
        level: "slide", or "patient" where a row is a patient.

    Raises:
        SettingsError: numbers that are not finite, or a shape other than the task's.
    """
    width = len(task.classes) or 1
    if output.shape != (len(split.test), width) or not np.isfinite(output).all():
        raise SettingsError(
            f"{method.name} gave {output.shape} predictions, or infinite ones, for {split.title}; "
            f"expected {(len(split.test), width)}"
        )
    n, part = len(split.test), task.rows(split.test)
    facts: dict[str, Any] = {
        "task": [task.name] * n,
        "method": [method.name] * n,
        "control": [method.control] * n,
        "control_of": [method.control_of] * n,
        "split": [split.scheme] * n,
        "train_size": [split.train_size] * n,
        "draw": [split.draw] * n,
        "fold": [split.fold] * n,
        "n_train": [len(split.train) + len(split.val)] * n,
        "level": [level] * n,
        "slide_id": part.slide_ids,
        "patient_id": part.patient_ids,
        "seen": [s in method.seen for s in part.slide_ids] if method.seen else [None] * n,
        **_outcomes(part, output),
    }
    kinds = {**COLUMNS, **OUTCOMES[task.kind], **{f"p_{c}": pa.float64() for c in task.classes}}
    return pa.table({name: pa.array(facts[name], type=kind) for name, kind in kinds.items()})


def _outcomes(part: Task, output: Float64[np.ndarray, "test output"]) -> dict[str, Any]:
    if part.kind == "classification":
        probabilities = {f"p_{name}": output[:, k] for k, name in enumerate(part.classes)}
        return {"y_true": [part.classes[k] for k in part.labels], **probabilities}
    if part.kind == "regression":
        return {"y_true": part.target, "value": output[:, 0]}
    return {"time": part.target, "event": part.event, "risk": output[:, 0]}


def joined(kind: Kind, tables: Sequence[pa.Table], *, provenance: Mapping[str, Any]) -> Predictions:
    """One table of many parts, in their order; classes that a part lacks are null there.

    Raises:
        SettingsError: no parts.
    """
    if not tables:
        raise SettingsError("there is not one prediction")
    data = pa.concat_tables(tables, promote_options="default").combine_chunks()
    return Predictions(kind=kind, data=data, provenance=provenance)


def save_predictions(predictions: Predictions, path: Path) -> None:
    """Writes Parquet; equal predictions give equal bytes, and the file appears whole.

    Raises:
        MachineError: disk full, quota, read-only or missing folder.
    """
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "kind": predictions.kind,
        "provenance": json.dumps(predictions.provenance, sort_keys=True, allow_nan=False),
    }
    data = predictions.data.replace_schema_metadata(metadata).combine_chunks()
    with written_whole(path) as part:
        pq.write_table(data, part, compression="zstd", write_page_checksum=True)


def is_predictions(path: Path) -> bool:
    """Whether a Parquet file says that it is a table of predictions; no if it cannot be read."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError):
        return False
    return bool(metadata.get(b"format") == FORMAT.encode())


def open_predictions(path: Path) -> Predictions:
    """Reads what ``save_predictions`` wrote.

    Raises:
        GigasslError: missing, damaged, not a table of predictions, or of a newer version.
        MachineError: no file handles left.
    """
    found = read_parquet(path)
    if found.format != FORMAT:
        raise GigasslError(f"{path} is Parquet, but not a table of predictions made by gigassl")
    kind: Any = found.metadata.get("kind")
    version = found.version
    if version > VERSION or kind not in OUTCOMES:
        raise GigasslError(
            f"{path} has version {version}, kind '{kind}'; this gigassl reads up to {VERSION}"
        )
    return Predictions(kind=kind, data=found.data, provenance=found.provenance)
