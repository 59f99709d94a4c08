"""Predict: a frozen probe on another cohort, and what it is worth there where labels are known."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.bootstrap import BootstrapSettings
from gigassl.evaluate.calibration import calibration_fit
from gigassl.evaluate.comparison import CompareSettings, compare
from gigassl.evaluate.contamination import contamination
from gigassl.evaluate.frozen import FrozenProbe, load_frozen
from gigassl.evaluate.labels import read_label_table, some
from gigassl.evaluate.operating_point import rates
from gigassl.evaluate.predictions import (
    Method,
    Predictions,
    joined,
    rows_of_split,
    save_predictions,
)
from gigassl.evaluate.split import Split
from gigassl.evaluate.targets import TargetSettings, labelled_slides
from gigassl.evaluate.task import Task, rows_of
from gigassl.pipeline.output import claimed
from gigassl.pipeline.predict_result import Agreement, PredictResult
from gigassl.pipeline.vector_sets import OpenVectors, open_vector_sets

SCHEME = "external"
_NOT_CALIBRATED = "{} (not calibrated)"


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """What is known of the other cohort.

    Attributes:
        labels: its table of labels; None: predictions only.
        slide_table: which slides a patient has, where ``labels`` is of patients.
        target: column; None: the one that the probe learned.
        time, event: columns of a survival task.
        include_training: keep slides of patients that the probe learned from.
        allow_other_vectors: vectors made with other settings.
        compare: how the external table is made.
    """

    labels: Path | None = None
    slide_table: Path | None = None
    target: str | None = None
    time: str | None = None
    event: str | None = None
    include_training: bool = False
    allow_other_vectors: bool = False
    compare: CompareSettings = field(default_factory=CompareSettings)


def predict(
    probe: Path, vectors: Path, out: Path, *, options: PredictOptions | None = None
) -> PredictResult:
    """Applies a frozen probe to the vectors of another cohort; nothing is learned there.

    Slides of patients that the probe learned from are left out, and named. With labels this is an
    external validation: scores with intervals of a bootstrap over patients, sensitivity and
    specificity at the frozen threshold, calibration before and after.

    Args:
        probe: file of ``gigassl fit``.
        vectors: table of slide vectors, made with the settings of those of training.
        out: Parquet file of predictions to write.
        options: what is known of the cohort.

    Raises:
        SettingsError: vectors made otherwise, labels of other classes, no slide left.
        GigasslError: files that cannot be read or written.
    """
    options = options or PredictOptions()
    if out.suffix != ".parquet":
        raise SettingsError(f"-o names the predictions to write and ends in .parquet; got {out}")
    frozen = load_frozen(probe)
    (opened,) = open_vector_sets([vectors])
    minded = frozen.refuse_other(opened.table, allowed=options.allow_other_vectors)
    task, notes = _task(frozen, opened, options)
    task, left_out = _without_training(frozen, task, included=options.include_training)
    notes = (*minded, *notes, *left_out)
    if options.labels is not None:
        notes = (*notes, *_seen(opened, task))
    with claimed(out):
        said = _predictions(frozen, opened, task, name=opened.name)
        labelled = options.labels is not None
        if not labelled:
            said = replace(said, data=_without_truth(said))
        comparison = compare([said], settings=options.compare) if labelled else None
        save_predictions(said, out)
    result = PredictResult(
        out=out, predictions=said, comparison=comparison, rates=(), calibration=(), notes=notes
    )
    return _with_binary(result, frozen, task) if labelled and len(frozen.classes) == 2 else result


def _task(
    frozen: FrozenProbe, opened: OpenVectors, options: PredictOptions
) -> tuple[Task, tuple[str, ...]]:
    """The slides to predict, with their truth where it is known."""
    if options.labels is None:
        n = len(opened.table)
        event = np.zeros(n, dtype=bool) if frozen.kind == "survival" else None
        return Task(
            name=frozen.task, kind=frozen.kind, slide_ids=opened.vectors.slide_ids,
            patient_ids=tuple(opened.table.patient_ids), sites=("",) * n, classes=frozen.classes,
            target=np.zeros(n), event=event, whole=False,
        ), ()  # fmt: skip
    found = labelled_slides(
        read_label_table(options.labels, slide_table=options.slide_table),
        TargetSettings(
            target=options.target or frozen.target or None, kind=frozen.kind, time=options.time,
            event=options.event,
        ),
        available=opened.patients,
        name=frozen.task,
    )  # fmt: skip
    counts = {why: sum(each.reason == why for each in found.left_out)
              for why in sorted({each.reason for each in found.left_out})}  # fmt: skip
    said = [f"{count} slides are left out: {why}" for why, count in counts.items()]
    return _renumbered(frozen, found.task), (*found.notes, *said)


def _renumbered(frozen: FrozenProbe, task: Task) -> Task:
    """The other cohort's classes under the numbers of those that were learned."""
    unknown = [name for name in task.classes if name not in frozen.classes]
    if unknown:
        raise SettingsError(
            f"the labels name {some(unknown)}; the probe learned the classes "
            f"{', '.join(frozen.classes)}. Rename the labels alike, or choose another --target"
        )
    if task.kind != "classification":
        return task
    number = rows_of(frozen.classes, task.classes)
    return replace(
        task, classes=frozen.classes, target=number[task.labels].astype(np.float64), whole=False
    )


def _without_training(
    frozen: FrozenProbe, task: Task, *, included: bool
) -> tuple[Task, tuple[str, ...]]:
    pairs = list(zip(task.slide_ids, task.patient_ids, strict=True))
    known = np.array([s in frozen.slides or p in frozen.patients for s, p in pairs])
    if not known.any():
        return task, ()
    names = [slide for (slide, _), one in zip(pairs, known, strict=True) if one]
    of = f"{len(names)} of {len(task)} slides are of patients that the probe learned from"
    if included:
        return task, (f"{of}, and stay in: {some(names)}; the scores are too good",)
    if known.all():
        raise SettingsError(
            f"all {len(task)} slides are of patients that the probe learned from; give another "
            "cohort, or say --include-training to predict them all the same"
        )
    rows: Int64[np.ndarray, " kept"] = np.flatnonzero(~known)
    return task.rows(rows), (f"{of}, and are left out: {some(names)}",)


def _seen(opened: OpenVectors, task: Task) -> tuple[str, ...]:
    return contamination(
        opened.table.provenance, slide_ids=task.slide_ids, patient_ids=task.patient_ids
    )


def _predictions(frozen: FrozenProbe, opened: OpenVectors, task: Task, *, name: str) -> Predictions:
    place = rows_of(opened.vectors.slide_ids, task.slide_ids)
    output = frozen.probe.predict(opened.vectors.vectors[place])
    method = f"{name} · {frozen.probe.method}"
    outputs = {method: frozen.calibrated(output)}
    decided = pa.array(frozen.decisions(outputs[method]), type=pa.string())
    if frozen.calibration is not None:
        outputs[_NOT_CALIBRATED.format(method)] = output
    tables = [
        _rows(
            frozen, task, said, method=Method(name=title, seen=opened.vectors.seen)
        ).append_column("decision", decided)
        for title, said in outputs.items()
    ]
    record = {"probe": {"task": frozen.task, "made": dict(frozen.made)},
              "vectors": opened.vectors.digest}  # fmt: skip
    return joined(frozen.kind, tables, provenance=record)


def _rows(
    frozen: FrozenProbe, task: Task, output: Float64[np.ndarray, "slide output"], *, method: Method
) -> pa.Table:
    # nothing of this cohort is learned from, but a split wants a side to stand on
    split = Split(scheme=SCHEME, train=np.array([-1]), test=np.arange(len(task)))
    rows = rows_of_split(task, split, output, method=method)
    place = rows.schema.get_field_index("n_train")
    n_train = pa.array([len(frozen.slides)] * len(task), type=pa.int64())
    return rows.set_column(place, "n_train", n_train)


def _without_truth(said: Predictions) -> pa.Table:
    data = said.data
    for name in ("y_true", "time", "event"):
        if name in data.column_names:
            place = data.schema.get_field_index(name)
            nothing = pa.nulls(data.num_rows, type=data.schema.field(name).type)
            data = data.set_column(place, name, nothing)
    return data


def _with_binary(result: PredictResult, frozen: FrozenProbe, task: Task) -> PredictResult:
    """What threshold and calibration do on the other cohort."""
    data, name = result.predictions.data, f"p_{frozen.classes[1]}"
    methods = list(dict.fromkeys(data["method"].to_pylist()))
    output = data[name].to_numpy().reshape(len(methods), len(task))
    positive, settings = task.labels == 1, result.comparison and result.comparison.settings
    bootstrap = (
        BootstrapSettings(draws=settings.draws, seed=settings.seed, alpha=settings.alpha)
        if settings
        else None
    )
    threshold = 0.5 if frozen.threshold is None else frozen.threshold
    decided = output[0] >= threshold
    return replace(
        result,
        threshold_said=f"'{frozen.classes[1]}' from a probability of {threshold:.4g} on",
        rates=rates(positive, decided, task.patient_ids, settings=bootstrap),
        calibration=tuple(
            Agreement(method=method, fit=calibration_fit(task.labels, probability))
            for method, probability in reversed(list(zip(methods, output, strict=True)))
        ),
    )
