"""Estimates: one score of predictions, or a paired difference of two, with its interval."""

from dataclasses import dataclass, replace

import numpy as np

from gigassl.evaluate.blocks import make_blocks
from gigassl.evaluate.bootstrap import BootstrapSettings, Resampled, interval, resample
from gigassl.evaluate.metrics import Metric
from gigassl.evaluate.predictions import Predictions
from gigassl.evaluate.task import Task


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number and its interval, from the bootstrap over patients."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Estimator:
    """One metric, as the mean over folds, of predictions of one method on every slide of a task.

    Unlike in a comparison, the predictions of a difference may come from different folds: draws of
    patients are the same for all predictions of the task.
    """

    def __init__(self, task: Task, metric: Metric, *, settings: BootstrapSettings) -> None:
        number = {name: k for k, name in enumerate(sorted(set(task.patient_ids)))}
        pairs = zip(task.slide_ids, task.patient_ids, strict=True)
        self._patient = {slide: number[patient] for slide, patient in pairs}
        self._metric, self._settings = metric, settings
        self._n_patients = len(number)

    def value(self, predictions: Predictions) -> Estimate:
        """The metric of some predictions."""
        found = self._resampled(predictions)
        return self._estimate(found.mean, found.fold_mean)

    def difference(self, first: Predictions, second: Predictions) -> Estimate:
        """The metric of the first less that of the second, paired by patients."""
        one, other = self._resampled(first), self._resampled(second)
        return self._estimate(one.mean - other.mean, one.fold_mean - other.fold_mean)

    def _resampled(self, predictions: Predictions) -> Resampled:
        (block,) = make_blocks([predictions])
        # numbered by name, not in the order of the folds, so that draws can be paired
        patients = np.array([self._patient[slide] for slide in block.slide_ids], dtype=np.int64)
        numbered = replace(block, patients=patients)
        (found,) = resample(numbered, [self._metric], settings=self._settings).values()
        return found

    def _estimate(self, value: float, draws: np.ndarray) -> Estimate:
        low, high = interval(draws, n_patients=self._n_patients, alpha=self._settings.alpha)
        return Estimate(value=value, low=low, high=high)
