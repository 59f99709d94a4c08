"""Scores of slides out of those of their views: against probabilities one by one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gigassl.evaluate.mil.losses import Scale, output_of
from gigassl.evaluate.mil.scoring import mean_of_views
from gigassl.evaluate.task import Kind
from tests.evaluate.mil.bags import SEEDS, some_task


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [("classification", 1), ("classification", 3), ("regression", 1), ("survival", 1)],
)
@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=SEEDS)
@settings(max_examples=15)
def test_outputs_of_views_are_averaged(
    kind: Kind, outputs: int, counts: list[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = 8 * torch.randn(sum(counts), outputs, generator=generator)
    task, scale = some_task(kind=kind, classes=max(2, outputs)), Scale(mean=3.0, std=2.0)
    found = output_of(mean_of_views(scores, counts, kind), task, scale=scale)
    each = output_of(scores, task, scale=scale)
    ends = np.cumsum(counts)
    expected = [each[end - n : end].mean(axis=0) for end, n in zip(ends, counts, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_single_view_is_left_as_it_is() -> None:
    scores = torch.randn(4, 1, generator=torch.Generator().manual_seed(0))
    assert mean_of_views(scores, [1, 1, 1, 1], "classification") is scores


def test_views_that_are_sure_stay_finite() -> None:
    sure = torch.tensor([[200.0], [210.0], [-300.0]])
    found = mean_of_views(sure, [2, 1], "classification")
    assert torch.isfinite(found).all()
    assert found[:, 0].tolist() == pytest.approx([200.0 + math.log(2), -300.0])
