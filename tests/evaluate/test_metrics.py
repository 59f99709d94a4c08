"""Metrics against scikit-learn, lifelines and slow versions; draws against repeated rows."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.utils import concordance_index
from scipy.stats import spearmanr
from sklearn import metrics as sk

from gigassl.errors import SettingsError
from gigassl.evaluate import metrics
from gigassl.evaluate.metrics import METRICS, Metric, chosen_metric
from gigassl.evaluate.outcome import Outcome


def classified(seed: int, *, n: int = 60, k: int = 2, grid: int = 0) -> tuple[np.ndarray, ...]:
    """Labels with every class, and probabilities; a grid makes ties."""
    rng = np.random.default_rng(seed)
    labels = np.r_[np.arange(k), rng.integers(k, size=n - k)]
    odds = rng.random((n, k)) + 0.3 * np.eye(k)[labels]
    if grid:
        odds = np.round(odds * grid) + 1
    return labels, odds / odds.sum(axis=1, keepdims=True)


def outcome_of(kind: str, seed: int, *, n: int = 40) -> tuple[Outcome, np.ndarray]:
    rng = np.random.default_rng(seed)
    if kind in {"binary", "three classes"}:
        labels, p = classified(seed, n=n, k=2 if kind == "binary" else 3, grid=7)
        return Outcome(
            kind="classification", target=labels.astype(float), n_classes=p.shape[1]
        ), p  # fmt: skip
    target = np.round(rng.random(n) * 12) + 1
    said = np.round(target + 4 * rng.standard_normal(n))[:, None]
    if kind == "regression":
        return Outcome(kind="regression", target=target), said
    return Outcome(kind="survival", target=target, event=rng.random(n) < 0.6), -said


CASES = [
    (kind, metric)
    for kind in ("binary", "three classes", "regression", "survival")
    for metric in METRICS.values()
    if metric.kind == (kind if kind in {"regression", "survival"} else "classification")
]


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("grid", [0, 4])
def test_auc_is_scikit_learns_to_the_last_digit(k: int, grid: int) -> None:
    for seed in range(20):
        labels, p = classified(seed, k=k, grid=grid)
        expected = sk.roc_auc_score(labels, p[:, 1] if k == 2 else p, multi_class="ovr")
        assert metrics.auc(labels, p) == expected
        outcome = Outcome(kind="classification", target=labels.astype(float), n_classes=k)
        ones = np.ones((1, len(labels)))
        assert METRICS["auc"].draws(outcome, p, ones)[0] == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("grid", [0, 4])
def test_metrics_of_classes_equal_scikit_learns(k: int, grid: int) -> None:
    labels, p = classified(3, k=k, grid=grid)
    decided = p.argmax(axis=1)
    assert metrics.balanced_accuracy(labels, p) == pytest.approx(
        sk.balanced_accuracy_score(labels, decided), abs=1e-14
    )
    assert metrics.macro_f1(labels, p) == pytest.approx(
        sk.f1_score(labels, decided, average="macro"), abs=1e-14
    )
    assert metrics.log_loss(labels, p) == pytest.approx(sk.log_loss(labels, p), abs=1e-14)
    expected = sk.average_precision_score(labels, p[:, 1] if k == 2 else p)
    assert metrics.average_precision(labels, p) == pytest.approx(expected, abs=1e-14)


@given(seed=st.integers(0, 10_000), n=st.integers(2, 40), censored=st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_c_index_equals_lifelines_and_the_definition(seed: int, n: int, censored: float) -> None:
    rng = np.random.default_rng(seed)
    time, risk = rng.integers(1, 12, n).astype(float), np.round(rng.standard_normal(n), 1)
    event = rng.random(n) >= censored
    pairs = won = 0.0
    for i in range(n):
        for j in range(n):
            if event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
                pairs += 1
                won += 1 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0
    ours = metrics.c_index(time, event, risk)
    if pairs == 0:
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(won / pairs, abs=1e-14)
        assert ours == pytest.approx(concordance_index(time, -risk, event), abs=1e-14)


def test_regression_metrics_equal_scipy_and_scikit_learn() -> None:
    outcome, said = outcome_of("regression", 5)
    value = said[:, 0]
    assert metrics.spearman(outcome.target, value) == pytest.approx(
        spearmanr(outcome.target, value).statistic, abs=1e-12
    )
    assert metrics.r2(outcome.target, value) == pytest.approx(
        sk.r2_score(outcome.target, value), abs=1e-12
    )


def test_calibration_error_against_a_slow_version() -> None:
    labels, p = classified(8, n=200)
    order = np.argsort(p[:, 1])
    gap = sum(abs((p[part, 1] - labels[part]).sum()) for part in np.array_split(order, 10)) / 200
    assert metrics.calibration_error(labels, p) == pytest.approx(gap, abs=1e-12)
    perfect = np.eye(2)[labels]
    assert metrics.calibration_error(labels, perfect) == 0
    # one value for all: one bin, whatever the order of the rows
    half = np.full((200, 2), 0.5)
    expected = abs(labels.mean() - 0.5)
    assert metrics.calibration_error(labels, half) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("kind", "metric"), CASES, ids=lambda c: getattr(c, "name", c))
def test_a_draw_equals_the_rows_written_out(kind: str, metric: Metric) -> None:
    outcome, said = outcome_of(kind, 11)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(len(outcome), np.full(len(outcome), 1 / len(outcome)), size=6)
    found = metric.draws(outcome, said, counts.astype(float))
    for drawn, value in zip(counts, found, strict=True):
        rows = np.repeat(np.arange(len(outcome)), drawn)
        expected = metric.value(outcome.rows(rows), said[rows])
        assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(("kind", "metric"), CASES, ids=lambda c: getattr(c, "name", c))
def test_the_order_of_the_rows_does_not_matter(kind: str, metric: Metric) -> None:
    outcome, said = outcome_of(kind, 12)
    order = np.random.default_rng(1).permutation(len(outcome))
    assert metric.value(outcome.rows(order), said[order]) == pytest.approx(
        metric.value(outcome, said), abs=1e-12
    )


@given(seed=st.integers(0, 1000), bend=st.sampled_from([np.exp, np.arctan, np.cbrt]))
@settings(deadline=None, max_examples=30)
def test_ranking_metrics_see_only_the_order(
    seed: int, bend: Callable[[np.ndarray], np.ndarray]
) -> None:
    survival, risk = outcome_of("survival", seed)
    values, said = outcome_of("regression", seed)
    for name, outcome, output in (("c_index", survival, risk), ("spearman", values, said)):
        metric = METRICS[name]
        assert metric.value(outcome, bend(output / 20)) == metric.value(outcome, output)


@pytest.mark.parametrize("name", ["auc", "balanced_accuracy", "macro_f1", "average_precision"])
@pytest.mark.parametrize("label", [0, 1])
def test_a_fold_of_one_class_is_not_a_number(name: str, label: int) -> None:
    outcome = Outcome(kind="classification", target=np.full(5, float(label)), n_classes=2)
    p = np.linspace(0, 1, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(METRICS[name].value(outcome, np.c_[1 - p, p]))
        assert np.isnan(METRICS[name].draws(outcome, np.c_[1 - p, p], np.ones((3, 5)))).all()


def test_what_cannot_be_told_is_not_a_number() -> None:
    assert np.isnan(metrics.r2(np.ones(4), np.arange(4.0)))
    assert np.isnan(metrics.spearman(np.arange(4.0), np.ones(4)))
    assert np.isnan(metrics.c_index(np.arange(1.0, 5), np.zeros(4, dtype=bool), np.ones(4)))


def test_scores_that_are_no_probabilities_are_ranked_but_not_decided_on() -> None:
    labels, p = classified(2)
    score = np.c_[1 - 9 * p[:, 1], 9 * p[:, 1]]
    assert metrics.auc(labels, score) == metrics.auc(labels, p)
    for metric in (metrics.log_loss, metrics.calibration_error, metrics.macro_f1):
        assert np.isnan(metric(labels, score))
    assert np.isnan(metrics.balanced_accuracy(labels, score))


def test_an_unknown_metric_is_named_with_its_choices() -> None:
    assert chosen_metric("survival", None).name == "c_index"
    with pytest.raises(SettingsError, match=r"metric of a regression 'auc'.*known: r2, spearman"):
        chosen_metric("regression", "auc")
