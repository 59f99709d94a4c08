"""Geometry: what collapse looks like, kNN beside a loop, labels as numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.training.geometry import geometry, knn_accuracy, label_numbers


def vectors(n: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 16)).astype(np.float32)


def test_vectors_all_over_the_sphere_are_healthy() -> None:
    found = geometry(vectors(200), vectors(200) + 0.1 * vectors(200, seed=1))
    assert not found.collapsed
    assert found.collapse < 0.1
    assert found.effective_rank > 14
    assert abs(found.mean_cosine) < 0.05
    assert found.alignment < 0.1


@pytest.mark.parametrize(
    "collapsed",
    [
        np.ones((50, 16), dtype=np.float32) + 1e-4 * vectors(50),
        vectors(50)[:, :1] * np.ones(16, dtype=np.float32) + 1e-4 * vectors(50),
        np.zeros((50, 16), dtype=np.float32),
        np.full((50, 16), np.nan, dtype=np.float32),
    ],
    ids=["one point", "one line", "zeros", "nan"],
)
def test_every_kind_of_collapse_is_seen(collapsed: np.ndarray) -> None:
    assert geometry(collapsed, collapsed).collapsed


def by_loop(v: np.ndarray, labels: np.ndarray, patient: np.ndarray, k: int) -> float | None:
    hits = []
    for i in range(len(v)):
        others = [j for j in range(len(v)) if patient[j] != patient[i]]
        if not others:
            continue
        cosine = {j: v[i] @ v[j] / np.linalg.norm(v[i]) / np.linalg.norm(v[j]) for j in others}
        nearest = sorted(others, key=lambda j: -cosine[j])[:k]
        votes: dict[int, float] = {}
        for j in nearest:
            votes[labels[j]] = votes.get(labels[j], 0.0) + 1 + 1e-3 * cosine[j]
        hits.append(max(sorted(votes), key=lambda label: votes[label]) == labels[i])
    return float(np.mean(hits)) if hits else None


@given(
    n=st.integers(2, 25),
    n_patients=st.integers(1, 9),
    k=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_knn_is_what_a_loop_says(n: int, n_patients: int, k: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    v = vectors(n, seed=seed)
    labels, patient = generator.integers(0, 3, n), generator.integers(0, n_patients, n)
    ours = knn_accuracy(v, labels=labels, patient=patient, k=k)
    assert ours == by_loop(v, labels, patient, k)


def test_a_slides_own_patient_is_no_neighbour() -> None:
    # two slides of each patient are alike, and no two patients are
    v = np.repeat(np.eye(8, 16, dtype=np.float32), 2, axis=0) + 0.01
    patient = np.repeat(np.arange(8), 2)
    labels = np.repeat(np.arange(8), 2)  # each patient a class of its own
    assert knn_accuracy(v, labels=labels, patient=patient, k=1) == 0.0
    assert knn_accuracy(v, labels=labels, patient=np.arange(16), k=1) == 1.0


def test_labels_become_numbers() -> None:
    numbers, classes = label_numbers(["late", None, "early", "late"])
    assert numbers.tolist() == [1, -1, 0, 1]
    assert classes == ("early", "late")
