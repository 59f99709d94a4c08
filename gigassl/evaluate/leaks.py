"""Leaks of splits: patients and sites on both sides, slides without label or vector, classes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gigassl.evaluate.labels import some
from gigassl.evaluate.split import Split
from gigassl.evaluate.split_files import SplitList
from gigassl.evaluate.targets import NO_LABEL, NO_VECTOR, LeftOut
from gigassl.evaluate.task import Task


@dataclass(frozen=True, kw_only=True)
class LeakRow:
    """The splits of one scheme and training size.

    Attributes:
        scheme, train_size: of the splits.
        n_splits: how many there are.
        train, test: fewest and most slides on that side; validation counts as training.
        patients: mean and greatest share (%) of test slides whose patient is also learned from.
        sites: the same of sites; None where no site is known.
        without_label, without_vector: slides that the split files name, and that are left out.
        small: sentences on classes (or events) that are missing on a side of some splits.
    """

    scheme: str
    train_size: str
    n_splits: int
    train: tuple[int, int]
    test: tuple[int, int]
    patients: tuple[float, float]
    sites: tuple[float, float] | None
    without_label: tuple[str, ...] = ()
    without_vector: tuple[str, ...] = ()
    small: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LeakTable:
    """One row a scheme and training size, in the order of the splits."""

    task: str
    rows: tuple[LeakRow, ...]

    def as_text(self) -> str:
        """The table for a terminal, then one line for each thing that needs words."""
        head = ("splits", "size", "n", "train", "test", "patients on both sides", "sites",
                "no label", "no vector")  # fmt: skip
        lines = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
        text = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([f"leaks of {self.task}", *(t.rstrip() for t in text), *self.warnings()])

    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before the numbers: sentences."""
        said: dict[str, list[str]] = {}
        for row in self.rows:
            for sentence in _sentences(row):
                said.setdefault(f"{row.scheme}: {sentence}", []).append(row.train_size)
        every = len(self.rows)
        return tuple(
            sentence if len(sizes) == every else f"{sentence} (training size {', '.join(sizes)})"
            for sentence, sizes in said.items()
        )

    def missing_in_training(self) -> str:
        """What is tested but never learned in some split; "" where there is no such thing."""
        return next((s for row in self.rows for s in row.small if " training " in s), "")


def leak_table(
    task: Task, splits: Sequence[Split], *, lists: Sequence[SplitList] = (),
    left_out: Sequence[LeftOut] = (),
) -> LeakTable:  # fmt: skip
    """Looks at every split.

    Args:
        task: what the splits' rows are of.
        splits: to be looked at.
        lists: the files that the splits come from, whose slides the task may lack.
        left_out: why it lacks them; a slide of which nothing is said has no label.
    """
    groups: dict[tuple[str, str], list[Split]] = {}
    for split in splits:
        groups.setdefault((split.scheme, split.train_size), []).append(split)
    known = set(task.slide_ids)
    reasons = {each.slide_id: each.reason for each in left_out}
    rows = []
    for (scheme, size), group in groups.items():
        named = {
            name for each in lists if (each.scheme, each.train_size) == (scheme, size)
            for name in each.slide_ids
        } - known  # fmt: skip
        lacking = {why: tuple(sorted(n for n in named if reasons.get(n, NO_LABEL) == why))
                   for why in (NO_LABEL, NO_VECTOR)}  # fmt: skip
        rows.append(
            LeakRow(
                scheme=scheme,
                train_size=size,
                n_splits=len(group),
                train=_range(len(s.train) + len(s.val) for s in group),
                test=_range(len(s.test) for s in group),
                patients=_shared(group, task.patient_ids),
                sites=_shared(group, task.sites) if any(task.sites) else None,
                without_label=lacking[NO_LABEL],
                without_vector=lacking[NO_VECTOR],
                small=_small(task, group),
            )
        )
    return LeakTable(task=task.name, rows=tuple(rows))


def _range(numbers: Iterable[int]) -> tuple[int, int]:
    found = list(numbers)
    return min(found), max(found)


def _shared(group: Sequence[Split], names: Sequence[str]) -> tuple[float, float]:
    """Mean and greatest share (%) of test slides whose name is also on the training side."""
    shares = []
    for split in group:
        learned = {names[i] for i in (*split.train, *split.val)} - {""}
        shares.append(100 * float(np.mean([names[i] in learned for i in split.test])))
    return float(np.mean(shares)), max(shares)


def _small(task: Task, group: Sequence[Split]) -> tuple[str, ...]:
    found = []
    sides = {"training": [s.train for s in group], "test": [s.test for s in group]}
    for side, rows in sides.items():
        for what, has in _needed(task):
            count = sum(not has(each) for each in rows)
            if count:
                found.append(
                    f"{what} is missing on the {side} side of {count} of {len(group)} splits"
                )
    return tuple(found)


_Has = Callable[[np.ndarray], bool]


def _needed(task: Task) -> list[tuple[str, _Has]]:
    """What either side of a split should hold, and how to see it."""
    if task.event is not None:
        event = task.event
        return [("an event", lambda rows: bool(event[rows].any()))]
    if not task.classes:
        return []
    labels = task.labels

    def of_class(number: int) -> _Has:
        return lambda rows: bool((labels[rows] == number).any())

    return [(f"class '{name}'", of_class(number)) for number, name in enumerate(task.classes)]


def _sentences(row: LeakRow) -> list[str]:
    found = list(row.small)
    if row.patients[1] > 0:
        found.append("patients stand on both sides, so scores are too good")
    for names, lack in ((row.without_label, "label"), (row.without_vector, "vector")):
        if names:
            found.append(f"{len(names)} slides have no {lack} and are left out: {some(names)}")
    return found


def _cells(row: LeakRow) -> tuple[str, ...]:
    def sizes(pair: tuple[int, int]) -> str:
        return f"{pair[0]}" if pair[0] == pair[1] else f"{pair[0]}-{pair[1]}"

    def shares(pair: tuple[float, float] | None) -> str:
        return "unknown" if pair is None else f"{pair[0]:.1f} % ({pair[1]:.1f})"

    return (
        row.scheme, row.train_size, str(row.n_splits), sizes(row.train), sizes(row.test),
        shares(row.patients), shares(row.sites), str(len(row.without_label)),
        str(len(row.without_vector)),
    )  # fmt: skip
