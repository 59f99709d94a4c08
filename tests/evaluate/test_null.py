"""Where the truth is known: intervals hold it as often as they say, tests reject as often."""

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp

from gigassl.evaluate.bootstrap import (
    BootstrapSettings,
    interval,
    patient_counts,
    score_interval,
)
from gigassl.evaluate.delong import delong_test
from gigassl.evaluate.metric_draws import auc_draws
from gigassl.evaluate.metrics import auc
from gigassl.evaluate.outcome import Outcome
from gigassl.evaluate.significance import bootstrap_p, corrected_resampled_t
from tests.evaluate.cohorts import centroid_scores, stratified

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
