"""Monitors: which vectors are kept."""

import numpy as np
import pytest
import torch

from gigassl.training.geometry import geometry, knn_accuracy
from gigassl.vectors.pretrain.monitors import MEASURED, Plan, Watch


def vectors(n: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 16)).astype(np.float32)


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
