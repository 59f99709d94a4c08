"""Scores of vectors: one tuned probe for all, grouped folds, paired intervals over patients."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

STRENGTHS = 10.0 ** np.arange(-5, 2)
"""C of the logistic regression, chosen for every training set by folds within it."""

BLOCK_WEIGHTS = (0.0, 0.1, 0.3, 1.0)
"""Weight of a second stream beside the first one, chosen likewise."""

Vectors = Float[np.ndarray, "slide dim"]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What the probe said of each slide when its fold was held out.

    Attributes:
        logit: decision value, one a slide.
        fold: in which fold it was held out.
        labels, groups: one a slide.
    """

    logit: Float64[np.ndarray, " slide"]
    fold: Int64[np.ndarray, " slide"]
    labels: Int64[np.ndarray, " slide"]
    groups: Int64[np.ndarray, " slide"]

    @property
    def pooled(self) -> float:
        """AUC over all slides at once."""
        return auc(self.labels, self.logit)

    @property
    def fold_mean(self) -> float:
        """Mean AUC of the folds that hold both classes."""
        found = [
            auc(self.labels[self.fold == f], self.logit[self.fold == f]) for f in set(self.fold)
        ]
        return float(np.nanmean(found))


def auc(labels: np.ndarray, logit: np.ndarray) -> float:
    """Area under the ROC curve; NaN where one class is missing."""
    return float(roc_auc_score(labels, logit)) if 0 < labels.mean() < 1 else float("nan")


def probe(
    vectors: Vectors, labels: np.ndarray, groups: np.ndarray, *, seed: int = 0,
    first_block: int | None = None,
) -> Scores:  # fmt: skip
    """Held-out decision values of a logistic regression on scaled vectors, groups kept together.

    C is chosen by log loss over inner grouped folds of the training part, anew in each fold; with
    ``first_block``, the width of a first stream, so is the weight of the columns behind it.
    """
    logit, where = np.zeros(len(labels)), np.zeros(len(labels), np.int64)
    outer = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for number, fold in enumerate(outer.split(vectors, labels, groups)):
        logit[fold[1]] = held_out(
            vectors, labels, groups, fold=fold, seed=seed, first_block=first_block
        )
        where[fold[1]] = number
    return Scores(logit=logit, fold=where, labels=labels, groups=groups)


def held_out(
    vectors: Vectors, labels: np.ndarray, groups: np.ndarray, *,
    fold: tuple[np.ndarray, np.ndarray], seed: int = 0, first_block: int | None = None,
) -> Float64[np.ndarray, " test"]:  # fmt: skip
    """Decision values of the second rows of a fold by the probe fitted on the first ones."""
    train, test = fold
    choices = []
    for weight in (1.0,) if first_block is None else BLOCK_WEIGHTS:
        column = _column_weights(vectors.shape[1], first_block, weight)
        scaled = _scaled(vectors[train], vectors[test], column)
        choices.append((*_best(scaled[0], labels[train], groups[train], seed=seed), scaled))
    _, strength, scaled = min(choices, key=lambda choice: choice[0])
    logit: Float64[np.ndarray, " test"]
    logit = _fit(scaled[0], labels[train], strength).decision_function(scaled[1])
    return logit


def _column_weights(width: int, first_block: int | None, weight: float) -> np.ndarray:
    if first_block is None:
        return np.ones(width)
    # blocks of like weight whatever their widths
    return np.concatenate(
        [
            np.ones(first_block),
            np.full(width - first_block, weight * (first_block / (width - first_block)) ** 0.5),
        ]
    )


def _scaled(
    train: np.ndarray, test: np.ndarray, column: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    train, test = train.astype(np.float64), test.astype(np.float64)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    # a column that hardly varies in training would blow up what it does in the test part
    scale = np.where(deviation > 1e-6 * (np.abs(mean) + 1e-6), deviation, np.inf)
    train, test = (train - mean) / scale * column, (test - mean) / scale * column
    # the same model in as many columns as there are slides, when vectors are wider
    if train.shape[1] > len(train):
        _, _, axes = np.linalg.svd(train, full_matrices=False)
        train, test = train @ axes.T, test @ axes.T
    return train, test


def _best(
    train: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, seed: int
) -> tuple[float, float]:
    """The lowest log loss of the inner folds, and the C that gives it."""
    inner = list(
        StratifiedGroupKFold(3, shuffle=True, random_state=seed).split(train, labels, groups)
    )
    losses = [
        np.nanmean([_loss(train, labels, fold=fold, strength=strength) for fold in inner])
        for strength in STRENGTHS
    ]
    best = int(np.argmin(losses))
    return float(losses[best]), float(STRENGTHS[best])


def _loss(
    train: np.ndarray, labels: np.ndarray, *, fold: tuple[np.ndarray, np.ndarray], strength: float
) -> float:
    kept, out = fold
    if len(set(labels[kept])) < 2:
        return float("nan")
    logit = _fit(train[kept], labels[kept], strength).decision_function(train[out])
    sign = 2 * labels[out] - 1
    return float(np.logaddexp(0, -sign * logit).mean())


def _fit(train: np.ndarray, labels: np.ndarray, strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=300, tol=1e-3).fit(train, labels)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A difference of AUCs with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def difference(
    ours: Sequence[Scores], theirs: Sequence[Scores], *, draws: int = 1000, seed: int = 0
) -> Interval:
    """Pooled AUC of ours minus theirs, mean over seeds; groups are drawn anew, seeds too.

    Both sides of a draw hold the same slides. Draws without both classes are left out.
    """
    rng = np.random.default_rng(seed)
    value = float(np.mean([a.pooled - b.pooled for a, b in zip(ours, theirs, strict=True)]))
    found = [_drawn_difference(ours, theirs, rng) for _ in range(draws)]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Interval(value=value, low=float(low), high=float(high))


def drawn_interval(runs: Sequence[Scores], *, draws: int = 1000, seed: int = 0) -> Interval:
    """Pooled AUC, mean over seeds, drawn as in ``difference``."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(draws):
        drawn = [runs[index] for index in rng.integers(len(runs), size=len(runs))]
        rows = [rows_of_groups(run.groups, rng) for run in drawn]
        found.append(
            np.mean([auc(run.labels[r], run.logit[r]) for run, r in zip(drawn, rows, strict=True)])
        )
    low, high = np.nanquantile(found, [0.025, 0.975])
    value = float(np.mean([run.pooled for run in runs]))
    return Interval(value=value, low=float(low), high=float(high))


def _drawn_difference(
    ours: Sequence[Scores], theirs: Sequence[Scores], rng: np.random.Generator
) -> float:
    found = []
    for index in rng.integers(len(ours), size=len(ours)):
        a, b = ours[index], theirs[index]
        drawn = rows_of_groups(a.groups, rng)
        labels = a.labels[drawn]
        found.append(auc(labels, a.logit[drawn]) - auc(labels, b.logit[drawn]))
    return float(np.nanmean(found)) if not np.isnan(found).all() else float("nan")


def rows_of_groups(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of as many groups as there are, drawn with replacement."""
    names, inverse = np.unique(groups, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
    return np.concatenate([parts[k] for k in rng.integers(len(names), size=len(names))])
