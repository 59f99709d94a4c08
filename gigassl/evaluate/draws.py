"""Few-shot draws: nested parts of a training set, with patients and classes taken evenly."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.split import FULL

_PERCENT = re.compile(r"^(\d+(?:\.\d+)?)%$")
_PER_CLASS = re.compile(r"^k=([1-9]\d*)$")
_IN_TOTAL = re.compile(r"^[1-9]\d*$")


def check_train_size(size: str) -> None:
    """Refuses what is no training size.

    Raises:
        SettingsError: neither "full", slides in all ("50"), a share ("25%") nor slides a class
            ("k=5").
    """
    percent = _PERCENT.match(size)
    if percent and 0 < float(percent[1]) <= 100:
        return
    if size != FULL and not _PER_CLASS.match(size) and not _IN_TOTAL.match(size):
        raise SettingsError(
            f"unknown training size '{size}'; give full, slides in all (50), a share of the "
            "training slides (25%) or slides of each class (k=5)"
        )


def size_rank(size: str) -> tuple[int, float]:
    """Sorts training sizes: slides a class, slides in all, shares, full."""
    for rank, pattern in enumerate((_PER_CLASS, _IN_TOTAL, _PERCENT)):
        found = pattern.match(size)
        if found:
            return rank, float(found[found.lastindex or 0])
    return 3, 0.0


def quotas(
    size: str, available: Int64[np.ndarray, " stratum"], *, classes: bool, where: str
) -> Int64[np.ndarray, " stratum"]:
    """How many slides of each stratum a training size takes; larger sizes take no fewer.

    Shares are those of Webster's divisor method after one slide of each stratum, so that a larger
    size holds all that a smaller one holds (largest remainders do not promise that).

    Args:
        size: as ``check_train_size`` allows.
        available: training slides of each stratum.
        classes: whether strata are classes, as "k=5" needs.
        where: what messages call the training set.

    Raises:
        SettingsError: more slides than there are, or fewer than there are classes.
    """
    if size == FULL:
        return available
    per_class = _PER_CLASS.match(size)
    if per_class:
        if not classes:
            raise SettingsError(f"training size '{size}' counts slides a class; {where} has none")
        k = int(per_class[1])
        if k > available.min():
            raise SettingsError(
                f"training size '{size}' wants {k} slides of each class, but {where} has "
                f"{available.min()} training slides of its smallest; give smaller sizes"
            )
        return np.full_like(available, k)
    return _proportional(_slides_in_all(size, int(available.sum())), available,
                         classes=classes, where=f"training size '{size}' of {where}")  # fmt: skip


def _slides_in_all(size: str, n: int) -> int:
    percent = _PERCENT.match(size)
    return max(1, int(float(percent[1]) / 100 * n + 0.5)) if percent else int(size)


def _proportional(
    total: int, available: Int64[np.ndarray, " stratum"], *, classes: bool, where: str
) -> Int64[np.ndarray, " stratum"]:
    filled = np.flatnonzero(available)
    if total > available.sum():
        raise SettingsError(
            f"{where}: {total} slides are wanted, but the training set has {available.sum()}; "
            "give smaller sizes"
        )
    if classes and total < len(filled):
        raise SettingsError(
            f"{where}: {total} slides cannot hold one of each of {len(filled)} classes; give "
            "larger sizes"
        )
    taken = np.zeros_like(available)
    for step in range(total):
        if step < len(filled):
            # the largest first, for a size smaller than the number of strata
            order = filled[np.argsort(-available[filled], kind="stable")]
            taken[order[step]] = 1
            continue
        claim = np.where(taken < available, available / (2 * taken + 1), -1.0)
        taken[int(np.argmax(claim))] += 1
    return taken


class Queue:
    """Training rows in the order in which few-shot draws take them, each stratum for itself.

    The first slides of all patients come before the second ones of any, so that n slides stem from
    as many patients as can be; among them chance decides.
    """

    def __init__(
        self, rows: Int64[np.ndarray, " row"], *, strata: Int64[np.ndarray, " slide"],
        patients: Sequence[str], rng: np.random.Generator,
    ) -> None:  # fmt: skip
        names = np.array([patients[i] for i in rows], dtype=object)
        mixed = rng.permutation(len(rows))
        earlier: dict[str, int] = {}
        turn = np.zeros(len(rows), dtype=np.int64)
        for place in mixed:
            turn[place] = earlier.get(names[place], 0)
            earlier[names[place]] = int(turn[place]) + 1
        order = mixed[np.argsort(turn[mixed], kind="stable")]
        self._rows = rows[order]
        self._names: list[str] = list(names[order])
        self._strata = strata[rows[order]]

    def take(
        self, counts: Int64[np.ndarray, " stratum"], *, validation: float
    ) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " val"]]:
        """The first ``counts`` rows of each stratum, sorted: to learn from, and to validate on.

        Args:
            counts: rows of each stratum.
            validation: share of the patients that is kept for validation. Whether a patient is
                does not depend on ``counts``.
        """
        place = np.zeros(len(self._rows), dtype=np.int64)
        for stratum in range(len(counts)):
            mine = self._strata == stratum
            place[mine] = np.arange(int(mine.sum()))
        chosen = place < counts[self._strata]
        kept = self._validation_rows(validation)
        return np.sort(self._rows[chosen & ~kept]), np.sort(self._rows[chosen & kept])

    def _validation_rows(self, share: float) -> Bool[np.ndarray, " row"]:
        if share == 0:
            return np.zeros(len(self._rows), dtype=bool)
        side: dict[str, bool] = {}
        seen: dict[int, tuple[int, int]] = {}
        for name, stratum in zip(self._names, self._strata, strict=True):
            n, kept = seen.get(int(stratum), (0, 0))
            # rounded down, so that the first slide of a class is always learned from
            side.setdefault(name, int(share * (n + 1)) > kept)
            seen[int(stratum)] = (n + 1, kept + side[name])
        return np.array([side[name] for name in self._names], dtype=bool)
