"""Task: what is to be predicted, of which slides and patients."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int64

from gigassl.errors import SettingsError

Kind = Literal["classification", "regression", "survival"]


@runtime_checkable
class Asked(Protocol):
    """What a model must know of its task: the ``Task``, or what a model's file says of it."""

    @property
    def name(self) -> str:
        """Of the task."""

    @property
    def kind(self) -> Kind:
        """Classification, regression or survival."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in order; empty unless classification."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Labelled slides and what each is labelled with.

    Attributes:
        name: of the task, such as the label's column.
        kind: classification (two or more classes), regression, or survival.
        slide_ids: one a row, each once.
        patient_ids: one a slide; slides of one patient never stand on both sides of a split by
            default.
        sites: where each slide comes from (hospital, scanner); "" where not known.
        classes: names of the classes in order; empty unless classification.
        target: class number, value, or time under observation.
        event: survival only: whether the event was seen at that time (False: censored).
        whole: False for some slides of a task, which need not be learnable by themselves.

    Raises:
        SettingsError: no slides, a slide twice, lengths that differ, a target that is not finite;
            fewer than two classes, a class of one patient; a constant value; times of zero or less;
            no event at all.
    """

    name: str
    kind: Kind
    slide_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    sites: tuple[str, ...]
    classes: tuple[str, ...] = ()
    target: Float64[np.ndarray, " slide"]
    event: Bool[np.ndarray, " slide"] | None = None
    whole: bool = True

    def __post_init__(self) -> None:
        n = len(self.slide_ids)
        lengths = {len(self.patient_ids), len(self.sites), len(self.target)}
        if n == 0 or lengths != {n}:
            raise SettingsError(
                f"task '{self.name}' has {n} slides, {len(self.patient_ids)} patients, "
                f"{len(self.sites)} sites and {len(self.target)} labels; give one of each a slide"
            )
        twice = [name for name, count in Counter(self.slide_ids).items() if count > 1]
        if twice:
            raise SettingsError(f"task '{self.name}' names slide '{twice[0]}' more than once")
        if not np.isfinite(self.target).all():
            bad = self.slide_ids[int(np.argmin(np.isfinite(self.target)))]
            raise SettingsError(f"task '{self.name}': slide '{bad}' has no finite label")
        if self.whole:
            _REFUSALS[self.kind](self)

    def __len__(self) -> int:
        return len(self.slide_ids)

    @property
    def labels(self) -> Int64[np.ndarray, " slide"]:
        """Class number of each slide.

        Raises:
            SettingsError: the task is no classification.
        """
        if self.kind != "classification":
            raise SettingsError(f"task '{self.name}' is {self.kind}; it has no classes")
        return self.target.astype(np.int64)

    def rows(self, rows: Int64[np.ndarray, " row"]) -> "Task":
        """The task of some of its slides, in that order; classes stay as they are."""
        return replace(
            self,
            slide_ids=tuple(self.slide_ids[i] for i in rows),
            patient_ids=tuple(self.patient_ids[i] for i in rows),
            sites=tuple(self.sites[i] for i in rows),
            target=self.target[rows],
            event=None if self.event is None else self.event[rows],
            whole=False,
        )


def rows_of(slide_ids: Sequence[str], wanted: Sequence[str]) -> Int64[np.ndarray, " row"]:
    """Where each wanted slide stands among the slide ids; -1 where it does not."""
    place = {name: row for row, name in enumerate(slide_ids)}
    return np.array([place.get(name, -1) for name in wanted], dtype=np.int64)


def _refuse_classes(task: Task) -> None:
    if task.event is not None or len(task.classes) < 2:
        raise SettingsError(
            f"task '{task.name}': all {len(task)} slides have the same label "
            f"({', '.join(task.classes)}); a classification needs two classes"
        )
    for number, name in enumerate(task.classes):
        patients = {p for p, y in zip(task.patient_ids, task.target, strict=True) if y == number}
        if len(patients) < 2:
            raise SettingsError(
                f"task '{task.name}': class '{name}' has {len(patients)} patient"
                f"{'s' if len(patients) != 1 else ''}; at least 2 are needed, so that one can be "
                "tested on what was learned from another. Merge or leave out the class"
            )


def _refuse_values(task: Task) -> None:
    if np.ptp(task.target) == 0:
        raise SettingsError(
            f"task '{task.name}': all {len(task)} slides have the value {task.target[0]:g}; "
            "there is nothing to predict"
        )


def _refuse_times(task: Task) -> None:
    if task.event is None or len(task.event) != len(task):
        raise SettingsError(f"task '{task.name}': survival wants a time and an event of each slide")
    if (task.target <= 0).any():
        bad = int(np.argmax(task.target <= 0))
        raise SettingsError(
            f"task '{task.name}': slide '{task.slide_ids[bad]}' has time {task.target[bad]:g}; "
            "times under observation must be above zero. Correct it, or leave the slide out"
        )
    if not task.event.any():
        raise SettingsError(
            f"task '{task.name}': all {len(task)} slides are censored; without one event there is "
            "nothing to learn"
        )


_REFUSALS = {
    "classification": _refuse_classes,
    "regression": _refuse_values,
    "survival": _refuse_times,
}
