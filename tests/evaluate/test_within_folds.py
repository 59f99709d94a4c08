"""Statistics inside folds: against slow obvious versions, and their p against shuffled labels."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm, spearmanr
from sklearn.metrics import roc_auc_score

from gigassl.evaluate.screening import Inputs, screen_tasks
from gigassl.evaluate.significance import benjamini_hochberg
from gigassl.evaluate.task import Task
from gigassl.evaluate.within_folds import correlation_interval, ordered_classes, ordered_values


def pairs_in_order(positive: np.ndarray, score: np.ndarray, fold: np.ndarray) -> float:
    rows = range(len(score))
    pairs = [
        (i, j) for i, j in product(rows, rows) if positive[i] > positive[j] and fold[i] == fold[j]
    ]
    return float(np.mean([(score[i] > score[j]) + (score[i] == score[j]) / 2 for i, j in pairs]))


@pytest.mark.parametrize("seed", range(5))
def test_the_auc_counts_pairs_of_one_fold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive, score = rng.random(40) < 0.3, rng.integers(0, 6, 40).astype(float)
    fold = rng.integers(0, 3, 40)
    found = ordered_classes(positive, score, fold)
    assert found.value == pytest.approx(pairs_in_order(positive, score, fold))
    low, high = found.interval()
    assert low < found.value < high
    single = ordered_classes(positive, score, np.zeros(40, np.int64))
    assert single.value == pytest.approx(roc_auc_score(positive, score))


def test_the_influence_is_what_leaving_a_patient_out_does() -> None:
    rng = np.random.default_rng(0)
    positive, score = rng.random(300) < 0.4, rng.normal(size=300)
    score[positive] += 0.7
    fold = rng.integers(0, 3, 300)
    found = ordered_classes(positive, score, fold)
    left_out = np.array(
        [
            ordered_classes(*(np.delete(v, k) for v in (positive, score, fold))).value
            for k in range(300)
        ]
    )
    np.testing.assert_allclose(found.value - left_out, found.influence, atol=3e-4)


def test_one_fold_of_values_is_spearman() -> None:
    rng = np.random.default_rng(0)
    target, score = rng.normal(size=50), rng.integers(0, 9, 50).astype(float)
    found = ordered_values(target, score, np.zeros(50, np.int64))
    assert found.value == pytest.approx(spearmanr(target, score).statistic)
    low, high = correlation_interval(found.value, 50)
    assert low < found.value < high


def test_what_orders_nothing_is_no_finding() -> None:
    fold = np.array([0, 0, 1, 1])
    flat = ordered_classes(np.array([True, False, True, False]), np.zeros(4), fold)
    assert (flat.value, flat.p) == (0.5, 1.0)
    apart = ordered_classes(np.array([True, True, False, False]), np.arange(4.0), fold)
    assert np.isnan(apart.value)
    assert np.isnan(ordered_values(np.zeros(4), np.arange(4.0), fold).value)


def shuffled_z(kind: str, *, n: int, share: float, strength: float) -> np.ndarray:
    """z of 300 targets that have nothing to do with the vectors."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(n, 40)) * np.arange(1, 41) ** -0.6
    ids = tuple(f"s{k:04d}" for k in range(n))
    fold, tasks = rng.permutation(n) % 5, []
    for number in range(300):
        target = np.zeros(n)
        target[rng.permutation(n)[: round(share * n)]] = 1
        values = target if kind == "classification" else rng.normal(size=n)
        classes = ("0", "1") if kind == "classification" else ()
        tasks.append(
            Task(
                name=str(number), kind=kind, slide_ids=ids, patient_ids=ids, sites=("",) * n,  # type: ignore[arg-type]
                classes=classes, target=values,
            )
        )  # fmt: skip
    inputs = Inputs(slide_ids=ids, rows=rows, strengths=np.full(40, strength))
    found = []
    for each in screen_tasks(inputs, tasks, fold):
        target = tasks[each.number].target
        if kind == "classification":
            found.append(ordered_classes(target > 0, each.output[:, 1], fold).p)
        else:
            found.append(ordered_values(target, each.output[:, 0], fold).p)
    return np.asarray(norm.isf(found))


@pytest.mark.parametrize(
    ("kind", "n", "share", "strength"),
    [
        ("classification", 120, 0.4, 1e-3),
        ("classification", 300, 0.05, 1e-3),
        ("classification", 120, 0.4, 1.0),
        ("regression", 120, 0.5, 1e-3),
    ],
)
def test_p_of_shuffled_labels_is_valid_and_not_wasteful(
    kind: str, n: int, share: float, strength: float
) -> None:
    z = shuffled_z(kind, n=n, share=share, strength=strength)
    # 300 draws: a standard normal's deviation lies within 0.92 and 1.08, its mean within 0.12
    assert 0.75 < z.std() < 1.08
    assert abs(z.mean()) < 0.15
    assert (z > norm.isf(0.05)).mean() < 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / 300)
    # of hundreds of targets without an effect none is found
    assert benjamini_hochberg(np.asarray(norm.sf(z))).min() > 0.05
    # without the factor two the same targets would be found far too often
    assert (np.sqrt(2) * z > norm.isf(0.05)).mean() > 0.075
