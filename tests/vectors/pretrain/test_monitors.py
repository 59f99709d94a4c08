"""Monitors: what collapse looks like, kNN beside a loop, which vectors are kept."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gigassl.vectors.pretrain.monitors import (
    MEASURED,
    Plan,
    Watch,
    geometry,
    knn_accuracy,
    label_numbers,
)


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


def watch(n: int, *, labels: np.ndarray | None = None) -> Watch:
    return Watch(np.arange(n), labels, generator=np.random.default_rng(0))


def test_it_keeps_the_vectors_of_the_slides_it_watches() -> None:
    n = MEASURED + 100
    seen = watch(n)
    assert len(seen.slides) == MEASURED
    v = torch.from_numpy(vectors(n) + 5.0)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    for batch in torch.split(order, 50):
        seen.note(batch, v[batch], 2 * v[batch])
    kept = seen.kept()
    torch.testing.assert_close(kept[:, 0], v[torch.from_numpy(seen.slides)])
    torch.testing.assert_close(kept[:, 1], 2 * v[torch.from_numpy(seen.slides)])
    with pytest.raises(RuntimeError, match="no batch"):
        seen.kept()  # they are of one epoch only


def test_slides_with_a_label_are_watched_first() -> None:
    labels = np.full(3000, -1)
    labels[::30] = np.arange(100) % 2
    seen = watch(3000, labels=labels)
    assert set(np.flatnonzero(labels >= 0)) <= set(seen.slides.tolist())
    assert MEASURED <= len(seen.slides) <= MEASURED + 100


def test_a_slide_that_sat_out_is_not_measured() -> None:
    seen = watch(20, labels=np.arange(20) % 2)
    v = torch.from_numpy(vectors(20))
    batch = torch.arange(12)
    seen.note(batch, v[batch], v[batch])
    found, accuracy = seen.measured(seen.kept())
    expected = geometry(v[:12].numpy(), v[:12].numpy())
    assert found == expected
    assert accuracy == knn_accuracy(
        2 * v[:12].numpy(), labels=np.arange(12) % 2, patient=np.arange(12)
    )


def test_vectors_that_are_all_zero_are_a_collapse_and_no_error() -> None:
    seen = watch(20)
    seen.note(torch.arange(20), torch.zeros(20, 4), torch.zeros(20, 4))
    found, accuracy = seen.measured(seen.kept())
    assert found.collapsed
    assert accuracy is None


def test_the_plan_says_what_is_to_come() -> None:
    plan = Plan(
        n_slides=11_642, n_patients=9_521, n_batches=46, batch_size=254, epochs=1000,
        epochs_done=0, lr=0.03, n_parameters=8_393_728, device="cuda", n_devices=2,
    )  # fmt: skip
    assert plan.sentence() == (
        "11642 slides of 9521 patients, batches of 254: 1000 epochs × 46 = 46000 steps at "
        "learning rate 0.03 on 2 × cuda, 8,393,728 parameters"
    )
