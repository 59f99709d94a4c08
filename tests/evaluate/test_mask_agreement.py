"""Agreement with masks: against pixels that are counted one by one."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import SettingsError
from gigassl.evaluate.mask_agreement import (
    agreement,
    area_matched_iou,
    chance_agreement,
    paired_differences,
)

PIXELS = 4
"""Pixels of a tile in the slow versions."""


def in_pixels(score: np.ndarray, in_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The score and truth of every pixel."""
    truth = [k < count for count in in_mask for k in range(PIXELS)]
    return np.repeat(score, PIXELS), np.array(truth)


def slow_auc(score: np.ndarray, truth: np.ndarray) -> float:
    pairs = [(a > b) + (a == b) / 2 for a in score[truth] for b in score[~truth]]
    return float(np.mean(pairs))


def slow_average_precision(score: np.ndarray, truth: np.ndarray) -> float:
    total, recalls = 0.0, [0.0]
    for threshold in sorted(set(score.tolist()), reverse=True):
        over = score >= threshold
        recalls.append(truth[over].sum() / truth.sum())
        total += float((recalls[-1] - recalls[-2]) * truth[over].mean())
    assert all(a <= b for a, b in pairwise(recalls))
    return total


CASES = st.integers(2, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 4), min_size=n, max_size=n),
        st.lists(st.integers(0, PIXELS), min_size=n, max_size=n),
    )
)


@given(CASES)
def test_areas_under_curves_are_those_of_the_pixels(case: tuple[list[int], list[int]]) -> None:
    score, in_mask = np.array(case[0], dtype=np.float64), np.array(case[1])
    if not 0 < in_mask.sum() < PIXELS * len(score):
        with pytest.raises(SettingsError, match="nothing to compare"):
            agreement(score, in_mask / PIXELS)
        return
    found = agreement(score, in_mask / PIXELS)
    pixels, truth = in_pixels(score, in_mask)
    assert found.auc == pytest.approx(slow_auc(pixels, truth))
    assert found.auprc == pytest.approx(slow_average_precision(pixels, truth))
    best = [k for k in range(len(score)) if score[k] == score.max()]
    assert found.pointing == pytest.approx(np.mean([in_mask[k] >= PIXELS / 2 for k in best]))


@given(CASES, st.integers(0, 9))
def test_the_matched_area_is_that_of_the_mask(case: tuple[list[int], list[int]], seed: int) -> None:
    in_mask = np.array(case[1])
    if in_mask.sum() == 0:
        return
    order = np.random.default_rng(seed).permutation(len(in_mask)).astype(np.float64)  # no ties
    left, common = float(in_mask.sum()) / PIXELS, 0.0
    for tile in np.argsort(-order):
        taken = min(1.0, left)
        common, left = common + taken * in_mask[tile] / PIXELS, left - taken
    union = 2 * in_mask.sum() / PIXELS - common
    assert area_matched_iou(order, in_mask / PIXELS) == pytest.approx(common / union)


def test_ties_are_fair() -> None:
    share = np.array([1.0, 0.0, 0.0, 0.0])
    assert area_matched_iou(np.zeros(4), share) == pytest.approx(0.25 / 1.75)
    same = agreement(np.zeros(4), share)
    assert (same.auc, same.auprc, same.pointing) == (0.5, 0.25, 0.25)


def test_perfect_and_opposite_scores() -> None:
    share = np.array([1.0, 1.0, 0.0, 0.0, 0.0])
    best, worst = agreement(share, share), agreement(-share, share)
    assert (best.iou, best.pointing, best.auprc, best.auc) == (1, 1, 1, 1)
    assert (worst.iou, worst.pointing, worst.auc) == (0, 0, 0)


def test_chance_knows_nothing_of_where() -> None:
    rng = np.random.default_rng(0)
    share = (rng.random(400) < 0.2).astype(np.float64)
    found = chance_agreement(share + rng.normal(size=400), share, generator=rng, draws=50)
    assert found.auc == pytest.approx(0.5, abs=0.03)
    assert found.auprc == pytest.approx(share.mean(), abs=0.03)
    assert found.iou == pytest.approx(share.mean() / (2 - share.mean()), abs=0.03)


def test_paired_differences_have_their_interval() -> None:
    rng = np.random.default_rng(1)
    first, second = [], []
    for _ in range(30):
        share = (rng.random(60) < 0.3).astype(np.float64)
        first.append(agreement(share + rng.normal(size=60), share))
        second.append(agreement(rng.normal(size=60), share))
    found = {d.measure: d for d in paired_differences(first, second, generator=rng)}
    auc = found["auc"]
    assert auc.mean == pytest.approx(
        np.mean([a.auc - b.auc for a, b in zip(first, second, strict=True)])
    )
    assert 0.1 < auc.low < auc.mean < auc.high
    assert auc.n == 30
    with pytest.raises(SettingsError, match="the same slides for both"):
        paired_differences(first, second[:3], generator=rng)
