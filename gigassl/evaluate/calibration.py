"""Calibration: probabilities made to mean what they say, and how far they do."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.optimize import minimize
from scipy.special import log_softmax

_SMALLEST = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Logarithms of probabilities times a slope, plus an offset of each class.

    Attributes:
        slope: below 1 where the probe was too sure.
        offsets: of the classes; the first is 0.
    """

    slope: float
    offsets: Float64[np.ndarray, " class"]

    def apply(
        self, probabilities: Float64[np.ndarray, "row class"]
    ) -> Float64[np.ndarray, "row class"]:
        """The probabilities as they should have been."""
        logits = self.slope * _logs(probabilities) + self.offsets
        mended: Float64[np.ndarray, "row class"] = np.exp(log_softmax(logits, axis=1))
        return mended


def fit_calibration(
    labels: Int64[np.ndarray, " row"], probabilities: Float64[np.ndarray, "row class"]
) -> Calibration:
    """Platt scaling of out-of-fold predictions; of several classes its softmax counterpart.

    Targets are smoothed as Platt does (Advances in Large Margin Classifiers, 1999), so that classes
    without overlap do not give probabilities of 0 and 1. Order is kept: the slope is not negative.
    """
    n_classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=n_classes)
    targets = np.repeat(1 / (counts[labels] + n_classes)[:, None], n_classes, axis=1)
    targets[np.arange(len(labels)), labels] *= counts[labels] + 1
    logs = _logs(probabilities)

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        said = log_softmax(point[0] * logs + np.append(0, point[1:]), axis=1)
        miss = (np.exp(said) - targets) / len(labels)
        slope = np.append((miss * logs).sum(), miss[:, 1:].sum(axis=0))
        return -float((targets * said).sum()) / len(labels), slope

    start = np.append(1.0, np.zeros(n_classes - 1))
    bounds = [(0.0, None)] + [(None, None)] * (n_classes - 1)
    end = minimize(
        loss, start, jac=True, bounds=bounds, method="L-BFGS-B",
        options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 10_000},
    )  # fmt: skip
    return Calibration(slope=float(end.x[0]), offsets=np.append(0.0, end.x[1:]))


@dataclass(frozen=True, kw_only=True)
class CalibrationFit:
    """How far probabilities of two classes mean what they say (Van Calster et al. 2019).

    Attributes:
        slope: of a logistic regression on the logits; 1 is right, below: too sure. NaN where the
            classes do not overlap.
        intercept: of one whose slope is fixed at 1; 0 is right, above: too low.
    """

    slope: float
    intercept: float


def calibration_fit(
    labels: Int64[np.ndarray, " row"], probability: Float64[np.ndarray, " row"]
) -> CalibrationFit:
    """Slope and intercept of the probability of the second of two classes."""
    if len(np.unique(labels)) < 2:
        return CalibrationFit(slope=math.nan, intercept=math.nan)
    clipped = np.clip(probability, _SMALLEST, 1 - _SMALLEST)
    logits = np.log(clipped) - np.log1p(-clipped)
    apart = np.ptp(logits) == 0 or _are_apart(labels, logits)
    columns = np.stack([np.ones_like(logits), logits], axis=1)
    slope = math.nan if apart else float(_logistic(columns, labels, np.zeros_like(logits))[1])
    intercept = float(_logistic(columns[:, :1], labels, logits)[0])
    return CalibrationFit(slope=slope, intercept=intercept)


def _are_apart(labels: np.ndarray, logits: np.ndarray) -> bool:
    ones, zeros = logits[labels == 1], logits[labels == 0]
    return bool(ones.min() >= zeros.max() or zeros.min() >= ones.max())


def _logistic(
    columns: Float64[np.ndarray, "row column"], labels: Int64[np.ndarray, " row"],
    offset: Float64[np.ndarray, " row"],
) -> Float64[np.ndarray, " column"]:  # fmt: skip
    """Coefficients without penalty, beside a fixed offset."""

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        logits = columns @ point + offset
        said = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
        value = float(np.logaddexp(0, logits).sum() - logits[labels == 1].sum())
        return value / len(labels), columns.T @ (said - labels) / len(labels)

    found = minimize(loss, np.zeros(columns.shape[1]), jac=True, method="BFGS",
                     options={"gtol": 1e-9})  # fmt: skip
    return np.asarray(found.x, dtype=np.float64)


def _logs(probabilities: Float64[np.ndarray, "row class"]) -> Float64[np.ndarray, "row class"]:
    logs: np.ndarray = np.log(np.clip(probabilities, _SMALLEST, 1.0))
    return logs
