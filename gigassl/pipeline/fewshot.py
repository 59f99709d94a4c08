"""Few-shot: what methods learn from few slides, on draws that are the same for all of them."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from gigassl.bags.layouts import CoordsUnit
from gigassl.errors import SettingsError, unknown_name
from gigassl.evaluate.comparison import CompareSettings
from gigassl.evaluate.leaks import leak_table
from gigassl.evaluate.mil.training import Monitor, Quiet
from gigassl.evaluate.patients import patient_level, patient_predictions
from gigassl.evaluate.predictions import Predictions, joined, save_predictions
from gigassl.evaluate.probes import PROBE_PRESETS, ProbeSettings, run_probe
from gigassl.evaluate.shots import FewShots, few_shots
from gigassl.evaluate.split import FULL
from gigassl.evaluate.task import Kind
from gigassl.evaluate.vector_set import VectorSet
from gigassl.pipeline.compare import CURVE, compare_files
from gigassl.pipeline.controls import ControlOptions, control_sets
from gigassl.pipeline.evaluation import Question, TaskOptions, question
from gigassl.pipeline.fewshot_result import SPLITS, FewshotResult, with_one_control_each
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.mil import MilOptions, mil
from gigassl.pipeline.mil_result import MilResult
from gigassl.pipeline.output import claimed
from gigassl.pipeline.pretrain_data import TrainingData, training_data
from gigassl.pipeline.progress import clock
from gigassl.pipeline.vector_sets import OpenVectors, common_patients, open_vector_sets
from gigassl.report.learning_curves import save_learning_curves
from gigassl.versions import installed_version

log = logging.getLogger("gigassl")

PREDICTIONS, MIL = "predictions.parquet", "mil.parquet"

PROBES: Mapping[str, ProbeSettings] = {
    "giga-ssl": PROBE_PRESETS["giga-ssl"],
    "logistic": ProbeSettings(method="logistic"),
    "prototype": ProbeSettings(method="prototype"),
    "knn": ProbeSettings(method="knn", neighbours=5),
    "ridge": ProbeSettings(method="ridge"),
    "cox": ProbeSettings(method="cox"),
}
"""Probes by name: Giga-SSL's C = 10; C chosen in the training slides; SimpleShot; 5 neighbours."""

DEFAULT_PROBES: Mapping[Kind, tuple[str, ...]] = {
    "classification": ("giga-ssl", "logistic", "prototype", "knn"),
    "regression": ("ridge", "knn"),
    "survival": ("cox",),
}


@dataclass(frozen=True, kw_only=True)
class FewshotOptions:
    """Which methods learn, and how they are compared.

    Attributes:
        probes: names of ``PROBES``; none: those of ``DEFAULT_PROBES``.
        bags: bags or bank of the same slides, for MIL, and for the controls of the first vectors.
        mil: which MIL models learn from the bags.
        slide_encoder: file of the slide encoder that made the first vectors, for the controls.
        coords_unit: unit of the coordinates of other tools' bags that do not say it.
        device: of MIL.
        restart: train MIL models anew over what is there.
        compare: how the tables are made.
    """

    probes: tuple[str, ...] = ()
    bags: Path | None = None
    mil: tuple[str, ...] = ()
    slide_encoder: Path | None = None
    coords_unit: CoordsUnit | None = None
    device: str = "auto"
    restart: bool = False
    compare: CompareSettings = field(default_factory=CompareSettings)

    def __post_init__(self) -> None:
        if self.mil and self.bags is None:
            raise SettingsError(f"{', '.join(self.mil)} learn from bags; give them with --bags")
        for name in self.probes:
            if name not in PROBES:
                raise unknown_name("probe", name, known=PROBES)


def fewshot(
    vectors: Sequence[Path], out: Path, *, task: TaskOptions,
    options: FewshotOptions | None = None, monitor: Monitor | None = None,
) -> FewshotResult:  # fmt: skip
    """Learns from nested draws of few slides, and tests on slides that stay the same.

    Every method learns from the same draws: vectors by several probes, their controls, and MIL on
    bags. Into the folder go ``predictions.parquet``, ``splits/`` (for other methods' ``--splits``),
    tables, and the learning curve. Finished MIL models are kept, so that a killed run goes on.

    Args:
        vectors: tables of ``gigassl embed`` or ``import-vectors``, one a method.
        out: the folder to write.
        task: labels, and training sizes and draws; test sets by its scheme or split files.
        options: methods.
        monitor: is told of every MIL model.

    Raises:
        SettingsError: labels, splits, vectors or settings that cannot be used; before any training.
        BusyError: another run writes the same folder.
        MachineError: disk full, read-only folder.
    """
    options = options or FewshotOptions()
    opened = open_vector_sets(vectors)
    bags = None if options.bags is None else _bags(options)
    available, notes = _available(opened, bags)
    asked, shots = _asked(task, available=available)
    settings = _probes(options, asked.task.kind)
    with claimed(out / PREDICTIONS):
        asked.save_splits(out / SPLITS)
        controls, unmade = _controls(opened[0], options, available=available)
        sets = [*(each.vectors for each in opened), *controls]
        probed, refused = _probed(asked, task, sets=sets, settings=settings)
        learned = _mil(bags, out, task=task, options=options, monitor=monitor or Quiet())
        compared = None
        if learned is None or learned.predictions is not None:
            predictions = _together(probed, learned, asked=asked, task=task, sets=sets)
            save_predictions(predictions, out / PREDICTIONS)
            compared = compare_files([str(out / PREDICTIONS)], out, settings=options.compare)
            save_learning_curves(with_one_control_each(compared.comparison), out / CURVE)
    return FewshotResult(
        out=out, question=asked, notes=(*notes, *shots.notes, *unmade, *refused), compared=compared,
        failures=() if bags is None else tuple(bags.failures),
    )  # fmt: skip


def _bags(options: FewshotOptions) -> TrainingData | None:
    """The tiles that MIL learns from; None where no model asks for them."""
    if options.bags is None or not options.mil:
        return None
    return training_data(options.bags, options=RunOptions(coords_unit=options.coords_unit))


def _available(
    opened: Sequence[OpenVectors], bags: TrainingData | None
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """slide_id → patient_id of the slides that every method has."""
    patients, notes = common_patients(opened)
    if bags is None:
        return patients, notes
    bagged = set(bags.store.slide_ids)
    lacking = sorted(patients.keys() - bagged)
    if len(lacking) == len(patients):
        raise SettingsError(
            f"no slide with a vector has a bag: vectors are of '{lacking[0]}' and so on, bags of "
            f"'{bags.store.slide_ids[0]}'"
        )
    if lacking:
        said = (
            f"{len(lacking)} slides with a vector have no bag and are left out, for all methods "
            f"learn from the same slides; first '{lacking[0]}'"
        )
        notes = (*notes, said)
    return {name: patient for name, patient in patients.items() if name in bagged}, notes


def _asked(task: TaskOptions, *, available: Mapping[str, str]) -> tuple[Question, FewShots]:
    """The task, its test sets, and the draws from what is left of each to learn from."""
    whole = replace(task.split, train_sizes=(FULL,), draws=1, validation=0.0)
    asked = question(replace(task, split=whole), available=available)
    wholes = [split for split in asked.splits if split.train_size == FULL]
    if not wholes:
        raise SettingsError(
            f"{task.splits} holds no split with all training slides to draw from, only few-shot "
            "lists; use these as they are with `gigassl probe --splits` and `gigassl mil --splits`"
        )
    shots = few_shots(asked.task, wholes, settings=task.split)
    leaks = leak_table(asked.task, shots.splits, left_out=asked.left_out)
    return replace(asked, splits=shots.splits, leaks=leaks), shots


def _probes(options: FewshotOptions, kind: Kind) -> Mapping[str, ProbeSettings]:
    chosen = {name: PROBES[name] for name in options.probes or DEFAULT_PROBES[kind]}
    for settings in chosen.values():
        settings.refuse(kind)
    return chosen


def _controls(
    first: OpenVectors, options: FewshotOptions, *, available: Mapping[str, str]
) -> tuple[Sequence[VectorSet], tuple[str, ...]]:
    """Controls of the first vectors; and why some could not be made.

    Bags that MIL learns from need not be those that the vectors were made from; controls of the
    vectors are.
    """
    rows = [row for row, name in enumerate(first.table.slide_ids) if name in available]
    table = replace(first.table, data=first.table.data.take(pa.array(rows)))
    how = ControlOptions(coords_unit=options.coords_unit)
    try:
        found = control_sets(
            table, name=first.name, bags=options.bags, slide_encoder=options.slide_encoder,
            options=how,
        )  # fmt: skip
    except SettingsError as error:
        if options.slide_encoder is not None:
            raise
        note = f"no control of {first.name} is made from the bags: {error}"
        return control_sets(table, name=first.name, options=how), (note,)
    return found, ()


def _probed(
    asked: Question, task: TaskOptions, *, sets: Sequence[VectorSet],
    settings: Mapping[str, ProbeSettings],
) -> tuple[list[pa.Table], tuple[str, ...]]:  # fmt: skip
    """What every probe on all vectors says of all test slides; and what could not be learned."""
    found, refused = list[pa.Table](), dict[str, None]()
    jobs = list(_in_turn(sets, settings, dict.fromkeys(s.train_size for s in asked.splits)))
    begin = time.monotonic()
    for number, (vectors, probe, size) in enumerate(jobs, start=1):
        read = patient_level(asked.slides, vectors)[1] if task.patients == "vectors" else vectors
        splits = [split for split in asked.splits if split.train_size == size]
        name = f"{vectors.name} · {probe}"
        try:
            found.append(
                run_probe(
                    asked.task, read, splits, settings=settings[probe], name=name,
                    seed=task.split.seed,
                )
            )  # fmt: skip
        except SettingsError as error:
            refused[f"left out {probe} at training size {size}: {error}"] = None
        left = (time.monotonic() - begin) / number * (len(jobs) - number)
        log.info("%d/%d probes, %s at %s, ETA %s", number, len(jobs), name, size, clock(left))
    if not found:
        raise SettingsError("; ".join(refused))
    return found, tuple(refused)


def _in_turn(
    sets: Sequence[VectorSet], probes: Iterable[str], sizes: Iterable[str]
) -> Iterator[tuple[VectorSet, str, str]]:
    for vectors in sets:
        for probe in probes:
            for size in sizes:
                yield vectors, probe, size


def _mil(
    bags: TrainingData | None, out: Path, *, task: TaskOptions, options: FewshotOptions,
    monitor: Monitor,
) -> MilResult | None:  # fmt: skip
    """MIL on the draws that lie in the folder; goes on where an earlier run was killed."""
    if bags is None:
        return None
    models = MilOptions(
        models=options.mil, changes={"device": options.device}, restart=options.restart,
        coords_unit=options.coords_unit,
    )  # fmt: skip
    of_draws = replace(task, splits=out / SPLITS)
    return mil(bags, out / MIL, options=of_draws, models=models, monitor=monitor)


def _together(
    probed: Sequence[pa.Table], learned: MilResult | None, *, asked: Question, task: TaskOptions,
    sets: Sequence[VectorSet],
) -> Predictions:  # fmt: skip
    provenance: dict[str, Any] = {
        "command": "fewshot",
        "vectors": [{"name": e.name, "digest": e.digest, "control": e.control} for e in sets],
        "split": asdict(task.split),
        "versions": {"gigassl": installed_version("gigassl")},
    }
    found = joined(asked.task.kind, probed, provenance=provenance)
    if task.patients == "predictions":
        found = patient_predictions(found)
    if learned is None or learned.predictions is None:
        return found
    return joined(
        asked.task.kind,
        [found.data, learned.predictions.data],
        provenance={**provenance, "mil": learned.predictions.provenance},
    )
