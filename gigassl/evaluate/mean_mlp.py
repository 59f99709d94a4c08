"""Mean + MLP: a small network on the mean of the tiles, the control that is not linear."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch

from gigassl.evaluate.mil.run import run_mil, settings_for
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Task
from gigassl.evaluate.vector_set import VectorSet
from gigassl.vectors.tile_store import TileStore

_FEWEST, _STEPS = 32, 32
"""Vectors of a batch at least, and about how many steps an epoch of many takes at most."""


def mean_mlp(task: Task, mean: VectorSet, splits: Sequence[Split], *, seed: int = 0) -> pa.Table:
    """What a network of one hidden layer, on standardised mean vectors, says of the test slides.

    The MIL model ``mean-mlp`` with the mean of each slide as its only tile; its early stopping
    watches patients of the training set.

    Args:
        task: what is predicted.
        mean: the control "mean", of at least the slides of the task.
        splits: of the task.
        seed: of weights, batches and validation patients.

    Raises:
        SettingsError: a slide without vector.
    """
    chosen = replace(
        settings_for("mean-mlp", task.kind),
        batch_size=max(_FEWEST, len(task) // _STEPS),
        standardise=True,
        seed=seed,
    )
    vectors = f"{mean.control_of}, mean+mlp" if mean.control_of else "mean+mlp"
    rows = run_mil(task, _one_tile_each(mean), splits, settings=chosen, name=f"{vectors} · mlp")
    place = rows.column_names.index("control_of")
    return rows.set_column(place, "control_of", pa.array([mean.control_of] * len(rows)))


def _one_tile_each(vectors: VectorSet) -> TileStore:
    n = len(vectors.slide_ids)
    return TileStore(
        features=torch.from_numpy(vectors.vectors.astype(np.float32)),
        coords=torch.zeros(n, 2, dtype=torch.int64),
        um_per_unit=torch.ones(n),
        first=torch.arange(n)[:, None],
        count=torch.ones(n, 1, dtype=torch.int64),
        slide_ids=vectors.slide_ids,
        patient_ids=vectors.slide_ids,
        tile_um=1.0,
    )
