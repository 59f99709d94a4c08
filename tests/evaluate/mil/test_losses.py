"""Losses of MIL against slow versions of their formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gigassl.evaluate.mil.losses import (
    Scale,
    Targets,
    cluster_loss,
    cox_loss,
    loss_of,
    output_of,
    scale_of,
    smooth_svm,
    targets_of,
)
from gigassl.evaluate.mil.reading import Clusters, Reading
from tests.evaluate.mil.bags import SEEDS, some_task


def of_classes(labels: list[int], *, classes: int, weight: list[float] | None = None) -> Targets:
    n = len(labels)
    return Targets(
        kind="classification", value=torch.tensor(labels).float(),
        event=torch.zeros(n, dtype=torch.bool),
        weight=torch.ones(n) if weight is None else torch.tensor(weight), classes=classes,
    )  # fmt: skip


def plain(*streams: torch.Tensor, clusters: Clusters | None = None) -> Reading:
    return Reading(scores=streams[0], streams=streams, clusters=clusters)


def test_two_classes_are_cross_entropy_of_one_number_and_more_of_one_each() -> None:
    scores = torch.tensor([[0.3], [-1.2], [2.0]])
    probability = torch.sigmoid(scores[:, 0])
    expected = -(torch.log(1 - probability[0]) + 2 * torch.log(probability[1])
                 + torch.log(1 - probability[2])) / 3  # fmt: skip
    found = loss_of(plain(scores), of_classes([0, 1, 0], classes=2, weight=[1.0, 2.0, 1.0]))
    torch.testing.assert_close(found, expected)
    scores = torch.tensor([[0.3, 1.0, -1.0], [0.0, 0.5, 0.2]])
    expected = -torch.log(scores.softmax(dim=1))[[0, 1], [2, 0]].mean()
    torch.testing.assert_close(loss_of(plain(scores), of_classes([2, 0], classes=3)), expected)


def test_two_streams_are_averaged() -> None:
    first, second = torch.tensor([[0.3], [-1.2]]), torch.tensor([[1.0], [0.5]])
    targets = of_classes([0, 1], classes=2)
    alone = [loss_of(plain(stream), targets) for stream in (first, second)]
    torch.testing.assert_close(loss_of(plain(first, second), targets), sum(alone) / 2)


@given(n=st.integers(1, 12), seed=SEEDS)
def test_cox_loss_is_breslows_partial_likelihood(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    risk, time = rng.normal(size=n), rng.integers(1, 5, n).astype(float)  # many ties
    event = rng.random(n) < 0.6
    terms = [
        np.log(sum(np.exp(risk[j]) for j in range(n) if time[j] >= time[i])) - risk[i]
        for i in range(n) if event[i]
    ]  # fmt: skip
    targets = Targets(
        kind="survival", value=torch.from_numpy(time).float(), event=torch.from_numpy(event),
        weight=torch.ones(n), classes=0,
    )  # fmt: skip
    found = cox_loss(torch.from_numpy(risk).float()[:, None], targets)
    assert float(found) == pytest.approx(np.mean(terms) if terms else 0.0, abs=1e-5)


@given(first=st.floats(-5, 5), second=st.floats(-5, 5), true=st.integers(0, 1))
def test_smooth_svm_is_the_published_formula(first: float, second: float, true: int) -> None:
    scores = np.array([first, second])
    margin = np.array([float(true != 0), float(true != 1)])
    expected = np.log(np.exp(scores + margin).sum()) - scores[true]
    found = smooth_svm(torch.tensor(scores).float(), torch.tensor(true))
    assert float(found) == pytest.approx(expected, abs=1e-4)


@given(labels=st.lists(st.integers(0, 2), min_size=1, max_size=4), seed=SEEDS)
def test_clusters_are_the_loss_of_clam_for_classes_that_exclude_each_other(
    labels: list[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randint(0, 4, (len(labels),), generator=generator)
    bag = torch.arange(len(labels)).repeat_interleave(picked)
    shape = (len(bag), 3, 2)
    highest, lowest = (torch.randn(shape, generator=generator) for _ in range(2))
    total = 0.0
    for number, label in enumerate(labels):
        mine = bag == number
        if not mine.any():
            continue
        high, low = highest[mine], lowest[mine]
        for name in range(3):
            if name == label:  # both ends, the first of the class and the last not
                said = torch.cat([high[:, name], low[:, name]])
                true = torch.tensor([1] * len(high) + [0] * len(low))
            else:
                said, true = high[:, name], torch.zeros(len(high), dtype=torch.int64)
            each = [smooth_svm(s, t) for s, t in zip(said, true, strict=True)]
            total += float(torch.stack(each).mean()) / 3
    clusters = Clusters(highest=highest, lowest=lowest, bag=bag)
    targets = of_classes(labels, classes=3)
    found = cluster_loss(clusters, targets)
    assert float(found) == pytest.approx(total / len(labels), abs=1e-4)
    scores = torch.randn(len(labels), 3, generator=generator)
    bags = loss_of(plain(scores), targets)
    whole = loss_of(plain(scores, clusters=clusters), targets)
    expected = 0.7 * bags + 0.3 * found if len(bag) else bags
    torch.testing.assert_close(whole, expected)


def test_probabilities_sum_to_one_and_the_number_of_two_classes_is_the_seconds() -> None:
    found = output_of(torch.tensor([[0.0], [30.0], [-2.0]]), some_task(), scale=Scale())
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp([0.0, -30.0, 2.0])))


def test_values_are_learned_at_scale_one_and_given_back_at_their_own() -> None:
    task = some_task(kind="regression", classes=5)
    scale = scale_of(task, np.arange(20))
    value = targets_of(task, scale=scale, weight=np.ones(len(task))).value
    assert float(value[:20].mean()) == pytest.approx(0, abs=1e-6)
    assert float(value[:20].std(unbiased=False)) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(
        output_of(value[:, None], task, scale=scale)[:, 0], task.target, atol=1e-6
    )
