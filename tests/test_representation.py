"""Representation metrics against slow, obvious versions and against what they must be."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import SettingsError
from gigassl.representation import (
    alignment,
    collapse_level,
    effective_rank,
    mean_cosine,
    uniformity,
)


@st.composite
def matrices(draw: st.DrawFn) -> Any:
    rows, dim, seed = draw(st.integers(2, 12)), draw(st.integers(1, 8)), draw(st.integers(0, 999))
    rng = np.random.default_rng(seed)
    offset = draw(st.sampled_from([0.0, 3.0]))
    return (rng.normal(size=(rows, dim)) + offset).astype(draw(st.sampled_from(["f4", "f8"])))


def unit(row: Any) -> list[float]:
    length = math.sqrt(sum(float(x) ** 2 for x in row))
    return [float(x) / length for x in row]


def squared_distance(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


@given(vectors=matrices())
def test_effective_rank_is_the_entropy_of_the_spectrum(vectors: Any) -> None:
    gram = vectors.astype(np.float64).T @ vectors.astype(np.float64)
    values = [math.sqrt(max(v, 0.0)) for v in np.linalg.eigvalsh(gram)]
    shares = [v / sum(values) for v in values if v > 1e-7 * max(values)]
    entropy = -sum(p * math.log(p) for p in shares)
    assert effective_rank(vectors) == pytest.approx(math.exp(entropy), rel=1e-4)


def test_effective_rank_of_known_matrices() -> None:
    assert effective_rank(np.eye(7)) == pytest.approx(7)
    assert effective_rank(np.outer(np.arange(1.0, 6.0), np.arange(1.0, 4.0))) == pytest.approx(1)
    assert effective_rank(np.zeros((5, 3))) == 0


@given(vectors=matrices())
def test_pairs_one_by_one(vectors: Any) -> None:
    units = [unit(row) for row in vectors]
    pairs = list(combinations(units, 2))
    cosines = [sum(x * y for x, y in zip(a, b, strict=True)) for a, b in pairs]
    assert mean_cosine(vectors) == pytest.approx(sum(cosines) / len(pairs), abs=1e-9)
    kernel = [math.exp(-2 * squared_distance(a, b)) for a, b in pairs]
    expected = math.log(sum(kernel) / len(pairs))
    assert uniformity(vectors) == pytest.approx(expected, abs=1e-9)


@given(vectors=matrices())
def test_collapse_level_column_by_column(vectors: Any) -> None:
    columns = list(zip(*[unit(row) for row in vectors], strict=True))
    deviations = []
    for column in columns:
        mean = sum(column) / len(column)
        deviations.append(math.sqrt(sum((x - mean) ** 2 for x in column) / len(column)))
    expected = 1 - math.sqrt(len(columns)) * sum(deviations) / len(columns)
    assert collapse_level(vectors) == pytest.approx(expected, abs=1e-9)


@given(vectors=matrices(), seed=st.integers(0, 99))
def test_alignment_pair_by_pair(vectors: Any, seed: int) -> None:
    other = np.random.default_rng(seed).normal(size=vectors.shape).astype(vectors.dtype)
    expected = [squared_distance(unit(a), unit(b)) for a, b in zip(vectors, other, strict=True)]
    assert alignment(vectors, other) == pytest.approx(sum(expected) / len(expected), abs=1e-9)
    assert alignment(vectors, 2 * vectors) == pytest.approx(0, abs=1e-9)


def test_one_point_is_collapsed_and_a_sphere_is_not() -> None:
    point = np.tile([3.0, 4.0, 0.0, 0.0], (10, 1))
    assert mean_cosine(point) == pytest.approx(1)
    assert collapse_level(point) == pytest.approx(1)
    assert uniformity(point) == pytest.approx(0)
    sphere = np.random.default_rng(0).normal(size=(2000, 16))
    assert abs(mean_cosine(sphere)) < 0.01
    assert abs(collapse_level(sphere)) < 0.02
    assert -4 < uniformity(sphere) < -3


@pytest.mark.parametrize("metric", [mean_cosine, uniformity])
def test_one_vector_has_no_pairs(metric: Any) -> None:
    with pytest.raises(SettingsError, match="at least two vectors; got 1"):
        metric(np.ones((1, 4)))
