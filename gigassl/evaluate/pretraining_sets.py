"""Pretraining sets: which slides may be learned from, without labels, before a split is tested."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64

from gigassl.evaluate.split import FULL, Split
from gigassl.evaluate.task import Task

Scope = Literal["fold", "split"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PretrainingSet:
    """Slides that one slide encoder learns from, and the splits that it is then used for.

    Attributes:
        rows: rows of the task, ascending; none is a test row of any of the splits.
        splits: numbers of the splits.
    """

    rows: Int64[np.ndarray, " seen"]
    splits: tuple[int, ...]


def pretraining_sets(
    task: Task, splits: Sequence[Split], *, scope: Scope = "fold"
) -> tuple[PretrainingSet, ...]:
    """The distinct sets of slides that self-supervised training may see, one training each.

    Args:
        task: whose rows the splits hold.
        splits: in any order.
        scope: "fold": the whole training part of a fold, also where only a few of its slides have
            a label (few-shot): that of the full split with the same test slides, else all slides
            of other patients than the test slides'. "split": only the slides that are labelled.
    """
    whole = {_key(split.test): split for split in splits if split.train_size == FULL}
    found: dict[bytes, tuple[Int64[np.ndarray, " seen"], list[int]]] = {}
    for number, split in enumerate(splits):
        if scope == "split":
            rows = _learned_from(split)
        elif (full := whole.get(_key(split.test))) is not None:
            rows = _learned_from(full)
        else:
            rows = _of_other_patients(task, split)
        found.setdefault(rows.tobytes(), (rows, []))[1].append(number)
    return tuple(
        PretrainingSet(rows=rows, splits=tuple(numbers)) for rows, numbers in found.values()
    )


def _key(rows: Int64[np.ndarray, " row"]) -> bytes:
    return np.sort(rows).tobytes()


def _learned_from(split: Split) -> Int64[np.ndarray, " seen"]:
    return np.sort(np.concatenate([split.train, split.val]))


def _of_other_patients(task: Task, split: Split) -> Int64[np.ndarray, " seen"]:
    tested = {task.patient_ids[row] for row in split.test}
    rows = [row for row, patient in enumerate(task.patient_ids) if patient not in tested]
    return np.array(rows, dtype=np.int64)
