"""What a probe learns from: rows, task, settings; columns and folds as a training set sees them."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.probe_settings import BLOCK_WEIGHTS, ProbeSettings
from gigassl.evaluate.splits import grouped_folds, strata_of
from gigassl.evaluate.task import Task


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeData:
    """Vectors of a task's slides, and how they are to be read.

    Attributes:
        rows: one a slide of the task, of length 1 where the settings say so.
        task: what is predicted.
        settings: of the probe.
        seed: of the inner folds.
        first_block: width of a first stream; None: one stream.
    """

    rows: Float64[np.ndarray, "slide dim"]
    task: Task
    settings: ProbeSettings
    seed: int = 0
    first_block: int | None = None

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the second stream to choose among; a given strength leaves columns alone."""
        dim = self.rows.shape[1]
        whole = self.first_block is None or self.first_block >= dim
        return (1.0,) if whole or self.settings.strength is not None else BLOCK_WEIGHTS

    def block_factors(self, weight: float) -> Float64[np.ndarray, " dim"]:
        """Factors of the columns: streams of like size whatever their widths, times the weight."""
        dim, first = self.rows.shape[1], self.first_block
        if first is None or len(self.weights) == 1:
            return np.ones(dim)
        second = weight * (first / (dim - first)) ** 0.5
        return np.concatenate([np.ones(first), np.full(dim - first, second)])

    def columns(
        self, train: Int64[np.ndarray, " train"]
    ) -> tuple[Float64[np.ndarray, " dim"], Float64[np.ndarray, " dim"]]:
        """Centre of the columns in training, and what each is multiplied with: 1 or 1 / deviation.

        A column that hardly varies in training is dropped (0): divided by its deviation, it would
        blow up what it does elsewhere.
        """
        rows = self.rows[train]
        centre = rows.mean(axis=0)
        if self.settings.scaling_used != "standard":
            return centre, np.ones_like(centre)
        deviation = rows.std(axis=0)
        varies = deviation > 1e-6 * (np.abs(centre) + 1e-6)
        return centre, np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0)

    def inner_parts(self, train: Int64[np.ndarray, " train"]) -> list[Bool[np.ndarray, " train"]]:
        """Which training rows each inner fold holds out; none where a class has one patient only.

        Patients stay whole. There are at most as many folds as the smallest class (or the event)
        has patients, so that what is learned from has seen every class.
        """
        part = self.task.rows(train)
        folds = min(self.settings.inner_folds, _fewest_patients(part))
        if folds < 2:
            return []
        number = grouped_folds(strata_of(part), part.patient_ids, folds=folds, seed=self.seed)
        return [number == fold for fold in range(folds)]

    def no_choice(self) -> SettingsError:
        """What to say where a training set is too small to choose in."""
        return SettingsError(
            f"task '{self.task.name}': the strength of a probe cannot be chosen in a training set "
            "in which a class (or the event) has a single patient; give the strength, or take "
            "the preset giga-ssl"
        )


def _fewest_patients(part: Task) -> int:
    """Patients of the smallest class; with events; or all, where there are no classes."""
    if part.kind == "regression":
        return len(set(part.patient_ids))
    patients: dict[float, set[str]] = defaultdict(set)
    for patient, kind in zip(part.patient_ids, _kinds(part).tolist(), strict=True):
        patients[kind].add(patient)
    return len(patients[True]) if part.event is not None else min(map(len, patients.values()))


def _kinds(part: Task) -> Float64[np.ndarray, " slide"]:
    return part.target if part.event is None else part.event.astype(np.float64)


def choice_of(losses: Float64[np.ndarray, " choice"]) -> int:
    """The lowest loss, the first of equal ones; losses that could not be computed do not count."""
    return int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))
