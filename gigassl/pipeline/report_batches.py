"""Sites and scanners of a report: told from vectors by a probe, beside shuffled groups."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.bootstrap import BootstrapSettings
from gigassl.evaluate.estimates import Estimate, Estimator
from gigassl.evaluate.metrics import chosen_metric
from gigassl.evaluate.predictions import joined
from gigassl.evaluate.probes import ProbeSettings, run_probe
from gigassl.evaluate.sites import RobustnessIndex, robustness_index, site_task
from gigassl.evaluate.splits import SplitSettings, make_splits
from gigassl.evaluate.task import Task
from gigassl.evaluate.vector_set import VectorSet
from gigassl.report.page.batches import BatchAudit
from gigassl.report.page.columns import Column
from gigassl.vectors.table import SlideTable

FOLDS = 3
_MOST_SLIDES = 2_000
_STRENGTH = 1e-2  # fixed: a search would take seven times as long to show the same
_EXAMPLES = 6
_MOST_GROUPS = 40


def audited(
    table: SlideTable, batches: Sequence[Column], *, target: Column | None, seed: int
) -> tuple[list[BatchAudit], list[str]]:
    """How well vectors tell the groups of each column, and why some were not asked for.

    Args:
        batches: columns of sites and scanners.
        target: classes, for the robustness index.
        seed: of folds, of shuffling and of the slides drawn from a large cohort.
    """
    audits, notes = [], []
    for column in batches:
        try:
            audits.append(_audit(table, column, target=target, seed=seed))
        except SettingsError as error:
            notes.append(f"{column.name}: not measured, {error}")
    if any(len(audit.groups) for audit in audits) and len(table) > _MOST_SLIDES:
        notes.append(
            f"told from {_MOST_SLIDES:,} slides at most, of patients drawn at random; the groups "
            "shown are those of all slides drawn"
        )
    if target is None:
        notes.append("the robustness index needs classes: name their column (--target)")
    return audits, notes


def _audit(table: SlideTable, column: Column, *, target: Column | None, seed: int) -> BatchAudit:
    rows = _drawn(table, column, seed=seed)
    task = _task(table, column, rows)
    told = site_task(task, min_patients=FOLDS)
    if len(told.classes) > _MOST_GROUPS:
        told = _commonest(told)
    vectors = VectorSet(
        name="vectors", slide_ids=tuple(table.slide_ids), vectors=table.embeddings
    )  # fmt: skip
    counts = np.bincount(told.labels, minlength=len(told.classes))
    place = {name: row for row, name in enumerate(table.slide_ids)}
    own_rows = np.array([place[name] for name in told.slide_ids])
    return BatchAudit(
        name=column.name,
        groups=[(name, int(n)) for name, n in zip(told.classes, counts, strict=True)],
        left_out=len(table) - len(told),
        told=_accuracy(told, vectors, seed=seed),
        shuffled=_accuracy(_shuffled(told, seed=seed), vectors, seed=seed),
        robustness=_robustness(table, rows, column=column, target=target),
        examples=[
            own_rows[_typical(table.embeddings[own_rows[told.labels == k]], told.labels == k)]
            .tolist()
            for k in range(len(told.classes))
        ],
    )  # fmt: skip


def _drawn(table: SlideTable, column: Column, *, seed: int) -> Int64[np.ndarray, " row"]:
    """Rows whose group is known; of a large cohort whole patients drawn until there are enough."""
    known = np.flatnonzero([text != "" for text in column.texts])
    if len(known) <= _MOST_SLIDES:
        return known
    patients = np.array(table.patient_ids, dtype=object)[known]
    names, number = np.unique(patients, return_inverse=True)
    order = np.random.default_rng([seed, 0]).permutation(len(names))
    slides_before = np.cumsum(np.bincount(number)[order])
    kept = order[: max(1, int((slides_before <= _MOST_SLIDES).sum()))]
    rows: Int64[np.ndarray, " row"] = known[np.isin(number, kept)]
    return rows


def _task(table: SlideTable, column: Column, rows: Int64[np.ndarray, " row"]) -> Task:
    if len(rows) == 0:
        raise SettingsError("no slide has one")
    ids, patients = table.slide_ids, table.patient_ids
    return Task(
        name=column.name, kind="classification", whole=False,
        slide_ids=tuple(ids[i] for i in rows), patient_ids=tuple(patients[i] for i in rows),
        sites=tuple(column.texts[i] for i in rows), classes=(), target=np.zeros(len(rows)),
    )  # fmt: skip


def _commonest(task: Task) -> Task:
    """The task of the groups with most slides; a page cannot show hundreds."""
    counts = np.bincount(task.labels, minlength=len(task.classes))
    kept = np.sort(np.argsort(-counts, kind="stable")[:_MOST_GROUPS])
    number = np.full(len(task.classes), -1)
    number[kept] = np.arange(len(kept))
    part = task.rows(np.flatnonzero(number[task.labels] >= 0))
    classes = tuple(task.classes[k] for k in kept)
    return replace(part, classes=classes, target=number[part.labels].astype(float), whole=True)


def _shuffled(task: Task, *, seed: int) -> Task:
    """The groups dealt to the patients anew; slides of a patient stay together."""
    first = {patient: k for k, patient in reversed(list(enumerate(task.patient_ids)))}
    names = sorted(first)
    groups = task.target[[first[name] for name in names]]
    dealt = np.random.default_rng([seed, 1]).permutation(groups)
    of = dict(zip(names, dealt.tolist(), strict=True))
    return replace(task, target=np.array([of[patient] for patient in task.patient_ids]))


def _accuracy(task: Task, vectors: VectorSet, *, seed: int) -> Estimate:
    splits = make_splits(task, SplitSettings(folds=FOLDS, seed=seed))
    rows = run_probe(
        task, vectors, splits, settings=ProbeSettings(strength=_STRENGTH), seed=seed
    )  # fmt: skip
    said = joined("classification", [rows], provenance={})
    metric = chosen_metric("classification", "balanced_accuracy")
    return Estimator(task, metric, settings=BootstrapSettings(seed=seed)).value(said)


def _robustness(
    table: SlideTable, rows: Int64[np.ndarray, " row"], *, column: Column, target: Column | None
) -> RobustnessIndex | None:
    if target is None or not target.categories:
        return None
    codes = target.codes()
    kept = rows[codes[rows] >= 0]
    patients = [table.patient_ids[i] for i in kept]
    if len(set(patients)) < 2:
        return None
    return robustness_index(
        table.embeddings[kept], classes=codes[kept], patients=patients,
        sites=[column.texts[i] for i in kept],
    )  # fmt: skip


def _typical(
    vectors: Float32[np.ndarray, "member dim"], member: np.ndarray
) -> Int64[np.ndarray, " example"]:
    """Slides of a group that lie nearest to its mean, as numbers among all slides."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    order = np.argsort(-(vectors.astype(np.float64) * mean).sum(axis=1), kind="stable")
    chosen: Int64[np.ndarray, " example"] = np.flatnonzero(member)[order[:_EXAMPLES]]
    return chosen
