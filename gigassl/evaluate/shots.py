"""Few-shot draws of splits that are there already: the same test sets, less to learn from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.draws import Queue, quotas
from gigassl.evaluate.split import FULL, Split
from gigassl.evaluate.splits import SplitSettings, strata_of
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
    splits = [
        each
        for whole, train in zip(wholes, trains, strict=True)
        for each in _draws(task, whole, train, settings=settings, sizes=sizes)
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
    held = np.bincount(strata[train], minlength=int(strata.max()) + 1)
    return quotas(size, held, classes=bool(task.classes), where=where)


def _draws(
    task: Task, whole: Split, train: Int64[np.ndarray, " train"], *, settings: SplitSettings,
    sizes: Sequence[str],
) -> Iterator[Split]:  # fmt: skip
    # sorted by name, so that the order of the slides says nothing
    rows = np.array(sorted(train, key=lambda row: task.slide_ids[row]), dtype=np.int64)
    for draw in range(settings.draws):
        rng = np.random.default_rng((settings.seed, whole.draw, whole.fold, draw))
        queue = Queue(rows, strata=strata_of(task), patients=task.patient_ids, rng=rng)
        for size in sizes:
            if draw and size == FULL:
                continue
            counts = _counts(task, rows, size=size, where=whole.title)
            learned, kept = queue.take(counts, validation=settings.validation)
            yield Split(
                scheme=whole.scheme, train_size=size, draw=whole.draw * settings.draws + draw,
                fold=whole.fold, train=learned, test=whole.test, val=kept,
            )  # fmt: skip
