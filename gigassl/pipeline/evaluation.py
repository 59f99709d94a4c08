"""What an evaluation is asked: labels, splits and leaks, all checked before any training."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from gigassl.errors import SettingsError
from gigassl.evaluate.labels import read_label_table, some
from gigassl.evaluate.leaks import LeakTable, leak_table
from gigassl.evaluate.patients import patient_task, splits_of_patients, splits_of_slides
from gigassl.evaluate.split import Split
from gigassl.evaluate.split_files import SplitList, read_split_lists, splits_of, write_splits
from gigassl.evaluate.splits import SplitSettings, make_splits
from gigassl.evaluate.targets import (
    NO_LABEL,
    NO_VECTOR,
    LeftOut,
    TargetSettings,
    labelled_slides,
)
from gigassl.evaluate.task import Task
from gigassl.files import written_whole

PatientLevel = Literal["none", "vectors", "predictions"]


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """Where the labels are, what is predicted, and how it is divided.

    Attributes:
        labels: table of slides or patients.
        slide_table: which slides a patient has, where ``labels`` is of patients and the vectors do
            not say it.
        target, kind, time, event, site_column: as in ``TargetSettings``.
        name: of the task; else the label's column.
        splits: published split files, or the splits of another run; instead of ``split``.
        split: how to divide the task.
        patients: slides of a patient made one: "vectors" (their mean), "predictions" (their mean),
            or "none".
    """

    labels: Path
    slide_table: Path | None = None
    target: str | None = None
    kind: Literal["auto", "classification", "regression", "survival"] = "auto"
    time: str | None = None
    event: str | None = None
    site_column: str | None = None
    name: str = ""
    splits: Path | None = None
    split: SplitSettings = field(default_factory=SplitSettings)
    patients: PatientLevel = "none"


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """A task that can be learned, and how.

    Attributes:
        task: of the slides with a label and a vector; of their patients where vectors of slides
            are made one (training sizes then count patients).
        splits: of the task.
        slides: the task of the slides, whatever ``task`` is of.
        leaks: what a reader must know of the splits.
        left_out: slides that take no part, and why.
        notes: sentences: how tables were understood, what was left out.
    """

    task: Task
    splits: tuple[Split, ...]
    slides: Task
    leaks: LeakTable
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]

    def as_text(self) -> str:
        """Notes and leaks, for the terminal."""
        return "\n".join([*self.notes, self.leaks.as_text()])

    def save_splits(self, folder: Path) -> None:
        """Writes the splits, for the next method's ``--splits``, and the names of the left out.

        Raises:
            MachineError: disk full, quota, read-only folder.
        """
        write_splits(folder, self.slides, self.splits_of_slides())
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([("slide_id", "reason"), *((e.slide_id, e.reason) for e in self.left_out)])
        with written_whole(folder / "left_out.csv") as part:
            part.write_text(text.getvalue(), encoding="utf-8")

    def splits_of_slides(self) -> tuple[Split, ...]:
        """The splits as rows of ``slides``."""
        if self.task is self.slides:
            return self.splits
        return splits_of_slides(self.splits, slides=self.slides, patients=self.task)


def splits_beside(out: Path) -> Path:
    """The folder that holds the splits of the result ``out``."""
    return out.with_name(f"{out.name}.splits")


def question(options: TaskOptions, *, available: Mapping[str, str]) -> Question:
    """Reads labels and splits, and refuses what could not be learned.

    Args:
        options: what is asked.
        available: slide_id → patient_id of the slides that have a vector (or a bag).

    Raises:
        SettingsError: unusable tables, labels or splits; one sentence each.
    """
    target = TargetSettings(
        target=options.target, kind=options.kind, time=options.time, event=options.event,
        site_column=options.site_column,
    )  # fmt: skip
    table = read_label_table(options.labels, slide_table=options.slide_table)
    found = labelled_slides(table, target, available=available, name=options.name)
    slides = found.task
    task = patient_task(slides) if options.patients == "vectors" else slides
    lists = () if options.splits is None else read_split_lists(options.splits)
    splits = _splits(options, lists, task=task, slides=slides)
    asked = Question(
        task=task, splits=splits, slides=slides, leaks=LeakTable(task=task.name, rows=()),
        left_out=found.left_out,
        notes=(_size(task, slides), *found.notes, *_left_out_notes(found.left_out)),
    )  # fmt: skip
    leaks = leak_table(slides, asked.splits_of_slides(), lists=lists, left_out=found.left_out)
    if leaks.missing_in_training():
        raise SettingsError(
            f"task '{task.name}': {leaks.missing_in_training()}, so it cannot be learned "
            "there; merge or leave out small classes, or divide the task otherwise"
        )
    return replace(asked, leaks=leaks)


def _splits(
    options: TaskOptions, lists: Sequence[SplitList], *, task: Task, slides: Task
) -> tuple[Split, ...]:
    if not lists:
        return make_splits(task, options.split)
    splits = splits_of(lists, slides)
    if task is slides:
        return splits
    return splits_of_patients(splits, slides=slides, patients=task)


def _size(task: Task, slides: Task) -> str:
    n_patients, n_sites = len(set(task.patient_ids)), len(set(task.sites) - {""})
    of = f"{len(slides)} slides of {n_patients} patients" + (f", {n_sites} sites" * (n_sites > 0))
    if task is not slides:
        of = f"{of}, one row a patient"
    if task.event is not None:
        return f"task '{task.name}': {of}; {int(task.event.sum())} events"
    if not task.classes:
        return f"task '{task.name}': {of}; {task.target.min():g} to {task.target.max():g}"
    counts = Counter(task.classes[k] for k in task.labels)
    said = ", ".join(f"{name} {counts[name]}" for name in task.classes)
    return f"task '{task.name}': {of}; {said}"


def _left_out_notes(left_out: tuple[LeftOut, ...]) -> list[str]:
    said = []
    for reason, what in ((NO_VECTOR, "labelled slides have no vector"),
                         (NO_LABEL, "slides with a vector have no label")):  # fmt: skip
        names = [each.slide_id for each in left_out if each.reason == reason]
        if names:
            said.append(f"{len(names)} {what} and are left out: {some(names)}")
    return said
