"""How the vectors of a training lie: rank, spread, collapse, and whether like lies near like."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64

from gigassl.representation import (
    FEWEST,
    HIGHEST_COSINE,
    LOWEST_RANK,
    alignment,
    collapse_level,
    effective_rank,
    mean_cosine,
    uniformity,
)

NEIGHBOURS = 10


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How the vectors of two views of many slides (or tiles) lie (see ``gigassl.representation``).

    Attributes:
        n_rows: rows measured.
        collapse: 0 where unit vectors fill the sphere, 1 where they are one point.
        effective_rank: of the rows' centred vectors.
        mean_cosine: over all pairs of rows.
        alignment: mean squared distance of a row's two views; 0 is best.
        uniformity: lower is better.
    """

    n_rows: int
    collapse: float
    effective_rank: float
    mean_cosine: float
    alignment: float
    uniformity: float

    @property
    def collapsed(self) -> bool:
        """Whether the vectors tell rows apart no more: not finite, one point, or on one line."""
        values = (self.collapse, self.effective_rank, self.mean_cosine)
        on_a_line = self.n_rows >= FEWEST and self.effective_rank < LOWEST_RANK
        return not np.isfinite(values).all() or self.mean_cosine > HIGHEST_COSINE or on_a_line


def geometry(
    first: Float32[np.ndarray, "row width"], second: Float32[np.ndarray, "row width"]
) -> Geometry:
    """Measures the vectors of two views of the same slides or tiles, at least two."""
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        nan = float("nan")
        return Geometry(
            n_rows=len(first), collapse=nan, effective_rank=nan, mean_cosine=nan, alignment=nan,
            uniformity=nan,
        )  # fmt: skip
    both = _unit(first) + _unit(second)
    return Geometry(
        n_rows=len(first),
        collapse=collapse_level(both),
        effective_rank=effective_rank(both - both.mean(axis=0)),
        mean_cosine=mean_cosine(both),
        alignment=alignment(first, second),
        uniformity=uniformity(both),
    )


def _unit(vectors: Float32[np.ndarray, "row width"]) -> Float32[np.ndarray, "row width"]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: Float32[np.ndarray, "row width"] = vectors / np.maximum(
        length, np.finfo(np.float32).tiny
    )
    return units


def knn_accuracy(
    vectors: Float32[np.ndarray, "row width"], *, labels: Int64[np.ndarray, " row"],
    patient: Int64[np.ndarray, " row"], k: int | None = None,
) -> float | None:  # fmt: skip
    """Share of rows whose label most of the k nearest rows of *other* patients have.

    By cosine; a tie goes to the nearer neighbours. None where no row has a neighbour.

    Args:
        k: None takes 10, and fewer where there are under 100 rows: of a dozen, the ten nearest
            are nearly all others, among whom a slide's own class is always the rarer.
    """
    k = min(NEIGHBOURS, math.isqrt(len(vectors))) if k is None else k
    units = torch.from_numpy(_unit(vectors))
    same = torch.from_numpy(patient[:, None] == patient[None, :])
    cosine = (units @ units.T).masked_fill_(same, -torch.inf)
    k = min(k, len(cosine) - 1)
    if k < 1 or same.all():
        return None
    found, nearest = cosine.topk(k, dim=1)
    classes = torch.from_numpy(labels)
    # each neighbour counts 1, a little more the nearer it is
    weight = torch.where(found.isfinite(), 1.0 + 1e-3 * found, 0.0)
    votes = torch.zeros(len(cosine), int(labels.max()) + 1)
    votes.scatter_add_(1, classes[nearest], weight)
    has_neighbour = found[:, 0].isfinite()
    return float((votes.argmax(dim=1) == classes)[has_neighbour].double().mean())


def label_numbers(
    labels: Sequence[str | None],
) -> tuple[Int64[np.ndarray, " row"], tuple[str, ...]]:
    """Labels as numbers of sorted classes; -1 where there is none.

    >>> label_numbers(["b", None, "a", "b"])[0].tolist()
    [1, -1, 0, 1]
    """
    classes = tuple(sorted({label for label in labels if label is not None}))
    number = {name: i for i, name in enumerate(classes)}
    return np.array([-1 if x is None else number[x] for x in labels], dtype=np.int64), classes
