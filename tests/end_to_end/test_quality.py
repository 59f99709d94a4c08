"""Does pretraining learn, and does position matter: cohorts where the answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality_cohorts import (
    Cohort,
    CohortSettings,
    arrangement_cohort,
    composition_cohort,
)
from benchmarks.quality_models import NEIGHBOURS, SIMCLR, arrangement, embedded, plain, trained
from benchmarks.quality_scores import Scores, difference, probe

SMALL = CohortSettings(pairs=30, dim=16, tiles=(40, 60))


def in_order(features: np.ndarray) -> np.ndarray:
    return features[np.lexsort(features.T)]


def test_pairs_hold_the_same_tiles_in_other_places() -> None:
    cohort = arrangement_cohort(SMALL, seed=0)
    for pair in range(SMALL.pairs):
        zero, one = cohort.features[2 * pair], cohort.features[2 * pair + 1]
        np.testing.assert_array_equal(in_order(zero), in_order(one))
        assert (zero != one).any()
        for places in cohort.coords[2 * pair : 2 * pair + 2]:
            assert len(np.unique(places, axis=0)) == len(places)


@pytest.mark.parametrize("method", ["mean", "mean+std", "max"])
def test_what_is_blind_to_position_is_exactly_at_chance(method: str) -> None:
    cohort = arrangement_cohort(SMALL, seed=1)
    scores = probe(plain(cohort.store(), method), cohort.labels, cohort.pairs)
    assert scores.pooled == pytest.approx(0.5, abs=1e-3)
    folds = scores.fold.reshape(-1, 2)
    assert (folds[:, 0] == folds[:, 1]).all()


def test_cohort_a_differs_in_composition() -> None:
    cohort = composition_cohort(replace(SMALL, pairs=60, enriched=2.0), seed=0)
    scores = probe(plain(cohort.store(), "mean+std"), cohort.labels, cohort.pairs)
    assert scores.pooled > 0.8


def test_auc_difference_is_paired_over_groups() -> None:
    labels, groups = np.tile([0, 1], 50), np.repeat(np.arange(50), 2)
    rng = np.random.default_rng(0)
    good = labels + 0.5 * rng.standard_normal(100)
    fold = np.zeros(100, np.int64)
    ours = Scores(logit=good, fold=fold, labels=labels, groups=groups)
    same = difference([ours], [ours], draws=50)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    flat = Scores(logit=rng.standard_normal(100), fold=fold, labels=labels, groups=groups)
    found = difference([ours], [flat], draws=200)
    assert 0.2 < found.low < found.value < found.high


FAIR = CohortSettings(pairs=200)
SEEDS = range(5)


def arrangement_scores(cohort: Cohort, *, seed: int) -> dict[str, Scores]:
    store = cohort.store()
    both = trained("spatial", store, settings=NEIGHBOURS, seed=seed)
    learned = arrangement(both.pretrained)
    flips = np.repeat(np.random.default_rng(seed).integers(2, size=len(store) // 2), 2)
    vectors = {
        "random": embedded(arrangement(both.random), store),
        "pretrained": embedded(learned, store),
        "shuffled": embedded(learned, store, shuffled=seed),
    }
    found = {
        name: probe(each, cohort.labels, cohort.pairs, seed=seed) for name, each in vectors.items()
    }
    found["labels shuffled"] = probe(
        vectors["pretrained"], cohort.labels ^ flips, cohort.pairs, seed=seed
    )
    return found


@pytest.mark.slow
def test_cohort_b_the_spatial_encoder_learns_and_uses_position() -> None:
    runs = [arrangement_scores(arrangement_cohort(FAIR, seed=seed), seed=seed) for seed in SEEDS]
    by_name = {name: [run[name] for run in runs] for name in runs[0]}
    learned = difference(by_name["pretrained"], by_name["random"])
    position = difference(by_name["pretrained"], by_name["shuffled"])
    assert learned.value >= 0.10, learned
    assert learned.low > 0, learned
    assert position.value >= 0.20, position
    assert position.low > 0, position
    for name in ("shuffled", "labels shuffled"):
        assert abs(np.mean([scores.pooled for scores in by_name[name]]) - 0.5) < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "abmil"])
def test_cohort_b_slide_encoders_blind_to_position_stay_at_chance(name: str) -> None:
    cohort = arrangement_cohort(replace(FAIR, pairs=60), seed=0)
    both = trained(name, cohort.store(), settings=replace(SIMCLR, epochs=5), seed=0)
    scores = probe(embedded(both.pretrained, cohort.store()), cohort.labels, cohort.pairs)
    assert scores.pooled == pytest.approx(0.5, abs=0.02)


@pytest.mark.slow
def test_cohort_a_pretraining_is_as_good_as_tuned_pooling() -> None:
    runs = []
    for seed in range(2):
        cohort = composition_cohort(replace(FAIR, enriched=0.8), seed=seed)
        store = cohort.store()
        both = trained("spatial", store, settings=NEIGHBOURS, seed=seed)
        vectors = {
            "spatial": embedded(both.pretrained, store),
            "mean+std": plain(store, "mean+std"),
        }
        first = {"spatial": 2 * store.dim}
        runs.append({
            name: probe(each, cohort.labels, cohort.pairs, seed=seed, first_block=first.get(name))
            for name, each in vectors.items()
        })  # fmt: skip
    found = difference([run["spatial"] for run in runs], [run["mean+std"] for run in runs])
    assert found.value >= -0.01, found
