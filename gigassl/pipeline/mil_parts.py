"""Finished models of a MIL run: one committed table each, so that a killed run goes on."""

import hashlib
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gigassl.digests import digest_of_settings, plain
from gigassl.errors import GigasslError
from gigassl.evaluate.mil.settings import MilSettings
from gigassl.evaluate.mil.training import FittedMil
from gigassl.evaluate.predictions import Predictions, open_predictions, save_predictions
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Kind, Task

log = logging.getLogger("gigassl")


@dataclass(frozen=True, kw_only=True)
class MilParts:
    """The folder of finished parts of one output.

    Attributes:
        folder: beside the output.
        kind: of the task.
        digest: of everything that all parts share: bags, task, versions.
    """

    folder: Path
    kind: Kind
    digest: str

    def path(self, settings: MilSettings, split: Split, *, method: str) -> Path:
        """Where a part lies; another setting, split, label, tile or name has another place."""
        of = {
            "run": self.digest, "settings": plain(settings), "split": digest_of_split(split),
            "method": method,
        }  # fmt: skip
        return self.folder / f"{digest_of_settings(of)}.parquet"

    def found(self, path: Path) -> Predictions | None:
        """A part that was finished before; None where there is none that can be read."""
        if not path.exists():
            return None
        try:
            return open_predictions(path)
        except GigasslError as error:
            # only a machine that lost power leaves one; its model is simply trained again
            log.warning("ignoring a damaged part: %s", error)
            return None

    def commit(self, path: Path, *, rows: pa.Table, facts: Mapping[str, Any]) -> Predictions:
        """Makes a part safe on disk.

        Raises:
            MachineError: disk full, quota, read-only folder.
        """
        self.folder.mkdir(exist_ok=True)
        part = Predictions(kind=self.kind, data=rows, provenance=facts)
        save_predictions(part, path)
        return part

    def clear(self) -> None:
        """Removes all parts, once the output holds them."""
        shutil.rmtree(self.folder, ignore_errors=True)


def digest_of_split(split: Split) -> str:
    """16 hex digits that change with any row of a split, or its name."""
    total = hashlib.sha256(split.title.encode())
    for rows in (split.train, split.val, split.test):
        total.update(f"|{len(rows)}|".encode() + rows.astype(np.int64).tobytes())
    return total.hexdigest()[:16]


def digest_of_task(task: Task) -> str:
    """16 hex digits that change with any slide, patient or label of a task."""
    names = [task.name, task.kind, task.classes, task.slide_ids, task.patient_ids]
    total = hashlib.sha256(repr(names).encode())
    total.update(task.target.tobytes())
    if task.event is not None:
        total.update(task.event.tobytes())
    return total.hexdigest()[:16]


def facts_of(fitted: FittedMil, model: str, split: Split) -> dict[str, Any]:
    """How the training of a model went, for the table of predictions."""
    best = fitted.curve[fitted.best_epoch - 1]
    return {
        "model": model,
        "split": split.title,
        "epochs": len(fitted.curve),
        "best_epoch": fitted.best_epoch,
        "validation_bags": fitted.n_validation,
        "validation_loss": best.validation,
        "train_loss": best.train,
    }
