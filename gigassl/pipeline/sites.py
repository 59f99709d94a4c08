"""Sites: how much of the hospital is in vectors, and what a target loses on whole sites."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gigassl.errors import SettingsError
from gigassl.evaluate.bootstrap import BootstrapSettings
from gigassl.evaluate.estimates import Estimate, Estimator
from gigassl.evaluate.leaks import leak_table
from gigassl.evaluate.metrics import Metric, chosen_metric
from gigassl.evaluate.predictions import Predictions, joined, save_predictions
from gigassl.evaluate.probes import DEFAULT_METHODS, ProbeSettings, run_probe, vectors_of_task
from gigassl.evaluate.sites import RobustnessIndex, robustness_index, site_task, with_site
from gigassl.evaluate.split import Split
from gigassl.evaluate.splits import Scheme, make_splits
from gigassl.evaluate.task import Task
from gigassl.evaluate.vector_set import VectorSet
from gigassl.pipeline.evaluation import Question, TaskOptions, question
from gigassl.pipeline.output import claimed
from gigassl.pipeline.vector_sets import open_vector_set
from gigassl.versions import installed_version

GROUPED: Scheme = "patient-kfold"
PRESERVED: Scheme = "site-preserved"


@dataclass(frozen=True, kw_only=True)
class SiteSettings:
    """What is measured.

    Attributes:
        neighbours: of each slide, for the robustness index.
        bootstrap: of the patients, for intervals.
    """

    neighbours: int = 10
    bootstrap: BootstrapSettings = field(default_factory=BootstrapSettings)


@dataclass(frozen=True, kw_only=True, eq=False)
class SitesResult:
    """How much of the site is in vectors.

    Attributes:
        name: of the vectors.
        sites: that are told apart, with the slides of each.
        left_out: slides of sites with fewer patients than folds.
        site_accuracy: balanced accuracy of a probe that tells the site, on folds of patients.
        site_auc: macro AUC of the same.
        robustness: neighbours by biology and by site; None where the target has no classes.
        metric: of the target, its mean over folds.
        grouped, preserved: of the target, on folds of patients and on folds of whole sites.
        drop: the first less the second, paired.
        asked: the task with its notes.
        leaks: what must be known of the folds of whole sites.
        out: file of the target's predictions, if wanted.
    """

    name: str
    sites: Mapping[str, int]
    left_out: int
    site_accuracy: Estimate
    site_auc: Estimate
    robustness: RobustnessIndex | None
    metric: Metric
    grouped: Estimate
    preserved: Estimate
    drop: Estimate
    asked: Question
    leaks: str
    out: Path | None
    failures: tuple[str, ...] = ()
    interrupted: bool = False

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        return {
            "vectors": self.name,
            "task": self.asked.task.name,
            "sites": dict(self.sites),
            "slides_of_small_sites": self.left_out,
            "site": {
                "balanced_accuracy": _plain(self.site_accuracy),
                "chance": 1 / len(self.sites),
                "auc": _plain(self.site_auc),
            },
            "robustness": None if self.robustness is None else _plain(self.robustness),
            "target": {
                "metric": self.metric.name,
                GROUPED: _plain(self.grouped),
                PRESERVED: _plain(self.preserved),
                "drop": _plain(self.drop),
            },
            "notes": list(self.asked.notes),
            "out": None if self.out is None else str(self.out),
        }

    def sentence(self) -> str:
        """What was measured, in words."""
        small = f" ({self.left_out} slides of smaller sites left out)" * (self.left_out > 0)
        site = (
            f"{self.name}: telling {len(self.sites)} sites of {sum(self.sites.values())} slides"
            f"{small}, folds of patients: balanced accuracy {self.site_accuracy} (chance "
            f"{1 / len(self.sites):.3f}), macro AUC {self.site_auc}"
        )
        target = (
            f"{self.asked.task.name}: {self.metric.title} {self.grouped} on folds of patients, "
            f"{self.preserved} on folds of whole sites; drop {self.drop} (means over folds; "
            "intervals by bootstrap over patients, models as trained)"
        )
        lines = [*self.asked.notes, self.leaks, "", site, self._robustness(), target]
        if self.out is not None:
            lines.append(f"predictions in {self.out}")
        return "\n".join(lines)

    def _robustness(self) -> str:
        found = self.robustness
        if found is None:
            return "robustness index: only for targets with classes"
        return (
            f"{found.neighbours} nearest slides of other patients: robustness index "
            f"{found.index:.3f} (same class and other site, against same site and other class; "
            f"by chance {found.index_by_chance:.3f}); same class for each same site "
            f"{found.ratio:.2f} (by chance {found.ratio_by_chance:.2f})"
        )


def sites(
    vectors: Path, out: Path | None = None, *, options: TaskOptions,
    probe: ProbeSettings | None = None, settings: SiteSettings | None = None,
) -> SitesResult:  # fmt: skip
    """Measures the site in vectors, and a target on folds of patients and of whole sites.

    Args:
        vectors: table of ``gigassl embed`` or ``import-vectors``.
        out: Parquet file for the target's predictions on both kinds of folds.
        options: the target; the site is a column, or the TCGA barcode's; folds, repeats and seed.
        probe: of the target; the site is told by logistic regression.
        settings: neighbours and intervals.

    Raises:
        SettingsError: as ``question``; no sites, or too few for the folds.
    """
    settings = settings or SiteSettings()
    read, patients = open_vector_set(vectors)
    asked = question(options, available=patients)
    task = with_site(asked.task)
    told = site_task(task, min_patients=options.split.folds)
    chosen = probe or ProbeSettings(method=DEFAULT_METHODS[task.kind])
    chosen.refuse(task.kind)
    splits = {name: _splits(task, options, name) for name in (GROUPED, PRESERVED)}
    leaks = leak_table(task, [split for part in splits.values() for split in part])
    if leaks.missing_in_training():
        raise SettingsError(
            f"task '{task.name}': {leaks.missing_in_training()}, since some sites hold all of it; "
            "merge or leave out small classes, or ask for other folds"
        )
    seed = options.split.seed
    site = _predicted(told, read, _splits(told, options, GROUPED), probe=ProbeSettings(), seed=seed)
    tables = {
        name: _predicted(task, read, part, probe=chosen, seed=seed) for name, part in splits.items()
    }
    if out is not None:
        both = [table.data for table in tables.values()]
        with claimed(out):
            save_predictions(joined(task.kind, both, provenance=tables[GROUPED].provenance), out)
    metric = chosen_metric(task.kind, None)
    of_target = Estimator(task, metric, settings=settings.bootstrap)
    of_site = {
        name: Estimator(told, chosen_metric("classification", name), settings=settings.bootstrap)
        for name in ("balanced_accuracy", "auc")
    }
    return SitesResult(
        name=read.name,
        sites={name: int((told.labels == k).sum()) for k, name in enumerate(told.classes)},
        left_out=len(task) - len(told),
        site_accuracy=of_site["balanced_accuracy"].value(site),
        site_auc=of_site["auc"].value(site),
        robustness=_robustness_of(task, read, settings),
        metric=metric,
        grouped=of_target.value(tables[GROUPED]),
        preserved=of_target.value(tables[PRESERVED]),
        drop=of_target.difference(tables[GROUPED], tables[PRESERVED]),
        asked=asked,
        leaks=leaks.as_text(),
        out=out,
    )


def _splits(task: Task, options: TaskOptions, scheme: Scheme) -> tuple[Split, ...]:
    return make_splits(task, replace(options.split, scheme=scheme))


def _predicted(
    task: Task, vectors: VectorSet, splits: tuple[Split, ...], *, probe: ProbeSettings, seed: int
) -> Predictions:
    rows = run_probe(task, vectors, splits, settings=probe, seed=seed)
    provenance = {
        "vectors": [{"name": vectors.name, "digest": vectors.digest}],
        "probes": [asdict(probe)],
        "versions": {name: installed_version(name) for name in ("gigassl", "numpy", "torch")},
    }
    return joined(task.kind, [rows], provenance=provenance)


def _robustness_of(
    task: Task, vectors: VectorSet, settings: SiteSettings
) -> RobustnessIndex | None:
    if not task.classes:
        return None
    return robustness_index(
        vectors_of_task(task, vectors), classes=task.labels, sites=task.sites,
        patients=task.patient_ids, neighbours=settings.neighbours,
    )  # fmt: skip


def _plain(record: Estimate | RobustnessIndex) -> dict[str, float | None]:
    """The record for JSON, which knows no NaN."""
    return {name: None if np.isnan(value) else value for name, value in asdict(record).items()}
