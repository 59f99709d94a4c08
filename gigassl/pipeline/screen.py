"""Screen: which of hundreds of targets slide vectors predict, with false discoveries controlled."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64

from gigassl.digests import plain
from gigassl.evaluate.findings import Finding, PatientTask, finding, judged, with_q
from gigassl.evaluate.labels import read_label_table
from gigassl.evaluate.predictions import Method, joined, rows_of_split, save_predictions
from gigassl.evaluate.screening import Inputs, ScreenSettings, screen_tasks
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Kind, rows_of
from gigassl.evaluate.vector_set import VectorSet
from gigassl.files import written_whole
from gigassl.pipeline.output import claimed, make_folder
from gigassl.pipeline.progress import Progress, Silent
from gigassl.pipeline.screen_targets import ScreenOptions, ScreenQuestion, screen_question
from gigassl.pipeline.vector_sets import open_vector_set
from gigassl.report.volcano import save_volcano
from gigassl.versions import installed_version

TABLE, PICTURE = "screen.csv", "screen"
ALPHA = 0.05
_SHOWN = 15


@dataclass(frozen=True, kw_only=True)
class ScreenResult:
    """What a screen found.

    Attributes:
        out: the folder.
        findings: one a target, best first, those that were left out last.
        notes: what a reader must know.
    """

    out: Path
    findings: Sequence[Finding]
    notes: Sequence[str]
    failures: Sequence[object] = ()
    interrupted: bool = False

    @property
    def found(self) -> list[Finding]:
        """Targets with q below 0.05."""
        return [each for each in self.findings if each.q < ALPHA]

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``; what is no number is null."""
        rows = [{k: _json_ready(v) for k, v in asdict(each).items()} for each in self.findings]
        return {
            "out": str(self.out),
            "found": len(self.found),
            "tested": sum(not each.skipped for each in self.findings),
            "findings": rows,
            "notes": list(self.notes),
        }

    def sentence(self) -> str:
        """The best targets, then how many were found and left out."""
        tested = [each for each in self.findings if not each.skipped]
        lines = [_line(each) for each in tested[:_SHOWN]]
        if len(tested) > _SHOWN:
            lines.append(f"… {len(tested) - _SHOWN} more in {TABLE}")
        head = (
            f"{self.out}: {len(self.found)} of {len(tested)} targets with q < {ALPHA} "
            f"(Benjamini–Hochberg); {len(self.findings) - len(tested)} left out, see {TABLE}"
        )
        return "\n".join([*self.notes, *lines, head])


def screen(
    vectors: Path, out: Path, *, options: ScreenOptions, settings: ScreenSettings | None = None,
    progress: Progress | None = None,
) -> ScreenResult:  # fmt: skip
    """Predicts every target with the same probe on the same folds of patients.

    A target's p is one-sided, of patients' out-of-fold predictions compared inside folds, with the
    largest variance that folds which learn from one another can have
    (``gigassl.evaluate.within_folds``). It assumes that without an effect patients' labels could be
    swapped: a site that goes with both label and image is a finding, too.

    Args:
        vectors: table of slide vectors.
        out: folder for ``screen.csv``, the predictions and the picture.
        options: what is screened.
        settings: of the probe and its folds.
        progress: is told of every target.

    Raises:
        SettingsError: tables that cannot be used, no target that can be tested.
        MachineError: the output cannot be written.

    Example::

        options = gigassl.ScreenOptions(labels=Path("mutations.csv"), targets=("mut_*",))
        result = gigassl.screen(Path("vectors.parquet"), Path("screen"), options=options)
    """
    settings = settings or ScreenSettings()
    vector_set, available = open_vector_set(vectors)
    table = read_label_table(options.labels, slide_table=options.slide_table)
    asked = screen_question(table, options, settings, available=available)
    with claimed(out):
        make_folder(out)
        methods = _methods(asked, vector_set, settings)
        told = progress or Silent()
        told.started(len(asked.tasks) * len(methods))
        answers = {
            method: _answers(asked, inputs, method=method, progress=told)
            for method, inputs in methods.items()
        }
        findings = with_q([*_findings(asked, answers), *asked.skipped])
        _save_table(findings, out / TABLE)
        seen = vector_set.seen
        record = {
            "settings": plain(settings),
            "vectors": vector_set.digest,
            "versions": {"gigassl": installed_version("gigassl")},
        }
        for kind in sorted({view.task.kind for view in asked.tasks}):
            rows = _rows(asked, answers, kind=kind, seen=seen)
            save_predictions(
                joined(kind, rows, provenance=record), out / f"predictions.{kind}.parquet"
            )
        save_volcano(findings, out / PICTURE, alpha=ALPHA)
    return ScreenResult(out=out, findings=findings, notes=asked.notes)


_Outputs = list[Float64[np.ndarray, "_ _"]]


def _methods(
    asked: ScreenQuestion, vectors: VectorSet, settings: ScreenSettings
) -> dict[str, Inputs]:
    rows = vectors.vectors[rows_of(vectors.slide_ids, asked.slide_ids)].astype(np.float64)
    made = {vectors.name: _inputs(asked, (rows, settings.strength))}
    if asked.clinical is not None:
        made["clinical"] = _inputs(asked, (asked.clinical, settings.clinical_strength))
        # few variables beside many columns: where all are shrunk, both blocks speak as loudly
        alike = settings.strength * (rows.shape[1] / asked.clinical.shape[1]) ** 0.5
        blocks = (rows, settings.strength), (asked.clinical, alike)
        made[f"{vectors.name} + clinical"] = _inputs(asked, *blocks)
    return made


def _inputs(asked: ScreenQuestion, *blocks: tuple[Float64[np.ndarray, "slide _"], float]) -> Inputs:
    return Inputs(
        slide_ids=asked.slide_ids,
        rows=np.concatenate([rows for rows, _ in blocks], axis=1),
        strengths=np.concatenate([np.full(rows.shape[1], strength) for rows, strength in blocks]),
    )


def _answers(asked: ScreenQuestion, inputs: Inputs, *, method: str, progress: Progress) -> _Outputs:
    tasks = [view.task for view in asked.tasks]
    outputs: _Outputs = [np.zeros((0, 0))] * len(tasks)
    for each in screen_tasks(inputs, tasks, asked.fold):
        outputs[each.number] = each.output
        progress.slide_done(f"{tasks[each.number].name} ({method})", failed=False)
    return outputs


def _findings(asked: ScreenQuestion, answers: Mapping[str, _Outputs]) -> list[Finding]:
    found = []
    for number, view in enumerate(asked.tasks):
        vectors, *others = (judged(view, outputs[number]) for outputs in answers.values())
        clinical, both = others if others else (None, None)
        found.append(finding(view, vectors, clinical=clinical, both=both))
    return found


def _rows(
    asked: ScreenQuestion, answers: Mapping[str, _Outputs], *, kind: Kind, seen: frozenset[str]
) -> list[pa.Table]:
    """Rows of every target of a kind, fold by fold."""
    tables = []
    for number, view in enumerate(asked.tasks):
        if view.task.kind != kind:
            continue
        for split in _splits(view):
            for name, outputs in answers.items():
                is_control = name == "clinical"
                method = Method(
                    name=name,
                    control="clinical" if is_control else "",
                    seen=frozenset() if is_control else seen,
                )
                output = outputs[number][split.test]
                tables.append(rows_of_split(view.task, split, output, method=method))
    return tables


def _splits(view: PatientTask) -> list[Split]:
    fold = view.fold[view.row_of]
    numbers: Int64[np.ndarray, " fold"] = np.unique(fold)
    return [
        Split(
            scheme="screen:patient-kfold", fold=int(number),
            train=np.flatnonzero(fold != number), test=np.flatnonzero(fold == number),
        )
        for number in numbers
    ]  # fmt: skip


def _save_table(findings: Sequence[Finding], path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f.name for f in fields(Finding)]
    writer.writerow(names)
    writer.writerows([_cell(getattr(each, name)) for name in names] for each in findings)
    with written_whole(path) as part:
        part.write_text(text.getvalue(), encoding="utf-8")


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"


def _json_ready(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _line(each: Finding) -> str:
    title = "AUC" if each.metric == "auc" else "ρ"
    said = (
        f"{each.target}: {title} {each.value:.3f} ({each.low:.3f} to {each.high:.3f}), "
        f"p {each.p:.2g}, q {each.q:.2g}, {each.n_patients} patients"
    )
    said += f" ({each.classes})" if each.classes else ""
    if math.isnan(each.gain):
        return said
    return f"{said}; clinical alone {each.clinical:.3f}, with the vectors {each.both:.3f}"
