"""Reliability: how often a class was true where its probability was said to be so high."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.stats import binomtest, rankdata

from gigassl.evaluate.metric_draws import N_BINS


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """The bins of the calibration error, as a reliability diagram shows them.

    Attributes:
        said: mean probability of the rows of each bin.
        share: of them that are of the class.
        low, high: Wilson's 95 % interval of the share, rows taken as independent.
        n: rows of each bin.
    """

    said: Float64[np.ndarray, " bin"]
    share: Float64[np.ndarray, " bin"]
    low: Float64[np.ndarray, " bin"]
    high: Float64[np.ndarray, " bin"]
    n: Int64[np.ndarray, " bin"]

    @property
    def error(self) -> float:
        """Expected calibration error: mean gap between probability and share over the rows."""
        return float((self.n * np.abs(self.said - self.share)).sum() / self.n.sum())


def reliability(
    positive: Bool[np.ndarray, " row"], probability: Float64[np.ndarray, " row"]
) -> Reliability:
    """The bins of the calibration error: equal mass, equal probabilities in one bin.

    Args:
        positive: which rows are of the class.
        probability: of the class, in [0, 1].
    """
    place = (rankdata(probability) - 0.5) / len(probability)
    _, numbers, n = np.unique(
        np.minimum(place * N_BINS, N_BINS - 1).astype(np.int64),
        return_inverse=True,
        return_counts=True,
    )
    hits = np.bincount(numbers[positive], minlength=len(n))
    bounds = [
        binomtest(int(k), int(of)).proportion_ci(method="wilson")
        for k, of in zip(hits, n, strict=True)
    ]
    return Reliability(
        said=np.bincount(numbers, weights=probability) / n,
        share=hits / n,
        low=np.array([each.low for each in bounds], dtype=np.float64),
        high=np.array([each.high for each in bounds], dtype=np.float64),
        n=n.astype(np.int64),
    )
