"""Probes without training: k nearest neighbours by cosine, and nearest class means."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from gigassl.evaluate.fitted_probe import FittedProbe, unit_rows
from gigassl.evaluate.probe_data import ProbeData
from gigassl.evaluate.task import Task


def fit_neighbours(data: ProbeData, trains: Sequence[Int64[np.ndarray, " _"]]) -> list[FittedProbe]:
    """K nearest neighbours: shares of their classes, or the mean of their values."""
    return [_neighbours(data, train) for train in trains]


def _neighbours(data: ProbeData, train: Int64[np.ndarray, " train"]) -> FittedProbe:
    centre, factors = _columns(data, train)
    return FittedProbe(
        method="knn",
        unit_norm=data.settings.scaling_used == "l2",
        centre=centre,
        factors=factors,
        coefficients=unit_rows((data.rows[train] - centre) * factors),
        intercepts=np.zeros(len(train)),
        votes=_votes(data.task.rows(train)),
        neighbours=data.settings.neighbours,
    )


def _columns(
    data: ProbeData, train: Int64[np.ndarray, " train"]
) -> tuple[Float64[np.ndarray, " dim"], Float64[np.ndarray, " dim"]]:
    """The cosine is of the vectors as they are, unless they are to be standardised."""
    centre, factors = data.columns(train)
    return (centre if data.settings.scaling_used == "standard" else np.zeros_like(centre)), factors


def _votes(part: Task) -> Float64[np.ndarray, "row choice"]:
    if part.kind == "regression":
        return part.target[:, None]
    return np.asarray(np.eye(len(part.classes))[part.labels])


def fit_prototypes(data: ProbeData, trains: Sequence[Int64[np.ndarray, " _"]]) -> list[FittedProbe]:
    """Nearest class mean of centred vectors of length 1 (SimpleShot, Wang et al. 2019, CL2N)."""
    return [_prototypes(data, train) for train in trains]


def _prototypes(data: ProbeData, train: Int64[np.ndarray, " train"]) -> FittedProbe:
    centre, factors = data.columns(train)
    units = unit_rows((data.rows[train] - centre) * factors)
    labels, count = data.task.labels[train], len(data.task.classes)
    held = np.eye(count)[labels]
    size = held.sum(axis=0)
    return FittedProbe(
        method="prototype",
        unit_norm=data.settings.scaling_used == "l2",
        centre=centre,
        factors=factors,
        coefficients=held.T @ units / np.maximum(size, 1)[:, None],
        intercepts=np.where(size > 0, 0.0, -np.inf),
    )
