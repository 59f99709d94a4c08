"""The six TCGA tasks of Giga-SSL: what was published of them, and a person's vectors on them.

Numbers: the follow-up's README (five tasks, 10-fold), and the summary files of HIPT, whose test
slides the "full" splits of lung, brca and kidney share. Nothing here was read off a figure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.model_selection import StratifiedKFold

from gigassl.errors import SettingsError
from gigassl.evaluate.labels import read_label_table
from gigassl.evaluate.metrics import auc
from gigassl.evaluate.split import Split
from gigassl.evaluate.splits import SplitSettings
from gigassl.evaluate.task import Task, rows_of
from gigassl.pipeline.evaluation import Question, TaskOptions, question

TASKS = {
    "lung": "LUAD / LUSC",
    "brca": "ductal / lobular",
    "kidney": "clear cell / papillary / chromophobe, one against the rest",
    "mhrd": "homologous recombination deficiency, median split",
    "thrd": "homologous recombination deficiency, outer tertiles",
    "tnbc": "luminal / triple negative",
}

TEN_FOLD: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "moco": {
        "lung": (0.960, 0.016), "brca": (0.924, 0.033), "kidney": (0.983, 0.008),
        "mhrd": (0.793, 0.052), "tnbc": (0.933, 0.026),
    },
    "ctranspath": {
        "lung": (0.974, 0.010), "brca": (0.946, 0.040), "kidney": (0.993, 0.004),
        "mhrd": (0.809, 0.050), "tnbc": (0.942, 0.035),
    },
    "phikon": {
        "lung": (0.977, 0.011), "brca": (0.945, 0.032), "kidney": (0.994, 0.003),
        "mhrd": (0.819, 0.039), "tnbc": (0.939, 0.039),
    },
    "h-optimus-0": {
        "lung": (0.981, 0.010), "brca": (0.943, 0.030), "kidney": (0.992, 0.004),
        "mhrd": (0.834, 0.044), "tnbc": (0.968, 0.020),
    },
    "gigapath": {
        "lung": (0.980, 0.010), "brca": (0.938, 0.034), "kidney": (0.991, 0.005),
        "mhrd": (0.837, 0.048), "tnbc": (0.961, 0.029),
    },
}  # fmt: skip
"""Published vectors (by tile encoder) → task → mean and sd of AUC over the follow-up's 10 folds."""

SUPERVISED: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "MIL": {"brca": (0.778, 0.091), "lung": (0.892, 0.042), "kidney": (0.959, 0.015)},
    "CLAM-SB": {"brca": (0.858, 0.067), "lung": (0.928, 0.021), "kidney": (0.973, 0.017)},
    "DeepAttnMISL": {"brca": (0.784, 0.061), "lung": (0.778, 0.045), "kidney": (0.943, 0.016)},
    "DS-MIL": {"brca": (0.838, 0.074), "lung": (0.920, 0.024), "kidney": (0.971, 0.016)},
    "GCN-MIL": {"brca": (0.840, 0.073), "lung": (0.831, 0.034), "kidney": (0.957, 0.012)},
    "HIPT": {"brca": (0.874, 0.060), "lung": (0.952, 0.021), "kidney": (0.980, 0.013)},
}
"""Method → task → mean and sd (n - 1) of AUC on the "full" splits, all labels (HIPT's table)."""


@dataclass(frozen=True, kw_only=True)
class TcgaTask:
    """One task, as far as there are vectors for its slides.

    Attributes:
        name: of the task.
        published: task and published splits, of the slides that have a vector.
        grouped: the same slides in 10 patient-grouped folds.
        table_order: rows of the task in the order of the published table.
        missing: slides of the published table that have no vector.
        n_slides: of the published table.
    """

    name: str
    published: Question
    grouped: Question
    table_order: tuple[int, ...]
    missing: tuple[str, ...]
    n_slides: int

    @property
    def task(self) -> Task:
        """Slides, patients and classes."""
        return self.published.task

    def sentence(self) -> str:
        """How many slides lack a vector, the first of them by name; empty where none does."""
        if not self.missing:
            return ""
        some = ", ".join(self.missing[:3]) + (" …" if len(self.missing) > 3 else "")
        return f"{self.name}: {len(self.missing)} of {self.n_slides} slides have no vector: {some}"


def tcga_task(name: str, labels: Path, *, available: Mapping[str, str]) -> TcgaTask | None:
    """A task on its published splits; None where no slide of it has a vector.

    Args:
        name: of ``TASKS``.
        labels: folder with ``tables/NAME.csv`` and ``splitdirs/NAME``.
        available: slide_id → patient_id of the slides that have a vector.

    Raises:
        SettingsError: the folder has no such table or splits.
    """
    table, splits = labels / "tables" / f"{name}.csv", labels / "splitdirs" / name
    if not table.is_file() or not splits.is_dir():
        raise SettingsError(
            f"{labels} lacks tables/{name}.csv or splitdirs/{name}; give the folder that holds "
            "the published tables and splits of Giga-SSL"
        )
    names = read_label_table(table).slide_ids or ()
    here = [each for each in names if each in available]
    if not here:
        return None
    options = TaskOptions(labels=table, target="label", name=name)
    found = question(replace(options, splits=splits), available=available)
    grouped = question(replace(options, split=SplitSettings(folds=10)), available=available)
    return TcgaTask(
        name=name,
        published=found,
        grouped=grouped,
        table_order=tuple(rows_of(found.task.slide_ids, here).tolist()),
        missing=tuple(sorted(set(names) - set(here))),
        n_slides=len(names),
    )


@dataclass(frozen=True, kw_only=True)
class Scores:
    """AUC of each split, macro one-vs-rest where there are more than two classes."""

    aucs: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the splits."""
        return float(np.mean(self.aucs))

    @property
    def sd(self) -> float:
        """Standard deviation that divides by n, as Giga-SSL's code does."""
        return float(np.std(self.aucs))

    @property
    def sd_of_sample(self) -> float:
        """Standard deviation that divides by n - 1, as HIPT's summary files do."""
        return float(np.std(self.aucs, ddof=1))


def scores_of(rows: pa.Table, task: Task) -> dict[str, Scores]:
    """Training size → AUC of each of its splits, from a table of predictions."""
    places = rows.select(["train_size", "draw", "fold"]).to_pylist()
    found: dict[str, list[float]] = {}
    for size, draw, fold in dict.fromkeys(tuple(place.values()) for place in places):
        mine = pc.and_(pc.equal(rows["train_size"], size), pc.equal(rows["draw"], draw))
        part = rows.filter(pc.and_(mine, pc.equal(rows["fold"], fold)))
        labels = np.array([task.classes.index(name) for name in part["y_true"].to_pylist()])
        outputs = np.stack([part[f"p_{name}"].to_numpy() for name in task.classes], axis=1)
        found.setdefault(size, []).append(auc(labels, outputs))
    return {size: Scores(aucs=tuple(values)) for size, values in found.items()}


def ten_folds(task: Task, order: np.ndarray) -> tuple[Split, ...]:
    """The follow-up's folds: by slide, stratified, not shuffled, of the slides in some order."""
    rows = order.astype(np.int64)
    folds = StratifiedKFold(10).split(rows, task.labels[rows])
    return tuple(
        Split(scheme="slide-10-fold", fold=k, train=rows[train], test=rows[test])
        for k, (train, test) in enumerate(folds)
    )
