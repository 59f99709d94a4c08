"""Patients instead of slides: the mean of a patient's vectors, or of its predictions."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.predictions import COLUMNS, OUTCOMES, Predictions
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Task, rows_of
from gigassl.evaluate.vector_set import VectorSet

LEVEL = "patient"
_SIDES = ("train", "val", "test")


def patient_task(task: Task) -> Task:
    """A task whose rows are patients, named by them, in rising order.

    Raises:
        SettingsError: a patient whose slides have different labels.
    """
    first: dict[str, int] = {}
    for row, patient in enumerate(task.patient_ids):
        start = first.setdefault(patient, row)
        if _outcome(task, start) != _outcome(task, row):
            raise SettingsError(
                f"task '{task.name}': patient '{patient}' has slides with different labels, "
                f"'{task.slide_ids[start]}' and '{task.slide_ids[row]}'; predict slides, or "
                "correct the labels"
            )
    patients = sorted(first)
    part = task.rows(np.array([first[patient] for patient in patients], dtype=np.int64))
    return replace(part, slide_ids=tuple(patients), whole=task.whole)


def patient_level(task: Task, vector_set: VectorSet) -> tuple[Task, VectorSet]:
    """Task and vectors of patients: the mean vector of a patient's slides in the task.

    A patient counts as seen in pretraining where one of its slides was.

    Raises:
        SettingsError: a slide without a vector; a patient whose slides have different labels.
    """
    rows = rows_of(vector_set.slide_ids, task.slide_ids)
    if (rows < 0).any():
        lacking = task.slide_ids[int(np.argmin(rows))]
        raise SettingsError(f"'{vector_set.name}' has no vector of slide '{lacking}'")
    patients = patient_task(task)
    owner = rows_of(patients.slide_ids, task.patient_ids)
    mean = _means(vector_set.vectors[rows], owner, n=len(patients))
    pairs = zip(task.slide_ids, task.patient_ids, strict=True)
    seen = frozenset(patient for slide, patient in pairs if slide in vector_set.seen)
    return patients, replace(vector_set, slide_ids=patients.slide_ids, vectors=mean, seen=seen)


def splits_of_patients(
    splits: Sequence[Split], *, slides: Task, patients: Task
) -> tuple[Split, ...]:
    """Splits of slides as splits of their patients.

    Raises:
        SettingsError: a patient on two sides.
    """
    owner = rows_of(patients.slide_ids, slides.patient_ids)
    found = []
    for split in splits:
        sides = {side: np.unique(owner[getattr(split, side)]) for side in _SIDES}
        rows = np.concatenate(list(sides.values()))
        twice = np.flatnonzero(np.bincount(rows, minlength=1) > 1)
        if len(twice):
            raise SettingsError(
                f"{split.title} has slides of {len(twice)} patients on two sides, such as "
                f"'{patients.slide_ids[twice[0]]}'; patients cannot be made one row there. Take "
                "patient-grouped splits, or predict slides"
            )
        found.append(replace(split, train=sides["train"], val=sides["val"], test=sides["test"]))
    return tuple(found)


def splits_of_slides(splits: Sequence[Split], *, slides: Task, patients: Task) -> tuple[Split, ...]:
    """Splits of patients as splits of all their slides."""
    owner = rows_of(patients.slide_ids, slides.patient_ids)

    def rows(side: Int64[np.ndarray, " patient"]) -> Int64[np.ndarray, " slide"]:
        return np.flatnonzero(np.isin(owner, side))

    return tuple(
        replace(s, train=rows(s.train), val=rows(s.val), test=rows(s.test)) for s in splits
    )


def patient_predictions(predictions: Predictions) -> Predictions:
    """One row a patient: the mean of what was predicted of its slides, of each split and method.

    Raises:
        SettingsError: a patient whose slides have different labels.
    """
    data = predictions.data
    outcome = [name for name in OUTCOMES[predictions.kind] if name not in ("value", "risk")]
    means = [name for name in data.column_names if name not in (*COLUMNS, *outcome)]
    keys = [name for name in COLUMNS if name not in ("slide_id", "seen", "level")]
    grouped = data.group_by([*keys, *outcome], use_threads=False)
    wanted = [("seen", "any"), *((name, "mean") for name in means)]
    found = grouped.aggregate(wanted)
    if found.num_rows != data.group_by(keys, use_threads=False).aggregate([]).num_rows:
        raise SettingsError(
            "some patients have slides with different labels, so their predictions cannot be made "
            "one; compare slides, or correct the labels"
        )
    renamed = {**{name: found[name] for name in (*keys, *outcome)},
               **{name: found[f"{name}_{how}"] for name, how in wanted},
               "slide_id": found["patient_id"],
               "level": pa.array([LEVEL] * found.num_rows, type=pa.string())}  # fmt: skip
    table = pa.table({name: renamed[name] for name in data.column_names})
    return replace(predictions, data=table.combine_chunks())


def _means(
    vectors: Float[np.ndarray, "row dim"], owner: Int64[np.ndarray, " row"], *, n: int
) -> Float[np.ndarray, "owner dim"]:
    total = np.zeros((n, vectors.shape[1]))
    np.add.at(total, owner, vectors)
    count = np.bincount(owner, minlength=n)[:, None]
    return (total / count).astype(vectors.dtype)


def _outcome(task: Task, row: int) -> tuple[float, bool]:
    return float(task.target[row]), bool(task.event is not None and task.event[row])
