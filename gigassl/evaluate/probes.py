"""Probes: simple models that read vectors, on every split of a task."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float64, Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.fitted_probe import FittedProbe, unit_rows
from gigassl.evaluate.linear_probes import fit_cox, fit_ridge
from gigassl.evaluate.logistic_probe import fit_logistic
from gigassl.evaluate.neighbours import fit_neighbours, fit_prototypes
from gigassl.evaluate.predictions import Method, rows_of_split
from gigassl.evaluate.probe_data import ProbeData
from gigassl.evaluate.probe_settings import (
    DEFAULT_METHODS,
    KINDS,
    PROBE_PRESETS,
    ProbeSettings,
)
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Task, rows_of
from gigassl.evaluate.threads import one_thread
from gigassl.evaluate.vector_set import VectorSet

__all__ = [
    "DEFAULT_METHODS", "KINDS", "PROBE_PRESETS", "FittedProbe", "ProbeSettings",
    "fit_folds", "fit_probe", "run_probe", "vectors_of_task",
]  # fmt: skip

_Learn = Callable[[ProbeData, Sequence[Int64[np.ndarray, " _"]]], list[FittedProbe]]
_LEARN: Mapping[str, _Learn] = {
    "logistic": fit_logistic,
    "ridge": fit_ridge,
    "knn": fit_neighbours,
    "prototype": fit_prototypes,
    "cox": fit_cox,
}


@one_thread()
def run_probe(
    task: Task, vectors: VectorSet, splits: Sequence[Split], *,
    settings: ProbeSettings, name: str | None = None, seed: int = 0,
) -> pa.Table:  # fmt: skip
    """What a probe on some vectors says of the test slides of every split.

    It learns from the slides for training and those for validation: it chooses inside them.

    Args:
        task: what is predicted.
        vectors: of at least the slides of the task.
        splits: of the task.
        settings: of the probe.
        name: of the method; else "<vectors> · <probe>".
        seed: of the inner folds.

    Raises:
        SettingsError: a slide without vector, a probe of another kind of task, a training set that
            nothing can be learned from.
    """
    rows = vectors_of_task(task, vectors)
    probes = fit_folds(task, vectors, splits, settings=settings, seed=seed)
    method = Method(
        name=name or f"{vectors.name} · {settings.method}", control=vectors.control,
        control_of=vectors.control_of, seen=vectors.seen,
    )  # fmt: skip
    return pa.concat_tables(
        [
            rows_of_split(task, split, probe.predict(rows[split.test]), method=method)
            for split, probe in zip(splits, probes, strict=True)
        ]
    )


@one_thread()
def fit_folds(
    task: Task, vectors: VectorSet, splits: Sequence[Split], *, settings: ProbeSettings,
    seed: int = 0,
) -> list[FittedProbe]:  # fmt: skip
    """The probe of each split, as ``run_probe`` predicts with it; arguments as there."""
    trains = [np.concatenate([split.train, split.val]) for split in splits]
    return _fitted(
        vectors_of_task(task, vectors), task, trains, settings=settings, seed=seed,
        first_block=vectors.first_block,
    )  # fmt: skip


@one_thread()
def fit_probe(
    vectors: Float[np.ndarray, "slide dim"], task: Task, *,
    settings: ProbeSettings, seed: int = 0, first_block: int | None = None,
) -> FittedProbe:  # fmt: skip
    """A probe learned from all slides of a task.

    Args:
        vectors: one a slide of the task, in its order.
        task: what is predicted.
        settings: of the probe.
        seed: of the inner folds.
        first_block: width of a first stream, whose weight against the rest is chosen.

    Raises:
        SettingsError: as ``run_probe``.
    """
    everything = [np.arange(len(task))]
    return _fitted(
        vectors, task, everything, settings=settings, seed=seed, first_block=first_block
    )[0]


def vectors_of_task(task: Task, vectors: VectorSet) -> Float[np.ndarray, "slide dim"]:
    """The vectors of a task's slides, in its order.

    Raises:
        SettingsError: a slide has none.
    """
    place = rows_of(vectors.slide_ids, task.slide_ids)
    if (place < 0).any():
        first = task.slide_ids[int(np.argmin(place))]
        raise SettingsError(
            f"'{vectors.name}' has no vector of {int((place < 0).sum())} of {len(task)} slides of "
            f"task '{task.name}', first '{first}'; leave them out of the task, or embed them"
        )
    return np.asarray(vectors.vectors[place])


def _fitted(
    vectors: Float[np.ndarray, "slide dim"], task: Task,
    trains: Sequence[Int64[np.ndarray, " _"]], *,
    settings: ProbeSettings, seed: int, first_block: int | None,
) -> list[FittedProbe]:  # fmt: skip
    settings.refuse(task.kind)
    rows: Float64[np.ndarray, "slide dim"] = vectors.astype(np.float64)
    if settings.scaling_used == "l2":
        rows = unit_rows(rows)
    data = ProbeData(rows=rows, task=task, settings=settings, seed=seed, first_block=first_block)
    return _LEARN[settings.method](data, trains)
