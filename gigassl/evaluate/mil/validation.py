"""Which training slides early stopping watches."""

import hashlib

import numpy as np
from jaxtyping import Int64

from gigassl.evaluate.split import Split
from gigassl.evaluate.splits import grouped_folds, strata_of
from gigassl.evaluate.task import Task


def seed_of_fit(seed: int, task: Task, split: Split) -> int:
    """The seed of one split: the same for every model and whatever else is in the run."""
    text = f"{seed}|{task.name}|{split.title}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def train_and_validation(
    task: Task, split: Split, *, share: float, seed: int
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " val"]]:
    """The rows to learn from, and those to watch.

    The split's own validation rows where it has some; else a part of its training patients,
    stratified, that holds every class and leaves every class to learn from. Where patients are too
    few for that (few-shot), nothing is watched.

    Args:
        task: the task.
        split: whose training rows are divided.
        share: of the training patients to watch; 0 for none.
        seed: of the division.
    """
    if len(split.val) or share == 0:
        return split.train, split.val
    part = task.rows(split.train)
    n_folds = round(1 / share)
    if len(set(part.patient_ids)) < n_folds:
        return split.train, split.val
    strata = strata_of(part)
    watched = grouped_folds(strata, part.patient_ids, folds=n_folds, seed=seed) == 0
    train, val = split.train[~watched], split.train[watched]
    return (train, val) if _both_can_be_used(task, train, val) else (split.train, split.val)


def _both_can_be_used(
    task: Task, train: Int64[np.ndarray, " train"], val: Int64[np.ndarray, " val"]
) -> bool:
    if task.kind == "classification":
        return set(task.labels[train]) == set(task.labels[val])
    events = np.ones(len(task), dtype=bool) if task.event is None else task.event
    return bool(events[train].any() and events[val].any())
