"""MIL models on the splits of a task: predictions of every test slide."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from gigassl.errors import SettingsError
from gigassl.evaluate.mil.bags import BagReader
from gigassl.evaluate.mil.crops import settled
from gigassl.evaluate.mil.models import ON_CROPS, new_model
from gigassl.evaluate.mil.settings import MIL_PRESETS, MilSettings
from gigassl.evaluate.mil.training import FittedMil, Monitor, Quiet, fit_mil
from gigassl.evaluate.predictions import Method, rows_of_split
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Kind, Task, rows_of
from gigassl.evaluate.vector_set import Control
from gigassl.vectors.matmul import fast_matmul
from gigassl.vectors.placement import placed
from gigassl.vectors.store_parts import subset
from gigassl.vectors.tile_store import TileStore

SURVIVAL_BATCH = 32
"""Bags of a batch of survival, where the published one would leave nobody to compare with."""


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What one model said of the test slides of one split.

    Attributes:
        rows: of a table of predictions.
        fitted: the model.
    """

    rows: pa.Table
    fitted: FittedMil


def settings_for(model: str, kind: Kind) -> MilSettings:
    """The preset of a model, made fit for a kind of task.

    Raises:
        SettingsError: unknown model.
    """
    if model not in MIL_PRESETS:
        known = ", ".join(MIL_PRESETS)
        raise SettingsError(f"unknown MIL model '{model}'; known: {known}")
    preset = MIL_PRESETS[model]
    lonely = kind == "survival" and preset.batch_size == 1
    return replace(preset, batch_size=SURVIVAL_BATCH) if lonely else preset


def run_mil(
    task: Task, store: TileStore, splits: Sequence[Split], *, settings: MilSettings,
    name: str | None = None, progress: Monitor | None = None,
) -> pa.Table:  # fmt: skip
    """Trains a model on each split and predicts its test slides.

    Equal bags, splits and settings give equal predictions on a CPU; on another number of threads
    too, save that TransMIL rounds apart there.

    Args:
        task: the task; every slide has a bag.
        store: the tiles of the slides.
        splits: at least one.
        name: of the method in the table; the model's by default.

    Returns:
        Rows for ``joined``.

    Raises:
        SettingsError: a slide without a bag, features that are not finite, or a model that cannot
            learn the task; before any training.
        GigasslError: the loss became infinite.
    """
    progress = progress or Quiet()
    settings = settled(settings, stored(task, store))
    check_model(task, settings, dim=store.dim)
    reader = reader_of(task, store, device=settings.device)
    progress.started(len(splits), n_done=0)
    found = []
    for split in splits:
        done = predict_split(task, split, reader, settings=settings, name=name, monitor=progress)
        found.append(done.rows)
        progress.fitted(f"{settings.model}, {split.title}")
    return pa.concat_tables(found)


def predict_split(
    task: Task, split: Split, reader: BagReader, *, settings: MilSettings,
    name: str | None = None, monitor: Monitor | None = None,
) -> Predicted:  # fmt: skip
    """Trains a model on one split and predicts its test slides.

    Args:
        task: the task.
        split: what to learn from, and what to predict.
        reader: as ``reader_of`` makes it.
        name: of the method in the table; the model's by default.
    """
    with fast_matmul(reader.device):
        fitted = fit_mil(task, split, reader, settings=settings, monitor=monitor)
        output = fitted.predict(split.test)
    method = Method(name=name or settings.model, control=CONTROLS.get(settings.model, ""))
    return Predicted(rows=rows_of_split(task, split, output, method=method), fitted=fitted)


CONTROLS: dict[str, Control] = {"mean-mlp": "mean+mlp"}
"""Models that stand in tables as controls."""


def check_model(task: Task, settings: MilSettings, *, dim: int) -> None:
    """Refuses what cannot be trained, before anything is.

    Raises:
        SettingsError: unknown model or option, a task that it cannot learn, or batches too small.
    """
    new_model(settings.model, task, dim=dim, seed=settings.seed, options=settings.options)
    if task.kind == "survival" and settings.batch_size < 2:
        raise SettingsError(
            "survival compares the bags of a batch, and a batch of 1 leaves nothing to compare; "
            f"use a batch size of about {SURVIVAL_BATCH}"
        )
    if settings.model in ON_CROPS and settings.batch_size < 2:
        raise SettingsError(
            f"'{settings.model}' has norms over a batch, and a batch of 1 leaves nothing of it; "
            "use a batch size of 16, or of 4 at least"
        )


def reader_of(task: Task, store: TileStore, *, device: str = "auto") -> BagReader:
    """A reader of the bags of a task's slides, in the task's order.

    The tiles move to the device, or into memory, where they fit; else they stay on disk.

    Raises:
        SettingsError: a slide without a bag, features that are not finite, or a device that is not
            there.
    """
    where = _device(device)
    reader = BagReader(store=placed(stored(task, store), where), device=where)
    _refuse_infinite(reader, task)
    return reader


def stored(task: Task, store: TileStore) -> TileStore:
    """The slides of a task in a store, in the task's order.

    Raises:
        SettingsError: a slide without a bag.
    """
    rows = rows_of(store.slide_ids, task.slide_ids)
    if (rows < 0).any():
        lost = [name for name, row in zip(task.slide_ids, rows.tolist(), strict=True) if row < 0]
        raise SettingsError(
            f"{len(lost)} of {len(task)} slides of task '{task.name}' have no bag, first "
            f"'{lost[0]}'; leave them out, or encode them"
        )
    return replace(subset(store, rows), patient_ids=task.patient_ids)


def _device(name: str) -> torch.device:
    found = torch.cuda.is_available()
    if name.startswith("cuda") and not found:
        raise SettingsError("no CUDA device was found; choose the device cpu")
    return torch.device(("cuda" if found else "cpu") if name == "auto" else name)


def _refuse_infinite(reader: BagReader, task: Task) -> None:
    for number, slide_id in enumerate(task.slide_ids):
        for bags in reader.in_turn([number]):
            if not _finite(bags.features):
                raise SettingsError(
                    f"the bag of slide '{slide_id}' holds NaN or infinite features; encode it again"
                )


def _finite(rows: Float[Tensor, "row dim"]) -> bool:
    # a sum is finite only if all are, and takes no memory; at float64 none overflows
    return bool(torch.isfinite(rows.sum(dtype=torch.float64)))
