"""Small tables of predictions for tests: scores of known strength on folds of patients."""

from collections.abc import Sequence

import numpy as np

from gigassl.evaluate.predictions import Method, Predictions, joined, rows_of_split
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Task


def task_of(
    labels: Sequence[int], *, patients: Sequence[str] | None = None, name: str = "subtype"
) -> Task:
    """A task with the given class numbers; one slide a patient by default."""
    n = len(labels)
    classes = tuple("abcdef"[: max(labels) + 1])
    return Task(
        name=name,
        kind="classification",
        slide_ids=tuple(f"s{i:03d}" for i in range(n)),
        patient_ids=tuple(patients) if patients is not None else tuple(f"p{i}" for i in range(n)),
        sites=("",) * n,
        classes=classes,
        target=np.array(labels, dtype=np.float64),
    )


def folds_of(task: Task, *, k: int = 4, size: str = "full", draw: int = 0) -> list[Split]:
    """Folds of neighbouring pairs of patients, who are never divided."""
    order = {p: i for i, p in enumerate(dict.fromkeys(task.patient_ids))}
    fold = np.array([order[p] // 2 % k for p in task.patient_ids])
    return [
        Split(
            scheme="patient-kfold",
            train_size=size,
            draw=draw,
            fold=f,
            train=np.flatnonzero(fold != f)[: None if size == "full" else int(size)],
            test=np.flatnonzero(fold == f),
        )
        for f in range(k)
    ]


def holdout_of(task: Task) -> list[Split]:
    """One test set: all but the first four rows."""
    rows = np.arange(len(task))
    return [Split(scheme="holdout", train=rows[:4], test=rows[4:])]


def predictions_of(
    task: Task, splits: Sequence[Split], methods: Sequence[tuple[Method, float]], *, seed: int = 0
) -> Predictions:
    """Each method says noise plus so much of the truth."""
    rng = np.random.default_rng(seed)
    tables = []
    for method, strength in methods:
        for split in splits:
            odds = rng.standard_normal((len(split.test), len(task.classes)))
            odds += strength * np.eye(len(task.classes))[task.labels[split.test]]
            p = np.exp(odds)
            p /= p.sum(axis=1, keepdims=True)
            tables.append(rows_of_split(task, split, p, method=method))
    return joined("classification", tables, provenance={})
