"""Where the truth is known: intervals hold it as often as they say, tests reject as often."""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp

from gigassl.evaluate.blocks import Block, make_blocks
from gigassl.evaluate.bootstrap import (
    BootstrapSettings,
    interval,
    patient_counts,
    perfect_trials,
    resample,
    score_interval,
)
from gigassl.evaluate.delong import delong_test
from gigassl.evaluate.metric_draws import auc_draws
from gigassl.evaluate.metrics import METRICS, auc
from gigassl.evaluate.outcome import Outcome
from gigassl.evaluate.predictions import Method, joined, rows_of_split
from gigassl.evaluate.significance import bootstrap_p, corrected_resampled_t
from gigassl.evaluate.split import Split
from tests.evaluate.prediction_tables import task_of

DRAWS = BootstrapSettings(draws=400)


def cohort(rng: np.random.Generator, *, n: int, slides: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels and patients of the slides; half of the patients in each class."""
    n_slides = rng.integers(1, slides + 1, n)
    patients = np.repeat(np.arange(n), n_slides)
    return (np.arange(n) % 2)[patients], patients


def score_of(
    rng: np.random.Generator, labels: np.ndarray, patients: np.ndarray, *, true_auc: float
) -> np.ndarray:
    """Binormal scores of that AUC; slides of a patient correlate at .6."""
    shift = np.sqrt(2) * norm.ppf(true_auc)
    of_patient = np.sqrt(0.6) * rng.standard_normal(patients.max() + 1)[patients]
    score: np.ndarray = shift * labels + of_patient
    score += np.sqrt(0.4) * rng.standard_normal(len(labels))
    return score


def bootstrapped(labels: np.ndarray, score: np.ndarray, patients: np.ndarray) -> np.ndarray:
    outcome = Outcome(kind="classification", target=labels.astype(float), n_classes=2)
    counts = next(patient_counts(int(patients.max()) + 1, settings=DRAWS, chunk=DRAWS.draws))
    draws: np.ndarray = auc_draws(outcome, np.c_[-score, score], counts[:, patients])
    return draws


def covered(*, n: int, true_auc: float, slides: int, repeats: int, by: str) -> float:
    """Share of samples whose interval holds the true AUC."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(repeats):
        labels, patients = cohort(rng, n=n, slides=slides)
        score = score_of(rng, labels, patients, true_auc=true_auc)
        drawn = patients if by == "patient" else np.arange(len(labels))
        m = n / 2 if by == "patient" else len(labels) / 2
        low, high = score_interval(
            bootstrapped(labels, score, drawn),
            estimate=auc(labels, np.c_[-score, score]),
            bounds=(0, 1),
            n_patients=int(drawn.max()) + 1,
            perfect=4 * m * m / (2 * m + 2),
        )
        held += low <= true_auc <= high
    return held / repeats


@pytest.mark.slow
@pytest.mark.parametrize(("n", "true_auc"), [(30, 0.7), (60, 0.8), (60, 0.95)])
def test_intervals_hold_the_true_auc_at_the_nominal_rate(n: int, true_auc: float) -> None:
    assert 0.93 <= covered(n=n, true_auc=true_auc, slides=1, repeats=600, by="patient") <= 0.985


@pytest.mark.slow
def test_with_several_slides_a_patient_only_patients_may_be_drawn() -> None:
    assert covered(n=60, true_auc=0.75, slides=6, repeats=400, by="patient") >= 0.92
    assert covered(n=60, true_auc=0.75, slides=6, repeats=400, by="slide") <= 0.85


def test_percentiles_alone_miss_an_auc_near_one() -> None:
    rng, held, repeats = np.random.default_rng(0), 0, 300
    for _ in range(repeats):
        labels, patients = cohort(rng, n=30)
        score = score_of(rng, labels, patients, true_auc=0.95)
        low, high = interval(bootstrapped(labels, score, patients), n_patients=30)
        held += low <= 0.95 <= high
    assert held / repeats < 0.92
    assert covered(n=30, true_auc=0.95, slides=1, repeats=repeats, by="patient") > 0.93


def rejected(*, n: int, slides: int, repeats: int, by: str) -> float:
    """Share of p below .05 where two correlated scores have the same true AUC."""
    rng, found = np.random.default_rng(1), 0
    for _ in range(repeats):
        labels, patients = cohort(rng, n=n, slides=slides)
        common = rng.standard_normal(n)[patients]
        two = [common + score_of(rng, labels, patients, true_auc=0.8) for _ in range(2)]
        if by == "delong":
            p = delong_test(labels == 1, np.stack(two, axis=1)).p
        else:
            drawn = patients if by == "patient" else np.arange(len(labels))
            draws = [bootstrapped(labels, score, drawn) for score in two]
            p = bootstrap_p(draws[0] - draws[1], n_patients=int(drawn.max()) + 1)
        found += p < 0.05
    return found / repeats


def test_delong_rejects_a_true_null_in_five_of_a_hundred() -> None:
    assert 0.03 <= rejected(n=60, slides=1, repeats=1000, by="delong") <= 0.07


@pytest.mark.slow
def test_the_patient_bootstrap_rejects_a_true_null_in_five_of_a_hundred() -> None:
    assert 0.025 <= rejected(n=60, slides=1, repeats=500, by="patient") <= 0.075
    assert 0.02 <= rejected(n=50, slides=5, repeats=400, by="patient") <= 0.075


@pytest.mark.slow
def test_delong_and_slide_bootstrap_reject_far_too_often_with_several_slides_a_patient() -> None:
    assert rejected(n=50, slides=5, repeats=300, by="delong") > 0.12
    assert rejected(n=50, slides=5, repeats=200, by="slide") > 0.12


def centroid_scores(features: np.ndarray, labels: np.ndarray, split: Split) -> np.ndarray:
    """Probabilities of the nearest-centroid direction, learned on the training rows."""
    train = features[split.train], labels[split.train]
    direction = train[0][train[1] == 1].mean(axis=0) - train[0][train[1] == 0].mean(axis=0)
    odds = features[split.test] @ direction
    p: np.ndarray = 1 / (1 + np.exp(-odds))
    return np.stack([1 - p, p], axis=1)


def stratified(
    rng: np.random.Generator, labels: np.ndarray, *, test: float, k: int | None
) -> Iterator[Split]:
    """Hold-out draws (k: None, endless), or the folds of one k-fold; classes balanced."""
    place = np.empty(len(labels))
    while True:
        for y in (0, 1):
            rows = np.flatnonzero(labels == y)
            place[rows] = rng.permutation(len(rows)) / len(rows)
        for fold in range(k or 1):
            tested = (place * k).astype(int) == fold if k else place < test
            yield Split(
                scheme="s", fold=fold, train=np.flatnonzero(~tested), test=np.flatnonzero(tested)
            )
        if k:
            return


def resampled_differences(rng: np.random.Generator, *, folds: int) -> np.ndarray:
    """Hold-out AUC differences of two classifiers that are equally good by symmetry."""
    labels = np.arange(100) % 2
    features = rng.standard_normal((100, 20)) + 0.4 * labels[:, None]
    chance = stratified(rng, labels, test=0.2, k=None)
    found = []
    for _ in range(folds):
        split = next(chance)
        ours, theirs = (
            auc(labels[split.test], centroid_scores(half, labels, split))
            for half in (features[:, :10], features[:, 10:])
        )
        found.append(ours - theirs)
    return np.array(found)


@pytest.mark.slow
def test_the_corrected_t_keeps_its_size_where_the_naive_one_rejects_far_too_often() -> None:
    rng, repeats = np.random.default_rng(0), 150
    naive = corrected = 0
    for _ in range(repeats):
        differences = resampled_differences(rng, folds=15)
        naive += ttest_1samp(differences, 0).pvalue < 0.05
        corrected += corrected_resampled_t(differences, test_over_train=20 / 80).p < 0.05
    assert corrected / repeats <= 0.10
    assert naive / repeats > 0.25


def shuffled_block(rng: np.random.Generator, *, scheme: str) -> Block:
    """A classifier that learned shuffled labels, on its test rows."""
    labels = rng.permutation(np.arange(60) % 2)
    features = rng.standard_normal((60, 8))
    task = task_of(labels.tolist())
    every = stratified(rng, labels, test=0.5, k=5 if scheme == "5 folds" else None)
    splits = list(every) if scheme == "5 folds" else [next(every)]
    method = Method(name="m")
    parts = [
        rows_of_split(task, s, centroid_scores(features, labels, s), method=method) for s in splits
    ]
    return make_blocks([joined("classification", parts, provenance={})])[0]


def shuffled_labels_held(*, scheme: str, repeats: int) -> tuple[float, float]:
    """Share of cohorts whose interval holds one half: of the mean over folds, and pooled."""
    rng, held = np.random.default_rng(0), [0, 0]
    for _ in range(repeats):
        block = shuffled_block(rng, scheme=scheme)
        found = resample(block, [METRICS["auc"]], settings=DRAWS)["m", "auc"]
        both = ((found.fold_mean, found.mean), (found.pooled_draws, found.pooled))
        for k, (draws, estimate) in enumerate(both):
            low, high = score_interval(
                draws,
                estimate=estimate,
                bounds=(0, 1),
                n_patients=block.n_patients,
                perfect=perfect_trials(block),
            )
            held[k] += low <= 0.5 <= high
    return held[0] / repeats, held[1] / repeats


def test_intervals_of_a_few_shuffled_labels_hold_one_half() -> None:
    mean, pooled = shuffled_labels_held(scheme="hold-out", repeats=100)
    assert mean == pooled >= 0.9


@pytest.mark.slow
def test_intervals_of_shuffled_labels_hold_one_half() -> None:
    mean, _ = shuffled_labels_held(scheme="hold-out", repeats=1000)
    assert 0.93 <= mean <= 0.97


@pytest.mark.slow
def test_folds_that_learn_from_one_another_hold_it_less_often_as_tables_say() -> None:
    # each pair of slides in two folds counts twice, once with either as the tested one: without
    # any signal the variance is up to twice that of independent folds, and no bootstrap of the
    # predictions can see it
    mean, pooled = shuffled_labels_held(scheme="5 folds", repeats=1000)
    assert 0.87 <= mean <= 0.94
    assert 0.83 <= pooled <= 0.92
