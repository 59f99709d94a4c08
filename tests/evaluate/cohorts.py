"""Cohorts of known separation, and a small classifier that learns from them."""

from collections.abc import Iterator

import numpy as np

from gigassl.evaluate.split import Split


def centroid_scores(features: np.ndarray, labels: np.ndarray, split: Split) -> np.ndarray:
    """Probabilities of the nearest-centroid direction, learned on the training rows."""
    train = features[split.train], labels[split.train]
    direction = train[0][train[1] == 1].mean(axis=0) - train[0][train[1] == 0].mean(axis=0)
    odds = features[split.test] @ direction
    p: np.ndarray = 1 / (1 + np.exp(-odds))
    return np.stack([1 - p, p], axis=1)


def stratified(
    rng: np.random.Generator, labels: np.ndarray, *, test: float, k: int | None
) -> Iterator[Split]:
    """Hold-out draws (k: None, endless), or the folds of one k-fold; classes balanced."""
    place = np.empty(len(labels))
    while True:
        for y in (0, 1):
            rows = np.flatnonzero(labels == y)
            place[rows] = rng.permutation(len(rows)) / len(rows)
        for fold in range(k or 1):
            tested = (place * k).astype(int) == fold if k else place < test
            yield Split(
                scheme="s", fold=fold, train=np.flatnonzero(~tested), test=np.flatnonzero(tested)
            )
        if k:
            return
