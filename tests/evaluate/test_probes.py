"""Probes against slow and obvious versions, on every split of a task."""

from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float64
from pyarrow import Table
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from gigassl.errors import SettingsError
from gigassl.evaluate.probe_data import ProbeData
from gigassl.evaluate.probes import PROBE_PRESETS, ProbeSettings, fit_probe, run_probe
from gigassl.evaluate.split import Split
from gigassl.evaluate.splits import SplitSettings, make_splits
from gigassl.evaluate.task import Task
from gigassl.evaluate.vector_set import VectorSet

N, DIM = 90, 12


def vectors(*, dim: int = DIM, seed: int = 0) -> Float64[np.ndarray, "slide dim"]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, dim)) / (1 + np.arange(dim)) ** 0.5


def task_of(
    target: Float64[np.ndarray, " slide"], *, kind: str = "classification",
    event: np.ndarray | None = None,
) -> Task:  # fmt: skip
    classes = tuple("abc"[: int(target.max()) + 1]) if kind == "classification" else ()
    return Task(
        name="t", kind=kind, slide_ids=tuple(f"s{i:03}" for i in range(N)),  # type: ignore[arg-type]
        patient_ids=tuple(f"p{i // 2:03}" for i in range(N)), sites=("",) * N, classes=classes,
        target=target, event=event,
    )  # fmt: skip


def classes_of(x: np.ndarray, *, count: int = 2) -> Task:
    score = x[:, 0] + 0.5 * np.random.default_rng(1).standard_normal(N)
    edges = np.quantile(score, np.arange(1, count) / count)
    return task_of(np.searchsorted(edges, score).astype(np.float64))


@pytest.mark.parametrize("count", [2, 3])
def test_preset_giga_ssl_is_the_published_classifier(count: int) -> None:
    x = vectors()
    task = classes_of(x, count=count)
    splits = make_splits(task, SplitSettings(folds=3))
    found = run_probe(
        task, VectorSet(name="v", slide_ids=task.slide_ids, vectors=x), splits,
        settings=PROBE_PRESETS["giga-ssl"],
    )  # fmt: skip
    said = np.stack([found[f"p_{c}"].to_numpy() for c in task.classes], axis=1)
    wanted = [
        LogisticRegression(C=10, class_weight="balanced", tol=1e-9, max_iter=10_000)
        .fit(x[split.train], task.labels[split.train])
        .predict_proba(x[split.test])
        for split in splits
    ]
    np.testing.assert_allclose(said, np.concatenate(wanted), atol=1e-5)
    assert set(found["method"].to_pylist()) == {"v · logistic"}


def alone(x: np.ndarray, task: Task, settings: ProbeSettings) -> tuple[Table, tuple[Split, ...]]:
    splits = make_splits(task, SplitSettings(folds=3))
    table = VectorSet(name="v", slide_ids=task.slide_ids, vectors=x)
    return run_probe(task, table, splits, settings=settings), splits


def inner_log_loss(
    x: np.ndarray, task: Task, train: np.ndarray, *, strength: float, parts: list[np.ndarray]
) -> float:
    """Log loss over inner folds with weighted classes, one slow fit at a time."""
    z = (x[train] - x[train].mean(0)) / x[train].std(0)
    y, total = task.labels[train], 0.0
    for held in parts:
        model = LogisticRegression(C=strength, class_weight="balanced", tol=1e-9, max_iter=10_000)
        said = model.fit(z[~held], y[~held]).predict_proba(z[held])
        share = np.bincount(y[held])
        weights = held.sum() / ((share > 0).sum() * share[y[held]])
        total -= (weights * np.log(said[np.arange(held.sum()), y[held]])).sum()
    return total


def test_strength_is_chosen_in_folds_of_patients_inside_the_training_set() -> None:
    x = vectors()
    task = classes_of(x)
    settings = ProbeSettings(strengths=(1e-3, 1e-2, 1e-1, 1.0))
    found, splits = alone(x, task, settings)
    said = found["p_b"].to_numpy()
    for split in splits:
        data = ProbeData(rows=x, task=task, settings=settings)
        parts = data.inner_parts(split.train)
        patients = np.array(task.patient_ids)[split.train]
        assert all(not set(patients[part]) & set(patients[~part]) for part in parts)
        best = min(
            settings.strengths,
            key=lambda c: inner_log_loss(x, task, split.train, strength=c, parts=parts),
        )
        z = (x - x[split.train].mean(0)) / x[split.train].std(0)
        model = LogisticRegression(C=best, class_weight="balanced", tol=1e-9, max_iter=10_000)
        wanted = model.fit(z[split.train], task.labels[split.train]).predict_proba(z[split.test])
        rows = found["fold"].to_numpy() == split.fold
        np.testing.assert_allclose(said[rows], wanted[:, 1], atol=1e-5)


def test_a_second_stream_of_noise_gets_no_weight_and_one_of_signal_does() -> None:
    x, noise = vectors(dim=4), vectors(dim=8, seed=5)
    task = classes_of(x)
    useless = fit_probe(np.hstack([x, noise]), task, settings=ProbeSettings(), first_block=4)
    useful = fit_probe(np.hstack([noise, x]), task, settings=ProbeSettings(), first_block=8)
    assert useless.chosen["block_weight"] < 0.3
    assert useful.chosen["block_weight"] == 1.0
    alone_ = fit_probe(x, task, settings=ProbeSettings())
    if useless.chosen["block_weight"] == 0.0:
        np.testing.assert_allclose(
            useless.predict(np.hstack([x, noise])), alone_.predict(x), atol=1e-5
        )


def test_a_column_that_is_constant_in_training_says_nothing() -> None:
    x = vectors()
    task = classes_of(x)
    probe = fit_probe(np.hstack([x, np.full((N, 1), 0.1)]), task, settings=ProbeSettings())
    shifted = np.hstack([x, np.full((N, 1), 1e6)])
    np.testing.assert_allclose(
        probe.predict(shifted), fit_probe(x, task, settings=ProbeSettings()).predict(x), atol=1e-5
    )


def test_knn_is_the_share_of_the_nearest_by_cosine() -> None:
    x = vectors()
    task = classes_of(x, count=3)
    found, splits = alone(x, task, ProbeSettings(method="knn", neighbours=7))
    said = np.stack([found[f"p_{c}"].to_numpy() for c in task.classes], axis=1)
    wanted = [
        KNeighborsClassifier(7, metric="cosine")
        .fit(x[split.train], task.labels[split.train])
        .predict_proba(x[split.test])
        for split in splits
    ]
    np.testing.assert_allclose(said, np.concatenate(wanted), atol=1e-12)


def test_prototype_is_the_nearest_mean_of_centred_unit_vectors() -> None:
    x = vectors()
    task = classes_of(x, count=3)
    found, splits = alone(x, task, ProbeSettings(method="prototype"))
    said = np.stack([found[f"p_{c}"].to_numpy() for c in task.classes], axis=1)
    rows = iter(said)
    for split in splits:
        centre = x[split.train].mean(0)
        units = [(v - centre) / np.linalg.norm(v - centre) for v in x]
        means = [
            np.mean([units[i] for i in split.train if task.labels[i] == k], axis=0)
            for k in range(3)
        ]
        for i in split.test:
            odds = np.exp([-np.linalg.norm(units[i] - mean) for mean in means])
            np.testing.assert_allclose(next(rows), odds / odds.sum(), atol=1e-12)


@pytest.mark.parametrize("dim", [DIM, 200])
def test_ridge_with_a_given_penalty_is_scikit_learns(dim: int) -> None:
    x = vectors(dim=dim)
    task = task_of(x[:, 0] + 0.1 * np.random.default_rng(2).standard_normal(N), kind="regression")
    found, splits = alone(x, task, ProbeSettings(method="ridge", strength=3.0, scaling="none"))
    wanted = [
        Ridge(alpha=3.0).fit(x[s.train], task.target[s.train]).predict(x[s.test]) for s in splits
    ]
    np.testing.assert_allclose(found["value"].to_numpy(), np.concatenate(wanted), atol=1e-9)


def test_ridge_and_cox_find_a_signal_and_choose_a_sensible_penalty() -> None:
    x = vectors()
    value = task_of(x[:, 0] + 0.1 * np.random.default_rng(2).standard_normal(N), kind="regression")
    found, _ = alone(x, value, ProbeSettings(method="ridge"))
    assert np.corrcoef(found["value"], found["y_true"])[0, 1] > 0.9
    rng = np.random.default_rng(3)
    time = rng.exponential(np.exp(-3 * x[:, 0])) + 1e-3
    event = rng.random(N) < 0.7
    survival = task_of(time, kind="survival", event=event)
    said, _ = alone(x, survival, ProbeSettings(method="cox"))
    seen = said["event"].to_numpy(zero_copy_only=False)
    assert spearmanr(said["risk"].to_numpy()[seen], said["time"].to_numpy()[seen])[0] < -0.6


def test_vectors_of_length_one_are_a_scaling() -> None:
    x = vectors()
    task = classes_of(x)
    settings = ProbeSettings(strength=10.0, scaling="l2")
    once, _ = alone(x, task, settings)
    larger, _ = alone(x * 7, task, settings)
    np.testing.assert_allclose(once["p_a"].to_numpy(), larger["p_a"].to_numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "logistik"}, "did you mean 'logistic'"),
        ({"strength": 0.0}, "above zero"),
        ({"method": "knn", "strength": 1.0}, "has no strength"),
        ({"l1_ratio": 0.5}, "only Cox"),
        ({"inner_folds": 1}, "2 inner folds"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        ProbeSettings(**arguments)


def test_a_probe_of_another_kind_and_missing_vectors_are_refused() -> None:
    x = vectors()
    task = classes_of(x)
    with pytest.raises(SettingsError, match="cannot predict a classification; these can: logistic"):
        fit_probe(x, task, settings=ProbeSettings(method="cox"))
    some = VectorSet(name="v", slide_ids=task.slide_ids[:-2], vectors=x[:-2])
    with pytest.raises(SettingsError, match="no vector of 2 of 90 slides"):
        run_probe(task, some, make_splits(task, SplitSettings()), settings=ProbeSettings())
    with pytest.raises(SettingsError, match="learned from vectors of 12 columns; these have 3"):
        fit_probe(x, task, settings=ProbeSettings()).predict(x[:, :3])


@pytest.mark.parametrize("method", ["logistic", "ridge", "cox", "knn"])
def test_any_number_of_threads_gives_the_same_bytes(method: str) -> None:
    rng = np.random.default_rng(0)
    n, dim = 400, 256
    x = rng.standard_normal((n, dim))
    score = x[:, 0] + rng.standard_normal(n)
    facts: dict[str, dict[str, Any]] = {
        "ridge": {"kind": "regression", "target": score},
        "cox": {"kind": "survival", "target": np.exp(-score), "event": rng.random(n) < 0.7},
    }
    plain = {"kind": "classification", "target": (score > 0).astype(float), "classes": ("a", "b")}
    task = Task(
        name="t", slide_ids=tuple(f"s{i:03}" for i in range(n)),
        patient_ids=tuple(f"p{i:03}" for i in range(n)), sites=("",) * n,
        **facts.get(method, plain),
    )  # fmt: skip
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with threadpool_limits(limits=threads):
                probe = fit_probe(x, task, settings=ProbeSettings(method=method))
                found.append(probe.predict(x).tobytes())
    finally:
        torch.set_num_threads(before)
    assert len(set(found)) == 1


def test_a_strength_is_not_chosen_where_a_class_has_a_single_patient() -> None:
    x = vectors()
    task = classes_of(x)
    few = np.concatenate([np.flatnonzero(task.labels == 0)[:9], np.flatnonzero(task.labels)[:1]])
    with pytest.raises(SettingsError, match="single patient"):
        fit_probe(x[few], task.rows(few), settings=ProbeSettings())
