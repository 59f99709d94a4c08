"""What a screen found of each target: patients' out-of-fold predictions judged inside folds."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64
from scipy.stats import norm

from gigassl.evaluate.significance import benjamini_hochberg
from gigassl.evaluate.task import Task
from gigassl.evaluate.within_folds import (
    Ordered,
    correlation_interval,
    ordered_classes,
    ordered_values,
)

NAN = float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class PatientTask:
    """A task with one row a patient.

    Attributes:
        task: of the slides.
        patients: names, sorted.
        row_of: patient's row of each slide.
        target: class that most of a patient's slides have, or their mean value.
        fold: that the patient is tested in.
        n_mixed: patients whose slides have different classes.
    """

    task: Task
    patients: tuple[str, ...]
    row_of: Int64[np.ndarray, " slide"]
    target: Float64[np.ndarray, " patient"]
    fold: Int64[np.ndarray, " patient"]
    n_mixed: int

    def mean(self, output: Float64[np.ndarray, "slide output"]) -> Float64[np.ndarray, "_ output"]:
        """Mean prediction of each patient's slides."""
        total = np.zeros((len(self.patients), output.shape[1]))
        np.add.at(total, self.row_of, output)
        return total / np.bincount(self.row_of)[:, None]

    def smallest(self) -> tuple[str, int]:
        """The class of fewest patients, and how many it has; of values, all patients."""
        if self.task.kind != "classification":
            return "", len(self.patients)
        counts = np.bincount(self.target.astype(np.int64), minlength=len(self.task.classes))
        return self.task.classes[int(counts.argmin())], int(counts.min())

    def counts(self) -> str:
        """Patients of each class, such as "0: 41, 1: 12"; "" for values."""
        found = Counter(self.target.astype(np.int64).tolist())
        classes = enumerate(self.task.classes)
        return ", ".join(f"{name}: {found[number]}" for number, name in classes)


def patient_task_of(task: Task, fold: Int64[np.ndarray, " slide"]) -> PatientTask:
    """One row a patient of a classification or regression."""
    patients, first, row_of = np.unique(
        np.array(task.patient_ids, dtype=object), return_index=True, return_inverse=True
    )
    if task.kind == "classification":
        votes = np.zeros((len(patients), len(task.classes)))
        np.add.at(votes, (row_of, task.labels), 1)
        target, n_mixed = votes.argmax(axis=1).astype(float), int(((votes > 0).sum(1) > 1).sum())
    else:
        target = np.bincount(row_of, weights=task.target) / np.bincount(row_of)
        n_mixed = 0
    return PatientTask(
        task=task,
        patients=tuple(patients.tolist()),
        row_of=row_of,
        target=target,
        fold=fold[first],
        n_mixed=n_mixed,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """How well one method predicts one target.

    Attributes:
        value: AUC (several classes: mean of each against the rest) or rank correlation.
        low, high: 95 % interval.
        p: one-sided, that it is so high by chance.
        influence: of each patient on an AUC.
    """

    value: float = NAN
    low: float = NAN
    high: float = NAN
    p: float = NAN
    influence: Float64[np.ndarray, " patient"]


def judged(patients: PatientTask, output: Float64[np.ndarray, "slide output"]) -> Judged:
    """Judges out-of-fold predictions of a target's slides, by patient."""
    said = patients.mean(output)
    if patients.task.kind == "regression":
        found = ordered_values(patients.target, said[:, 0], patients.fold)
        low, high = correlation_interval(found.value, len(patients.patients))
        return Judged(value=found.value, low=low, high=high, p=found.p, influence=found.influence)
    classes = range(1, 2) if said.shape[1] == 2 else range(said.shape[1])
    each = [ordered_classes(patients.target == k, said[:, k], patients.fold) for k in classes]
    found = Ordered(
        value=float(np.mean([one.value for one in each])),
        # the best of several classes; how they depend on each other does not matter so
        p=min(1.0, len(each) * min(one.p for one in each)),
        influence=np.mean([one.influence for one in each], axis=0),
    )
    low, high = found.interval()
    return Judged(value=found.value, low=low, high=high, p=found.p, influence=found.influence)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One target's line of ``screen.csv``; NaN where there is no number.

    Attributes:
        target, kind: what was predicted.
        skipped: why it was not; "" where it was.
        n_slides, n_patients: with a label and a vector.
        classes: patients of each class.
        metric: "auc" or "spearman".
        value, low, high: of the vectors, with a 95 % interval.
        p, q: one-sided, and adjusted over all targets (Benjamini–Hochberg).
        clinical, both: the same metric of clinical variables alone, and of both together.
        gain, gain_low, gain_high: both less clinical; the interval for AUCs only.
    """

    target: str
    kind: str = ""
    skipped: str = ""
    n_slides: int = 0
    n_patients: int = 0
    classes: str = ""
    metric: str = ""
    value: float = NAN
    low: float = NAN
    high: float = NAN
    p: float = NAN
    q: float = NAN
    clinical: float = NAN
    both: float = NAN
    gain: float = NAN
    gain_low: float = NAN
    gain_high: float = NAN


def finding(
    patients: PatientTask, vectors: Judged, *, clinical: Judged | None, both: Judged | None
) -> Finding:
    """The line of one target that was predicted."""
    task = patients.task
    line = Finding(
        target=task.name, kind=task.kind, n_slides=len(task), n_patients=len(patients.patients),
        classes=patients.counts() if task.classes else "",
        metric="auc" if task.kind == "classification" else "spearman",
        value=vectors.value, low=vectors.low, high=vectors.high, p=vectors.p,
    )  # fmt: skip
    if clinical is None or both is None:
        return line
    gain = both.value - clinical.value
    spread = math.sqrt(float(np.square(both.influence - clinical.influence).sum()))
    reach = float(norm.isf(0.025)) * spread if task.kind == "classification" else NAN
    return replace(
        line, clinical=clinical.value, both=both.value, gain=gain, gain_low=gain - reach,
        gain_high=gain + reach,
    )  # fmt: skip


def with_q(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings with adjusted p-values, best first, those not predicted last by name."""
    q = benjamini_hochberg(np.array([each.p for each in findings], dtype=np.float64))
    adjusted = [replace(each, q=float(one)) for each, one in zip(findings, q, strict=True)]
    return tuple(
        sorted(adjusted, key=lambda f: (bool(f.skipped), f.p if f.p == f.p else 2.0, f.target))
    )
