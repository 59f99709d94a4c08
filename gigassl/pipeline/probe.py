"""Probes: what vectors are worth on a cohort's labels, beside controls on the same splits."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from gigassl.bags.layouts import CoordsUnit
from gigassl.errors import GigasslError, SettingsError
from gigassl.evaluate.comparison import CompareSettings, Comparison, compare
from gigassl.evaluate.contamination import contamination
from gigassl.evaluate.mean_mlp import mean_mlp
from gigassl.evaluate.patients import patient_level, patient_predictions
from gigassl.evaluate.predictions import (
    Predictions,
    joined,
    open_predictions,
    save_predictions,
)
from gigassl.evaluate.probes import DEFAULT_METHODS, ProbeSettings, run_probe
from gigassl.evaluate.task import Kind
from gigassl.evaluate.vector_set import VectorSet
from gigassl.pipeline.controls import ControlOptions, control_sets
from gigassl.pipeline.evaluation import Question, TaskOptions, question, splits_beside
from gigassl.pipeline.output import claimed
from gigassl.pipeline.progress import Progress
from gigassl.pipeline.vector_sets import OpenVectors, common_patients, open_vector_sets
from gigassl.report.numbers import as_records
from gigassl.report.tables import as_text
from gigassl.versions import installed_version

log = logging.getLogger("gigassl")


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """What is run beside the vectors' own probes, and how it is compared.

    Attributes:
        bags: that the vectors were made from: mean, and mean + std of the tiles are then probed
            alike.
        slide_encoder: file of the slide encoder that they were made with: random weights and
            shuffled coordinates, too.
        coords_unit: unit of the coordinates of other tools' bags that do not say it.
        compare: how the table at the end is made.
    """

    bags: Path | None = None
    slide_encoder: Path | None = None
    coords_unit: CoordsUnit | None = None
    compare: CompareSettings = field(default_factory=CompareSettings)


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeResult:
    """Predictions, what they are worth, and what a reader must know.

    Attributes:
        out: the file of the predictions.
        predictions: of all tasks and methods.
        comparison: of the methods.
        questions: one a task: splits, leaks, slides left out.
        notes: sentences on vectors: what each table lacks, what encoders had seen.
        failures: nothing is left out by chance, so there are none.
    """

    out: Path
    predictions: Predictions
    comparison: Comparison
    questions: tuple[Question, ...]
    notes: tuple[str, ...]
    failures: tuple[str, ...] = ()
    interrupted: bool = False

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        compared = as_records(self.comparison)
        asked = [note for each in self.questions for note in each.notes]
        return {
            **compared,
            "out": str(self.out),
            "splits": str(splits_beside(self.out)),
            "rows": len(self.predictions),
            "notes": [*self.notes, *asked, *compared["notes"]],
            "leaks": [note for each in self.questions for note in each.leaks.warnings()],
        }

    def sentence(self) -> str:
        """Notes, leaks, the table of scores, and where it all is."""
        asked = [each.as_text() for each in self.questions]
        where = (
            f"{len(self.predictions)} predictions in {self.out}; the splits in "
            f"{splits_beside(self.out)} (for the next method's --splits)"
        )
        parts = ["\n".join([*asked, *self.notes]), as_text(self.comparison).rstrip(), where]
        return "\n\n".join(part for part in parts if part)


def probe(
    vectors: Sequence[Path], out: Path, *, tasks: Sequence[TaskOptions],
    settings: Sequence[ProbeSettings] = (), options: ProbeOptions | None = None,
    progress: Progress | None = None,
) -> ProbeResult:  # fmt: skip
    """Probes tables of vectors, and their controls, on the same splits, and compares them.

    Args:
        vectors: tables of ``gigassl embed`` or ``import-vectors``, one a method.
        out: Parquet file of predictions; the splits are written beside it.
        tasks: what is predicted; all of one kind.
        settings: one a probe; none: the probe of the kind of task.
        options: controls and comparison.
        progress: is told of slides of which controls are made.

    Raises:
        SettingsError: labels, splits, vectors or settings that cannot be used; before any training.
        GigasslError: files that cannot be read or written.
    """
    options = options or ProbeOptions()
    _refuse_other_file(out)
    opened = open_vector_sets(vectors)
    patients, notes = common_patients(opened)
    asked = [question(each, available=patients) for each in tasks]
    kind = _one_kind(asked)
    chosen = tuple(settings) or (ProbeSettings(method=DEFAULT_METHODS[kind]),)
    for one in chosen:
        one.refuse(kind)
    with claimed(out):
        sets = [each.vectors for each in opened] + _controls(opened[0], options, progress=progress)
        provenance = _provenance(sets, tasks=tasks, settings=chosen)
        parts = [
            _predicted(each, of, vectors=sets, settings=chosen, provenance=provenance)
            for each, of in zip(asked, tasks, strict=True)
        ]
        predictions = joined(kind, [part.data for part in parts], provenance=provenance)
        comparison = compare([predictions], settings=options.compare)
        save_predictions(predictions, out)
        for each in asked:
            folder = splits_beside(out)
            each.save_splits(folder if len(asked) == 1 else folder / each.task.name)
    return ProbeResult(
        out=out, predictions=predictions, comparison=comparison, questions=tuple(asked),
        notes=(*notes, *_seen(opened, asked)),
    )  # fmt: skip


def _refuse_other_file(out: Path) -> None:
    """Predictions are made anew in little time; any other file is not to be lost."""
    if not out.exists():
        return
    try:
        open_predictions(out)
    except GigasslError as error:
        raise SettingsError(f"{error}; choose another -o, so that nothing is lost") from error


def tasks_of(options: TaskOptions, targets: str | None) -> tuple[TaskOptions, ...]:
    """One task a target of ``"a,b,c"``; splits of a run of several targets lie in their folders."""
    names = [name.strip() for name in (targets or "").split(",") if name.strip()]
    if len(names) < 2:
        return (replace(options, target=names[0] if names else None),)
    folder = options.splits
    return tuple(
        replace(
            options, target=name,
            splits=folder / name if folder is not None and (folder / name).is_dir() else folder,
        )
        for name in names
    )  # fmt: skip


def _one_kind(asked: Sequence[Question]) -> Kind:
    kinds = {each.task.name: each.task.kind for each in asked}
    if len(kinds) < len(asked) or not asked:
        raise SettingsError("give at least one target, and each once")
    if len(set(kinds.values())) > 1:
        said = ", ".join(f"'{name}' is {kind}" for name, kind in kinds.items())
        raise SettingsError(f"targets of one run must be of one kind; {said}. Run each kind alone")
    return next(iter(kinds.values()))


def _controls(
    opened: OpenVectors, options: ProbeOptions, *, progress: Progress | None
) -> list[VectorSet]:
    """Controls of the first table; those of others on the same tiles would be the same."""
    return control_sets(
        opened.table,
        name=opened.name,
        bags=options.bags,
        slide_encoder=options.slide_encoder,
        options=ControlOptions(coords_unit=options.coords_unit),
        progress=progress,
    )


def _provenance(
    sets: Sequence[VectorSet], *, tasks: Sequence[TaskOptions], settings: Sequence[ProbeSettings]
) -> dict[str, Any]:
    return {
        "vectors": [
            {"name": each.name, "digest": each.digest, "control": each.control} for each in sets
        ],
        "probes": [asdict(each) for each in settings],
        "splits": [asdict(each.split) for each in tasks if each.splits is None],
        "versions": {name: installed_version(name) for name in ("gigassl", "numpy", "torch")},
    }


def _predicted(
    asked: Question, of: TaskOptions, *, vectors: Sequence[VectorSet],
    settings: Sequence[ProbeSettings], provenance: dict[str, Any],
) -> Predictions:  # fmt: skip
    tables = [_table(asked, of, vectors=each, settings=one) for each in vectors for one in settings]
    tables += [
        mean_mlp(asked.task, _read(asked, of, vectors=each), asked.splits, seed=of.split.seed)
        for each in vectors
        if each.control == "mean"
    ]
    found = joined(asked.task.kind, tables, provenance=provenance)
    return patient_predictions(found) if of.patients == "predictions" else found


def _table(
    asked: Question, of: TaskOptions, *, vectors: VectorSet, settings: ProbeSettings
) -> pa.Table:
    name = f"{vectors.name} · {settings.method}"
    log.info("task '%s': %s on %d splits", asked.task.name, name, len(asked.splits))
    return run_probe(
        asked.task, _read(asked, of, vectors=vectors), asked.splits, settings=settings, name=name,
        seed=of.split.seed,
    )  # fmt: skip


def _read(asked: Question, of: TaskOptions, *, vectors: VectorSet) -> VectorSet:
    """The vectors of the task's rows: slides, or patients where their slides' mean is wanted."""
    if of.patients != "vectors":
        return vectors
    return replace(patient_level(asked.slides, vectors)[1], name=vectors.name)


def _seen(opened: Sequence[OpenVectors], asked: Sequence[Question]) -> tuple[str, ...]:
    """What encoders had seen of all slides that some split tests."""
    tested = sorted({each.slides.slide_ids[row] for each in asked
                     for split in each.splits_of_slides() for row in split.test})  # fmt: skip
    notes = []
    for each in opened:
        patients = [each.patients[slide] for slide in tested]
        found = contamination(each.table.provenance, slide_ids=tested, patient_ids=patients)
        notes += [f"{each.name}: {sentence}" for sentence in found]
    return tuple(notes)
