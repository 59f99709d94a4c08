"""Retrieval against a slow walk through sorted lists; chance against formulas; ties, few slides."""

from collections import Counter
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import SettingsError
from gigassl.evaluate.bootstrap import BootstrapSettings
from gigassl.evaluate.retrieval import (
    MEASURES,
    Archive,
    by_chance,
    majority,
    measured,
    nearest_of_others,
    ties,
)
from gigassl.evaluate.retrieval_scores import BALANCED, Retrieval, retrieval_scores

QUICK = BootstrapSettings(draws=100)


def archive_of(n: int, *, seed: int = 0, n_classes: int = 3, copies: bool = False) -> Archive:
    """Slides of about two a patient, each class around a centre of its own; some are equal."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=n - n_classes)])
    vectors = rng.standard_normal((n, 6)) + 1.5 * np.eye(n_classes, 6)[labels]
    if copies:
        vectors[n // 2 :] = vectors[: n - n // 2]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    _, patients = np.unique(rng.integers(max(2, n // 2), size=n), return_inverse=True)
    return Archive(
        vectors=vectors.astype(np.float32), labels=labels.astype(np.int64),
        patients=patients.astype(np.int64), classes=tuple("abcdefgh"[:n_classes]),
    )  # fmt: skip


def ranking(archive: Archive, query: int) -> list[int]:
    """Rows of other patients, nearest first, of equally near ones the first."""
    exact = archive.vectors.astype(np.float64)
    others = np.flatnonzero(archive.patients != archive.patients[query]).tolist()
    return sorted(others, key=lambda row: (-float((exact[row] * exact[query]).sum()), row))


def obvious(archive: Archive, query: int, *, k: int) -> tuple[float, ...]:
    """The measures of one query, as one would count them by hand."""
    order, own = ranking(archive, query), archive.labels[query]
    classes = [int(archive.labels[row]) for row in order]
    right = [c == own for c in classes[:k]]
    precisions = [sum(right[: j + 1]) / (j + 1) for j in range(k) if right[j]]
    votes = Counter(classes[:k])
    winner = next(c for c in classes if votes[c] == max(votes.values()))
    possible = min(k, sum(c == own for c in classes))
    average = sum(precisions) / possible if possible else 0.0
    return sum(right) / k, average, float(winner == own), float(any(right))


@given(seed=st.integers(0, 500), n=st.integers(8, 40), k=st.integers(1, 6), copies=st.booleans())
def test_agrees_with_counting_by_hand(seed: int, n: int, k: int, copies: bool) -> None:
    archive = archive_of(n, seed=seed, copies=copies)
    others = archive.others()
    for row in range(n):
        there = archive.labels[archive.patients != archive.patients[row]]
        assert others[row].tolist() == np.bincount(there, minlength=3).tolist()
    k = min(k, int(others.sum(axis=1).min()))
    if k == 0:
        return
    found = nearest_of_others(archive, k=k)
    assert found.tolist() == [ranking(archive, row)[:k] for row in range(n)]
    relevant = others[np.arange(n), archive.labels]
    values = measured(archive.labels[found], archive.labels, k=k, relevant=relevant)
    assert np.allclose(values, [obvious(archive, row, k=k) for row in range(n)])


def value(found: Retrieval, measure: str, k: int, of: str = "") -> float:
    (score,) = (s for s in found.scores if (s.measure, s.k, s.of) == (measure, k, of))
    return score.value


def test_scores_are_means_over_queries_and_over_those_of_a_class() -> None:
    archive = archive_of(80, seed=1)
    found = retrieval_scores(archive, ks=(1, 5), settings=QUICK)
    for k in (1, 5):
        each = np.array([obvious(archive, row, k=k) for row in range(80)])
        for column, measure in enumerate(MEASURES):
            assert value(found, measure, k) == pytest.approx(each[:, column].mean())
            for c, name in enumerate(archive.classes):
                mine = each[archive.labels == c, column].mean()
                assert value(found, measure, k, name) == pytest.approx(mine)
        recalls = [value(found, "majority", k, name) for name in archive.classes]
        assert value(found, BALANCED, k) == pytest.approx(np.mean(recalls))
    assert all(s.low <= s.value <= s.high for s in found.scores)
    assert value(found, "precision", 1) == value(found, "majority", 1) == value(found, "top", 1)


def test_chance_is_what_the_formulas_say() -> None:
    """Of n slides of which r are relevant: precision r/n, top 1 - C(n-r, k)/C(n, k), and AP."""
    archive = archive_of(60, seed=2)
    others, k = archive.others(), 5
    random = by_chance(archive, others, ks=[k], seed=0)[k].mean(axis=0)
    r, n = others[np.arange(60), archive.labels], others.sum(axis=1)
    precision, top = r / n, [1 - comb(m - s, k) / comb(m, k) for m, s in zip(n, r, strict=True)]
    ranks = np.arange(1, k + 1)
    of_rank = (1 + np.outer((r - 1) / (n - 1), ranks - 1)) / ranks
    average = precision * of_rank.sum(axis=1) / np.minimum(k, r)
    expected = [precision.mean(), average.mean(), np.mean(top)]
    assert random[[0, 1, 3]] == pytest.approx(expected, abs=0.004)
    # of one slide the majority is that slide
    assert by_chance(archive, others, ks=[1], seed=0)[1][:, 2].mean() == pytest.approx(
        precision.mean(), abs=0.004
    )


def test_vectors_without_the_class_are_at_chance_and_those_with_it_are_not() -> None:
    rng = np.random.default_rng(3)
    n, classes = 300, ("a", "b")
    labels, patients = rng.integers(2, size=n), np.arange(n)
    noise = rng.standard_normal((n, 16))
    for strength, informed in ((0.0, False), (4.0, True)):
        vectors = noise + strength * np.outer(labels, np.eye(16)[0])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        archive = Archive(
            vectors=vectors.astype(np.float32), labels=labels, patients=patients, classes=classes
        )
        found = retrieval_scores(archive, ks=(5,), settings=QUICK)
        (score,) = (s for s in found.scores if s.measure == "precision" and not s.of)
        assert (score.low > score.chance) == informed
        assert score.best == 1


def test_ties_of_a_vote_go_to_the_class_that_comes_first() -> None:
    found = np.array([[2, 1, 1, 2], [0, 1, 2, 3], [1, 0, 0, 2], [3, 3, 1, 1]])
    assert majority(found).tolist() == [2, 0, 0, 3]
    assert ties(found).tolist() == [True, True, False, True]


def test_small_classes_have_a_ceiling_and_too_large_k_are_left_out() -> None:
    archive = archive_of(20, seed=5)
    rare = np.r_[np.zeros(2, np.int64), np.ones(18, np.int64)]
    lonely = Archive(
        vectors=archive.vectors, labels=rare, patients=np.arange(20), classes=("rare", "common")
    )
    found = retrieval_scores(lonely, ks=(1, 5, 30), settings=QUICK)
    assert found.left_out == (30,)
    best = {s.of: s.best for s in found.scores if s.measure == "precision" and s.k == 5}
    assert best == {"": pytest.approx((2 * 0.2 + 18) / 20), "rare": pytest.approx(0.2), "common": 1}
    for ks in ((20,), (0, 1)):
        with pytest.raises(SettingsError, match="k must lie between 1 and 19"):
            retrieval_scores(lonely, ks=ks, settings=QUICK)
