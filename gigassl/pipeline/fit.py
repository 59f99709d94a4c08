"""Fit: a probe learned from all labelled slides, with its calibration and threshold, as a file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from gigassl.digests import plain
from gigassl.errors import SettingsError
from gigassl.evaluate.calibration import fit_calibration
from gigassl.evaluate.comparison import CompareSettings, Comparison, compare
from gigassl.evaluate.contamination import counted
from gigassl.evaluate.frozen import FrozenProbe, save_frozen
from gigassl.evaluate.operating_point import YOUDEN, check_rule, threshold_of
from gigassl.evaluate.predictions import Predictions, joined, save_predictions
from gigassl.evaluate.probes import (
    DEFAULT_METHODS,
    ProbeSettings,
    fit_folds,
    fit_probe,
    run_probe,
    vectors_of_task,
)
from gigassl.evaluate.task import Task, rows_of
from gigassl.pipeline.evaluation import Question, TaskOptions, question
from gigassl.pipeline.output import claimed, make_folder
from gigassl.pipeline.vector_sets import OpenVectors, open_vector_sets
from gigassl.report.numbers import as_records
from gigassl.report.tables import as_text
from gigassl.versions import installed_version

SUFFIX = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How a probe is learned and read.

    Attributes:
        probe: its method; None: the one of the kind of task, strength chosen by inner folds.
        threshold: rule of the threshold between two classes, chosen out of fold: "youden",
            "sensitivity=0.95" or "specificity=0.95".
        calibrate: probabilities by Platt scaling of out-of-fold predictions.
        compare: how the out-of-fold table is made.
        keep_folds: also keep the probe of each split, for ``gigassl explain``.

    Raises:
        SettingsError: a rule that is not known.
    """

    probe: ProbeSettings | None = None
    threshold: str = YOUDEN
    calibrate: bool = True
    compare: CompareSettings = field(default_factory=CompareSettings)
    keep_folds: bool = False

    def __post_init__(self) -> None:
        check_rule(self.threshold)


@dataclass(frozen=True, kw_only=True, eq=False)
class FitResult:
    """What was learned.

    Attributes:
        out: the file of the probe.
        probe: as written.
        comparison: its out-of-fold scores.
        asked: the task it learned.
    """

    out: Path
    probe: FrozenProbe
    comparison: Comparison
    asked: Question
    failures: tuple[object, ...] = ()
    interrupted: bool = False

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        compared = as_records(self.comparison)
        return {
            **compared,
            "out": str(self.out),
            "slides": len(self.probe.slides),
            "patients": len(self.probe.patients),
            "chosen": dict(self.probe.probe.chosen),
            "threshold": self.probe.threshold,
            "notes": [*self.asked.notes, *compared["notes"]],
        }

    def sentence(self) -> str:
        """Notes, the out-of-fold table, and what the file holds."""
        probe = self.probe
        chosen = ", ".join(f"{name} {value:g}" for name, value in probe.probe.chosen.items())
        held = (
            f"{self.out}: {probe.probe.method} probe of '{probe.task}', learned from "
            f"{len(probe.slides)} slides of {len(probe.patients)} patients"
        )
        held += f" ({chosen})" if chosen else ""
        if probe.calibration is not None:
            held += f"; calibrated out of fold (slope {probe.calibration.slope:.2f})"
        if probe.threshold is not None:
            held += f"; threshold {probe.threshold:.4g} ({probe.rule})"
        parts = [self.asked.as_text(), "Out of fold, as the probe says before calibration:",
                 as_text(self.comparison).rstrip(), held]  # fmt: skip
        return "\n\n".join(parts)


def fit(
    vectors: Path, out: Path, *, task: TaskOptions, settings: FitSettings | None = None
) -> FitResult:
    """Freezes a probe learned from all labelled slides; what is not learned is chosen out of fold.

    The strength of the penalty is chosen by folds of patients inside what is learned from;
    calibration and threshold by out-of-fold predictions of the task's splits, which must test
    every slide once.

    Args:
        vectors: table of slide vectors.
        out: the ``.safetensors`` file to write; out-of-fold predictions go beside it.
        task: labels, and splits for what is chosen out of fold.
        settings: of the probe.

    Raises:
        SettingsError: tables that cannot be used; splits that do not test every slide once.
        MachineError: the output cannot be written.
    """
    settings = settings or FitSettings()
    if out.suffix != SUFFIX:
        raise SettingsError(f"frozen probes are {SUFFIX} files; got -o {out}")
    if task.patients == "vectors":
        raise SettingsError("a frozen probe reads vectors of slides; leave out --patients vectors")
    (opened,) = open_vector_sets([vectors])
    asked = question(task, available=opened.patients)
    _refuse_splits(asked)
    method = settings.probe or ProbeSettings(method=DEFAULT_METHODS[asked.task.kind])
    method.refuse(asked.task.kind)
    with claimed(out):
        seed = task.split.seed
        rows = run_probe(asked.task, opened.vectors, asked.splits, settings=method, seed=seed)
        said = joined(asked.task.kind, [rows], provenance={"settings": plain(method)})
        comparison = compare([said], settings=settings.compare)
        probe = _frozen(opened, asked, said, method=method, settings=settings, seed=seed)
        scores = as_records(comparison)["scores"]
        probe = replace(probe, target=task.target or "", made={**probe.made, "out_of_fold": scores})
        save_frozen(probe, out)
        save_predictions(said, out.with_suffix(".out-of-fold.parquet"))
        if settings.keep_folds:
            _save_folds(probe, opened, asked, settings=method, folder=folds_beside(out), seed=seed)
    return FitResult(out=out, probe=probe, comparison=comparison, asked=asked)


def folds_beside(out: Path) -> Path:
    """Where the probes of the splits lie.

    >>> folds_beside(Path("msi.safetensors")).name
    'msi.folds'
    """
    return out.with_suffix(".folds")


def _save_folds(
    whole: FrozenProbe, opened: OpenVectors, asked: Question, *, settings: ProbeSettings,
    folder: Path, seed: int,
) -> None:  # fmt: skip
    """The probe of each split: as the whole one, of fewer slides, and neither calibrated nor cut.

    Calibration and threshold were chosen on what these probes say of their test slides.
    """
    make_folder(folder)
    for earlier in folder.glob(f"*{SUFFIX}"):
        earlier.unlink()
    task = asked.task
    probes = fit_folds(task, opened.vectors, asked.splits, settings=settings, seed=seed)
    for split, probe in zip(asked.splits, probes, strict=True):
        learned = task.rows(np.concatenate([split.train, split.val]))
        fold = replace(
            whole, probe=probe, calibration=None, threshold=None, rule="",
            slides=frozenset(learned.slide_ids), patients=frozenset(learned.patient_ids),
            made={**whole.made, "split": split.title, "out_of_fold": []},
        )  # fmt: skip
        save_frozen(fold, folder / f"fold-{split.fold}{SUFFIX}")


def _refuse_splits(asked: Question) -> None:
    tested = np.concatenate([split.test for split in asked.splits])
    if len(tested) != len(asked.task) or len(np.unique(tested)) != len(tested):
        raise SettingsError(
            "calibration and threshold are chosen on out-of-fold predictions, one a slide; take "
            "patient-kfold, site-preserved or leave-site-out splits, one repeat, training size full"
        )


def _frozen(
    opened: OpenVectors, asked: Question, said: Predictions, *, method: ProbeSettings,
    settings: FitSettings, seed: int,
) -> FrozenProbe:  # fmt: skip
    task, vectors = asked.task, opened.vectors
    output = _in_order(task, said)
    calibration = None
    if task.kind == "classification" and settings.calibrate:
        calibration = fit_calibration(task.labels, output)
        output = calibration.apply(output)
    threshold, rule = _threshold(task, output, rule=settings.threshold)
    return FrozenProbe(
        probe=fit_probe(
            vectors_of_task(task, vectors), task, settings=method, seed=seed,
            first_block=vectors.first_block,
        ),
        task=task.name,
        kind=task.kind,
        target="",
        classes=task.classes,
        calibration=calibration,
        threshold=threshold,
        rule=rule,
        vectors=_record(opened),
        slides=frozenset(task.slide_ids),
        patients=frozenset(task.patient_ids),
        made={
            "settings": {**plain(method), "seed": seed},
            "versions": {"gigassl": installed_version("gigassl")},
        },
    )  # fmt: skip


def _record(opened: OpenVectors) -> Mapping[str, Any]:
    table = opened.table
    return {
        "name": opened.name,
        "digest": table.settings_digest,
        "dim": table.dim,
        "settings": counted(plain(table.provenance.get("settings", {}))),
    }


def _in_order(task: Task, said: Predictions) -> Float64[np.ndarray, "slide output"]:
    """Out-of-fold predictions in the order of the task."""
    names = {"classification": [f"p_{name}" for name in task.classes], "regression": ["value"],
             "survival": ["risk"]}[task.kind]  # fmt: skip
    output = np.stack([said.data[name].to_numpy() for name in names], axis=1)
    ordered: Float64[np.ndarray, "slide output"] = output[
        rows_of(said.data["slide_id"].to_pylist(), task.slide_ids)
    ]
    return ordered


def _threshold(
    task: Task, output: Float64[np.ndarray, "slide output"], *, rule: str
) -> tuple[float | None, str]:
    if task.kind == "survival":
        return float(np.median(output)), "median of the out-of-fold risk"
    if len(task.classes) == 2:
        return threshold_of(task.labels == 1, output[:, 1], rule=rule), rule
    return None, ""
