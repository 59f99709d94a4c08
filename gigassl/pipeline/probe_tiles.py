"""Probes of tile encoders on labelled images: accuracy, speed and size side by side."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.leaks import leak_table
from gigassl.evaluate.predictions import Predictions, joined, save_predictions
from gigassl.evaluate.probes import ProbeSettings, run_probe
from gigassl.evaluate.splits import make_splits
from gigassl.evaluate.task import Task
from gigassl.pipeline.evaluation import Question
from gigassl.pipeline.failures import failures_path, save_failures
from gigassl.pipeline.image_encoders import (
    Judged,
    colour_vectors,
    cut_of,
    encoder_vectors,
    notes_on,
)
from gigassl.pipeline.image_features import ImageJob
from gigassl.pipeline.image_survey import Survey, survey
from gigassl.pipeline.output import claimed, make_folder
from gigassl.pipeline.probe_tiles_options import ProbeTilesOptions
from gigassl.pipeline.probe_tiles_result import KNN, LINEAR, PREDICTIONS, ProbeTilesResult
from gigassl.pipeline.progress import Progress, Silent
from gigassl.tiles.encoders import encoder_record
from gigassl.tiles.labelled_images import LabelledImages, read_labelled
from gigassl.versions import installed_version

log = logging.getLogger("gigassl")


def probe_tiles(
    images: Path | LabelledImages, out: Path, *, encoders: Sequence[str],
    options: ProbeTilesOptions | None = None, progress: Progress | None = None,
) -> ProbeTilesResult:  # fmt: skip
    """Judges tile encoders on labelled images by linear and kNN probes, on the same folds.

    Features are kept under ``out``, so that a repeat, or one with further encoders, is cheap.

    Args:
        images: a folder of class folders, or a table beside images; or what ``read_labelled`` gave.
        out: folder for tables, figure and predictions.
        encoders: names as ``load_encoder`` takes them; the first is what others are compared with.
        options: labels, splits, controls, and how encoders run.
        progress: is told of images.

    Raises:
        SettingsError: unknown encoders, unusable images or labels, too few groups.
        MachineError: no memory, no space, no file handles left.
    """
    options, progress = options or ProbeTilesOptions(), progress or Silent()
    labelled = images if isinstance(images, LabelledImages) else _read(images, options)
    titles = _titles(encoders)
    cuts = [cut_of(encoder_record(name), options) for name in encoders]
    with claimed(out / PREDICTIONS):
        make_folder(out / "features")
        seen = survey(labelled, cuts, workers=options.workers, progress=progress)
        name = "images" if isinstance(images, LabelledImages) else images.resolve().stem
        asked = _question(labelled, seen, options, name=name)
        job = _job(labelled, seen, folder=out / "features", workers=options.workers)
        judged = [
            *encoder_vectors(titles, job, options=options, progress=progress),
            *([colour_vectors(job, seen)] if options.controls else []),
        ]
        predictions = _predictions(asked, judged, options)
        result = ProbeTilesResult(
            out=out, predictions=predictions, question=asked, judged=tuple(judged),
            compare=options.compare, failures=seen.failures,
            notes=(*labelled.notes, *notes_on(judged, asked.task, options=options)),
        )  # fmt: skip
        save_predictions(predictions, out / PREDICTIONS)
        save_failures(seen.failures, failures_path(out / PREDICTIONS))
        result.save()
    return result


def _read(source: Path, options: ProbeTilesOptions) -> LabelledImages:
    return read_labelled(
        source, labels=options.labels, label_column=options.label_column,
        group_column=options.group_column, group_pattern=options.group_pattern,
    )  # fmt: skip


def _titles(encoders: Sequence[str]) -> dict[str, str]:
    """What tables call the encoders: files by their names alone where those differ."""
    twice = [name for name, count in Counter(encoders).items() if count > 1]
    if not encoders or twice:
        raise SettingsError(
            f"encoder '{twice[0]}' is named twice; give each once" if twice
            else "name at least one encoder, such as --encoder efficientnet-lite0"
        )  # fmt: skip
    short = {name: Path(name).name if Path(name).is_file() else name for name in encoders}
    counts = Counter(short.values())
    return {name: title if counts[title] == 1 else name for name, title in short.items()}


def _job(labelled: LabelledImages, seen: Survey, *, folder: Path, workers: int) -> ImageJob:
    return ImageJob(
        names=tuple(labelled.names[row] for row in seen.rows),
        paths=tuple(labelled.paths[row] for row in seen.rows),
        digest=seen.digest,
        folder=folder,
        workers=workers,
    )


def _question(
    labelled: LabelledImages, seen: Survey, options: ProbeTilesOptions, *, name: str
) -> Question:
    """The task of the images that can be used, and its folds; refused before any encoding."""
    task = _task(labelled, seen.rows, name=name)
    splits = make_splits(task, options.split)
    leaks = leak_table(task, splits)
    if leaks.missing_in_training():
        raise SettingsError(
            f"'{name}': {leaks.missing_in_training()}, so it cannot be learned there; ask for "
            "fewer folds, or merge or leave out small classes"
        )
    counts = Counter(task.classes[k] for k in task.labels)
    said = ", ".join(f"{each} {counts[each]}" for each in task.classes)
    size = f"{name}: {len(task)} images of {len(set(task.patient_ids))} groups; {said}"
    return Question(
        task=task, splits=splits, slides=task, leaks=leaks, left_out=(), notes=(size,)
    )  # fmt: skip


def _task(labelled: LabelledImages, rows: Int64[np.ndarray, " row"], *, name: str) -> Task:
    labels = labelled.labels[rows]
    kept = sorted(set(labels.tolist()))
    return Task(
        name=name,
        kind="classification",
        slide_ids=tuple(labelled.names[row] for row in rows),
        patient_ids=tuple(labelled.groups[row] for row in rows),
        sites=("",) * len(rows),
        classes=tuple(labelled.classes[k] for k in kept),
        target=np.searchsorted(kept, labels).astype(np.float64),
    )


def _predictions(
    asked: Question, judged: Sequence[Judged], options: ProbeTilesOptions
) -> Predictions:
    """Both probes of everything, on the same folds."""
    probes = (
        ProbeSettings(method=LINEAR),
        ProbeSettings(method=KNN, neighbours=options.neighbours),
    )
    provenance: dict[str, Any] = {
        "vectors": [
            {"name": each.vectors.name, "digest": each.vectors.digest, "weights": each.weights}
            for each in judged
        ],
        "image_mpp": options.image_mpp,
        "probes": [asdict(each) for each in probes],
        "splits": asdict(options.split),
        "versions": {name: installed_version(name) for name in ("gigassl", "numpy", "torch")},
    }
    tables = []
    for each in judged:
        log.info("%s: linear and kNN probe on %d splits", each.vectors.name, len(asked.splits))
        tables += [
            run_probe(asked.task, each.vectors, asked.splits, settings=one, seed=options.split.seed)
            for one in probes
        ]
    return joined("classification", tables, provenance=provenance)
