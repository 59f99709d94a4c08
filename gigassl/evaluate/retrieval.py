"""Retrieval: whether the slides nearest to a slide, of other patients, are of its class.

Every slide is a query once. precision@k: share of the k nearest with its class. mMV@k: share of
queries whose class is that of most of the k nearest (Yottixel, Kalra et al. 2020, arXiv 1911.08748;
SISH, Chen et al. 2022, arXiv 2107.13587, which names it so); of classes with equally many, the one
that comes first in the ranking counts. top@k: share of queries with a slide of their class among
the k. mAP@k: mean of (sum of precision@j over the j ≤ k whose slide is of the class) /
min(k, slides of the class there are), as in information retrieval; some papers divide by the
slides of the class among the k, which never gives less.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from gigassl.vectors.search_similarity import MARGIN, exact_similarities

MEASURES = ("precision", "map", "majority", "top")
"""precision@k, mAP@k, mMV@k and top@k, in the order of ``measured``."""
CHANCE_QUERIES = 200_000
"""Random rankings that the level of chance is the mean of: true to ± 0.002."""

_CELLS = 20_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Archive:
    """Slides that are searched and, each in turn, searched for.

    Attributes:
        vectors: of length one.
        labels: class number of each slide.
        patients: number of the patient of each slide, from 0 without gaps.
        classes: names.
    """

    vectors: Float32[np.ndarray, "slide dim"]
    labels: Int64[np.ndarray, " slide"]
    patients: Int64[np.ndarray, " slide"]
    classes: tuple[str, ...]

    def others(self) -> Int64[np.ndarray, "slide class"]:
        """Slides of other patients that each query has of each class."""
        one_hot = np.eye(len(self.classes), dtype=np.int64)[self.labels]
        own = np.zeros((int(self.patients.max()) + 1, len(self.classes)), dtype=np.int64)
        np.add.at(own, self.patients, one_hot)
        others: Int64[np.ndarray, "slide class"] = one_hot.sum(axis=0) - own[self.patients]
        return others


def nearest_of_others(archive: Archive, *, k: int) -> Int64[np.ndarray, "slide k"]:
    """The k nearest slides of other patients of each slide, nearest first.

    Equally near ones in the order of the rows. Each slide must have so many.
    """
    n = len(archive.vectors)
    found = np.empty((n, k), dtype=np.int64)
    step = max(1, _CELLS // n)
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        similar = archive.vectors[rows] @ archive.vectors.T
        similar[archive.patients[rows, None] == archive.patients[None, :]] = -np.inf
        last = np.partition(similar, -k, axis=1)[:, -k, None]
        near = similar >= last - MARGIN
        for row, candidates in zip(rows.tolist(), near, strict=True):
            there = np.flatnonzero(candidates)
            exact = exact_similarities(archive.vectors, archive.vectors[row], rows=there)
            found[row] = there[np.lexsort((there, -exact))[:k]]
    return found


def measured(
    found: Int64[np.ndarray, "query ranks"], own: Int64[np.ndarray, " query"], *, k: int,
    relevant: Int64[np.ndarray, " query"],
) -> Float64[np.ndarray, "query measure"]:  # fmt: skip
    """precision, AP, majority (1 where right) and top of each query, in the order of ``MEASURES``.

    Args:
        found: classes of the nearest slides, nearest first.
        own: class of each query.
        k: how many of them count.
        relevant: slides of the query's class that could be found.
    """
    hits = (found[:, :k] == own[:, None]).astype(np.float64)
    so_far = hits.cumsum(axis=1) / np.arange(1, k + 1)
    possible = np.maximum(np.minimum(k, relevant), 1)
    return np.stack(
        [
            hits.mean(axis=1),
            (so_far * hits).sum(axis=1) / possible,
            majority(found[:, :k]) == own,
            hits.max(axis=1),
        ],
        axis=1,
    )


def majority(found: Int64[np.ndarray, "query k"]) -> Int64[np.ndarray, " query"]:
    """The class of most slides of each row; of equally frequent ones that which comes first."""
    first = _frequency(found).argmax(axis=1)
    voted: Int64[np.ndarray, " query"] = found[np.arange(len(found)), first]
    return voted


def _frequency(found: Int64[np.ndarray, "query k"]) -> Int64[np.ndarray, "query k"]:
    """How often the class at each rank stands in its row."""
    each = [(found == found[:, [rank]]).sum(axis=1) for rank in range(found.shape[1])]
    frequency: Int64[np.ndarray, "query k"] = np.stack(each, axis=1)
    return frequency


def ties(found: Int64[np.ndarray, "query k"]) -> Bool[np.ndarray, " query"]:
    """Rows in which several classes are most frequent."""
    frequency = _frequency(found)
    most = frequency == frequency.max(axis=1, keepdims=True)
    other = found != majority(found)[:, None]
    several: Bool[np.ndarray, " query"] = (most & other).any(axis=1)
    return several


def by_chance(
    archive: Archive, others: Int64[np.ndarray, "slide class"], *, ks: Sequence[int], seed: int
) -> dict[int, Float64[np.ndarray, "slide measure"]]:
    """The measures of each query, mean over random rankings."""
    rng = np.random.default_rng(seed)
    own, n = archive.labels, len(others)
    relevant = others[np.arange(n), own]
    total = {k: np.zeros((n, len(MEASURES))) for k in ks}
    repeats = -(-CHANCE_QUERIES // n)
    at_once = max(1, min(repeats, 20_000 // n))
    done = 0
    while done < repeats:
        many = min(at_once, repeats - done)
        found = _random_classes(np.tile(others, (many, 1)), k=max(ks), rng=rng)
        for k in ks:
            values = measured(found, np.tile(own, many), k=k, relevant=np.tile(relevant, many))
            total[k] += values.reshape(many, n, -1).sum(axis=0)
        done += many
    return {k: values / repeats for k, values in total.items()}


def _random_classes(
    left: Int64[np.ndarray, "query class"], *, k: int, rng: np.random.Generator
) -> Int64[np.ndarray, "query k"]:
    """Classes of k slides of each row drawn without putting back; ``left`` is used up."""
    rows, found = np.arange(len(left)), np.empty((len(left), k), dtype=np.int64)
    for rank in range(k):
        place = rng.random(len(left)) * left.sum(axis=1)
        found[:, rank] = (left.cumsum(axis=1) <= place[:, None]).sum(axis=1)
        left[rows, found[:, rank]] -= 1
    return found
