"""Few-shot draws of splits that are there already: the same test sets, less to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.draws import quotas
from gigassl.evaluate.split import Split
from gigassl.evaluate.splits import SplitSettings, draws_of, held_by, strata_of
from gigassl.evaluate.task import Task


@dataclass(frozen=True, kw_only=True)
class FewShots:
    """Splits of every draw and training size, on test sets that stay.

    Attributes:
        splits: by test set, draw and training size, in that order.
        sizes: training sizes that every test set's training slides can give.
        notes: what was left out, and why.
    """

    splits: tuple[Split, ...]
    sizes: tuple[str, ...]
    notes: tuple[str, ...]


def few_shots(task: Task, wholes: Sequence[Split], *, settings: SplitSettings) -> FewShots:
    """Nested draws from the training slides of each split, which the smaller ones of a draw share.

    Patients never stand on both sides: training slides of tested patients are left out, whatever
    the split says. Draws of splits that `make_splits` made are those that it draws itself.

    Args:
        task: what is divided.
        wholes: splits with all there is to learn from, one a test set.
        settings: training sizes, draws, seed and validation.

    Raises:
        SettingsError: no training size is left.
    """
    patients = np.array(task.patient_ids, dtype=object)
    trains = [_apart(split, patients) for split in wholes]
    dropped = sum(
        len(split.train) + len(split.val) - len(train)
        for split, train in zip(wholes, trains, strict=True)
    )
    notes = []
    if dropped:
        notes.append(
            f"left out {dropped} training slides (over {len(wholes)} test sets) of patients who "
            "are tested in the same split"
        )
    sizes, refused = _possible(task, trains, sizes=settings.train_sizes)
    possible = replace(settings, train_sizes=sizes)
    splits = [
        each
        for whole, train in zip(wholes, trains, strict=True)
        for each in draws_of(task, replace(whole, train=train, val=train[:0]), settings=possible)
    ]
    return FewShots(splits=tuple(splits), sizes=sizes, notes=(*notes, *refused))


def _apart(split: Split, patients: np.ndarray) -> Int64[np.ndarray, " train"]:
    rows = np.concatenate([split.train, split.val])
    return np.sort(rows[~np.isin(patients[rows], patients[split.test])])


def _possible(
    task: Task, trains: Sequence[np.ndarray], *, sizes: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    kept, refused = [], []
    for size in sizes:
        try:
            for number, train in enumerate(trains):
                _counts(task, train, size=size, where=f"test set {number}")
        except SettingsError as error:
            refused.append(f"left out training size {size}: {error}")
        else:
            kept.append(size)
    if not kept:
        raise SettingsError("; ".join(refused) or "name at least one training size")
    return tuple(kept), tuple(refused)


def _counts(
    task: Task, train: Int64[np.ndarray, " train"], *, size: str, where: str
) -> Int64[np.ndarray, " stratum"]:
    strata = strata_of(task)
    return quotas(size, held_by(strata, train), classes=bool(task.classes), where=where)
