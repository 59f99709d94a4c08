"""Scores of retrieval: means over queries, with intervals and the level of chance."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.bootstrap import (
    BootstrapSettings,
    mean_of_known,
    patient_counts,
    score_interval,
)
from gigassl.evaluate.retrieval import (
    MEASURES,
    Archive,
    by_chance,
    measured,
    nearest_of_others,
    ties,
)

BALANCED = "balanced"
"""mMV@k as the mean over classes."""

_CELLS = 20_000_000


@dataclass(frozen=True, kw_only=True)
class RetrievalScore:
    """One measure of all queries, or of those of a class.

    Attributes:
        measure: one of ``MEASURES``, or ``BALANCED``.
        of: the class; "" for all.
        low, high: interval by bootstrap over the queries' patients, the archive as it is.
        chance: the same of random rankings.
        best: what a perfect ranking would reach: precision@k stays below 1 where a class has fewer
            than k slides of other patients.
    """

    measure: str
    k: int
    of: str
    value: float
    low: float
    high: float
    chance: float
    best: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Retrieval:
    """All measures of a set of vectors.

    Attributes:
        scores: by k; of all queries, of each class, and the balanced majority.
        ties: k → queries in which several classes were most frequent.
        left_out: values of k with queries that have fewer slides of other patients.
    """

    scores: tuple[RetrievalScore, ...]
    ties: Mapping[int, int]
    left_out: tuple[int, ...]


def retrieval_scores(
    archive: Archive, *, ks: Sequence[int] = (1, 3, 5, 10),
    settings: BootstrapSettings | None = None,
) -> Retrieval:  # fmt: skip
    """Measures how often the nearest slides of other patients share a slide's class.

    Raises:
        SettingsError: a k below 1, or all of them above the slides of other patients.
    """
    settings, others = settings or BootstrapSettings(), archive.others()
    fewest = int(others.sum(axis=1).min())
    kept = [k for k in ks if k <= fewest]
    if not kept or min(ks) < 1:
        raise SettingsError(
            f"k must lie between 1 and {fewest}, the slides of other patients that each slide has "
            f"at least; got {', '.join(map(str, ks))}"
        )
    found = archive.labels[nearest_of_others(archive, k=max(kept))]
    relevant = others[np.arange(len(others)), archive.labels]
    chance = by_chance(archive, others, ks=kept, seed=settings.seed)
    scorer, scores = _Scorer(archive, settings), list[RetrievalScore]()
    for k in kept:
        values = measured(found, archive.labels, k=k, relevant=relevant)
        best = np.minimum(k, relevant) / k
        scores += scorer.scores(values, k=k, chance=chance[k], best=best)
    return Retrieval(
        scores=tuple(scores),
        ties={k: int(ties(found[:, :k]).sum()) for k in kept},
        left_out=tuple(k for k in ks if k > fewest),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """Queries that a score is the mean of: all, or those of a class."""

    of: str
    rows: Int64[np.ndarray, " row"]
    n_patients: int


class _Scorer:
    """Means over queries with their intervals, all on the same draws of patients."""

    def __init__(self, archive: Archive, settings: BootstrapSettings) -> None:
        self._patients, self._settings = archive.patients, settings
        rows = {name: np.flatnonzero(archive.labels == c) for c, name in enumerate(archive.classes)}
        rows = {"": np.arange(len(archive.labels)), **rows}
        self._parts = [
            _Part(of=of, rows=found, n_patients=len(np.unique(self._patients[found])))
            for of, found in rows.items()
        ]

    def scores(
        self, values: Float64[np.ndarray, "slide measure"], *, k: int,
        chance: Float64[np.ndarray, "slide measure"], best: Float64[np.ndarray, " slide"],
    ) -> Iterator[RetrievalScore]:  # fmt: skip
        """Every measure of all queries, then of each class."""
        once = np.ones((1, len(values)))
        means, random = (self._means(each, weights=once)[0] for each in (values, chance))
        draws = self._draws(values)
        for number, part in enumerate(self._parts):
            ideal = float(best[part.rows].mean())
            for column, measure in enumerate(MEASURES):
                yield self._score(
                    float(means[number, column]), draws[:, number, column],
                    part=part, perfect=part.n_patients,
                    facts={
                        "measure": measure, "k": k, "chance": float(random[number, column]),
                        "best": ideal if measure == "precision" else 1.0,
                    },
                )  # fmt: skip
        majority_at = MEASURES.index("majority")
        sizes = [part.n_patients for part in self._parts[1:]]
        yield self._score(
            float(means[1:, majority_at].mean()), mean_of_known(draws[:, 1:, majority_at]),
            part=self._parts[0],
            # near its bound a mean over classes knows as little as the smallest of them
            perfect=len(sizes) ** 2 / sum(1 / size for size in sizes),
            facts={
                "measure": BALANCED, "k": k, "best": 1.0,
                "chance": float(random[1:, majority_at].mean()),
            },
        )  # fmt: skip

    def _score(
        self, value: float, draws: Float64[np.ndarray, " draw"], *, part: _Part, perfect: float,
        facts: Mapping[str, Any],
    ) -> RetrievalScore:  # fmt: skip
        low, high = score_interval(
            draws, estimate=value, bounds=(0.0, 1.0), n_patients=part.n_patients, perfect=perfect,
            alpha=self._settings.alpha,
        )  # fmt: skip
        return RetrievalScore(of=part.of, value=value, low=low, high=high, **facts)

    def _draws(
        self, values: Float64[np.ndarray, "slide measure"]
    ) -> Float64[np.ndarray, "draw part measure"]:
        n_patients, chunk = self._parts[0].n_patients, max(1, _CELLS // len(values))
        each = patient_counts(n_patients, settings=self._settings, chunk=chunk)
        return np.concatenate(
            [self._means(values, weights=counts[:, self._patients]) for counts in each]
        )

    def _means(
        self, values: Float64[np.ndarray, "slide measure"], *,
        weights: Float64[np.ndarray, "some slide"],
    ) -> Float64[np.ndarray, "some part measure"]:  # fmt: skip
        """Of each part, with so much weight on each slide; NaN where a part has none."""
        found = np.full((len(weights), len(self._parts), values.shape[1]), np.nan)
        for number, part in enumerate(self._parts):
            of_part = weights[:, part.rows]
            total = of_part.sum(axis=1, keepdims=True)
            sums = of_part @ values[part.rows]
            np.divide(sums, total, out=found[:, number], where=total > 0)
        return found
