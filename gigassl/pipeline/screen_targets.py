"""Targets of a screen: which columns of a wide table can be predicted, and which not, and why."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from gigassl.errors import SettingsError, unknown_name
from gigassl.evaluate.clinical import clinical_columns
from gigassl.evaluate.findings import Finding, PatientTask, patient_task_of
from gigassl.evaluate.labels import PATIENT_COLUMNS, SLIDE_COLUMNS, LabelTable, some
from gigassl.evaluate.screening import ScreenSettings
from gigassl.evaluate.splits import grouped_folds
from gigassl.evaluate.targets import TargetSettings, labelled_slides, texts_by_slide
from gigassl.evaluate.task import Task, rows_of

_MOST_CLASSES = 20
_NAMED_IN_ERRORS = 30


@dataclass(frozen=True, kw_only=True)
class ScreenOptions:
    """What is screened.

    Attributes:
        labels: a wide table: one column a target.
        slide_table: which slides a patient has, where ``labels`` is of patients.
        targets: names or patterns (``mut_*``); "all": every column that names no slide, patient or
            clinical variable.
        clinical: columns of clinical variables, the baseline that vectors must add to.
    """

    labels: Path
    slide_table: Path | None = None
    targets: tuple[str, ...] = ("all",)
    clinical: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class ScreenQuestion:
    """What a screen tests, and on what.

    Attributes:
        slide_ids: with a vector and the label of any target, sorted.
        fold: of each, the same for all targets.
        tasks: that can be tested, one row a patient beside the slides.
        skipped: targets that cannot.
        clinical: variables of the slides; None: none wanted.
        notes: what else a reader must know.
    """

    slide_ids: tuple[str, ...]
    fold: Int64[np.ndarray, " slide"]
    tasks: tuple[PatientTask, ...]
    skipped: tuple[Finding, ...]
    clinical: Float64[np.ndarray, "slide column"] | None
    notes: tuple[str, ...]


def screen_question(
    table: LabelTable, options: ScreenOptions, settings: ScreenSettings, *,
    available: Mapping[str, str],
) -> ScreenQuestion:  # fmt: skip
    """Reads every target and lays out the folds; a target that cannot be tested says why.

    Args:
        table: of the labels.
        options: which columns.
        settings: of folds and sizes.
        available: slide_id → patient_id of the slides with a vector.

    Raises:
        SettingsError: unknown columns, fewer patients than folds, no target that can be tested.
    """
    tasks, skipped = _read(table, chosen_targets(table, options), available=available)
    if not tasks:
        raise SettingsError(
            f"none of {len(skipped)} targets can be tested; the first, '{skipped[0].target}': "
            f"{skipped[0].skipped}"
            if skipped
            else f"{table.where} has no column to screen"
        )
    patient_of = {
        slide: patient
        for task in tasks
        for slide, patient in zip(task.slide_ids, task.patient_ids, strict=True)
    }
    slide_ids = tuple(sorted(patient_of))
    patients = [patient_of[slide] for slide in slide_ids]
    fold = grouped_folds(
        np.zeros(len(slide_ids), dtype=np.int64), patients, folds=settings.folds,
        seed=settings.seed,
    )  # fmt: skip
    kept = []
    for task in tasks:
        view = patient_task_of(task, fold[rows_of(slide_ids, task.slide_ids)])
        reason = _too_small(view, settings)
        if reason:
            skipped.append(_skipped(view, reason))
        else:
            kept.append(view)
    if not kept:
        raise SettingsError(
            f"none of {len(skipped)} targets can be tested; '{skipped[-1].target}': "
            f"{skipped[-1].skipped}"
        )
    clinical, notes = _clinical(table, options, slide_ids, available=available)
    return ScreenQuestion(
        slide_ids=slide_ids,
        fold=fold,
        tasks=tuple(kept),
        skipped=tuple(skipped),
        clinical=clinical,
        notes=(*_notes(kept, skipped, slide_ids, available=available), *notes),
    )


def chosen_targets(table: LabelTable, options: ScreenOptions) -> list[str]:
    """The columns that are screened, in the table's order.

    Raises:
        SettingsError: a name or pattern that no column has, or a clinical column that is not there.
    """
    kept = {*SLIDE_COLUMNS, *PATIENT_COLUMNS, *options.clinical}
    columns = [name for name in table.cells if name not in kept]
    for name in options.clinical:
        table.column(name)
    if options.targets == ("all",):
        return columns
    wanted: set[str] = set()
    for pattern in options.targets:
        found = fnmatch.filter(columns, pattern)
        if not found:
            raise unknown_name("target", pattern, known=columns[:_NAMED_IN_ERRORS])
        wanted.update(found)
    return [name for name in columns if name in wanted]


def _read(
    table: LabelTable, names: Sequence[str], *, available: Mapping[str, str]
) -> tuple[list[Task], list[Finding]]:
    tasks, skipped = [], []
    for name in names:
        wanted = TargetSettings(target=name)
        try:
            tasks.append(labelled_slides(table, wanted, available=available, name=name).task)
        except SettingsError as error:
            skipped.append(Finding(target=name, skipped=str(error)))
    return tasks, skipped


def _too_small(view: PatientTask, settings: ScreenSettings) -> str:
    """Why a target cannot be tested on these folds; "" where it can."""
    if len(view.task.classes) > _MOST_CLASSES:
        return f"{len(view.task.classes)} classes; at most {_MOST_CLASSES} can be screened"
    name, count = view.smallest()
    if count < settings.min_patients:
        of = f"class '{name}' has" if name else "it has"
        return f"{of} {count} patients; at least {settings.min_patients} are wanted"
    if view.task.kind == "regression":
        enough = all((view.fold != number).sum() >= 2 for number in np.unique(view.fold))
        return "" if enough and len(np.unique(view.fold)) > 1 else "its patients are in one fold"
    slide_fold = view.fold[view.row_of]
    for number in np.unique(slide_fold):
        learned = np.unique(view.task.labels[slide_fold != number])
        if len(learned) < len(view.task.classes):
            return f"outside fold {number} a class is missing"
    return ""


def _skipped(view: PatientTask, reason: str) -> Finding:
    return Finding(
        target=view.task.name, kind=view.task.kind, skipped=reason, n_slides=len(view.task),
        n_patients=len(view.patients), classes=view.counts() if view.task.classes else "",
    )  # fmt: skip


def _clinical(
    table: LabelTable, options: ScreenOptions, slide_ids: Sequence[str], *,
    available: Mapping[str, str],
) -> tuple[Float64[np.ndarray, "slide column"] | None, tuple[str, ...]]:  # fmt: skip
    if not options.clinical:
        return None, ()
    cells = {}
    for name in options.clinical:
        texts = texts_by_slide(table, name, available=available)
        cells[name] = [texts.get(slide, "") for slide in slide_ids]
    return clinical_columns(cells)


def _notes(
    kept: Sequence[PatientTask], skipped: Sequence[Finding], slide_ids: Sequence[str], *,
    available: Mapping[str, str],
) -> list[str]:  # fmt: skip
    n_patients = len({p for view in kept for p in view.patients})
    of = f"{len(slide_ids)} slides of {n_patients} patients"
    said = [f"{len(kept)} targets on {of}, {len(skipped)} targets left out"]
    without = sorted(set(available) - set(slide_ids))
    if without:
        said.append(f"{len(without)} slides with a vector have no label: {some(without)}")
    mixed = [f"'{view.task.name}' ({view.n_mixed})" for view in kept if view.n_mixed]
    if mixed:
        said.append(
            "patients whose slides differ in class count with the class of most of their slides: "
            + ", ".join(mixed[:5])
        )
    return said
