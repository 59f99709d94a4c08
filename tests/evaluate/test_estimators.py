"""Probes as scikit-learn estimators: its own checks, its tools, and the numbers of the probes."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from gigassl.errors import SettingsError
from gigassl.evaluate.estimators import SlideProbe, SlideRegressor, SlideSurvival
from gigassl.evaluate.metrics import c_index
from gigassl.evaluate.probes import ProbeSettings, run_probe
from gigassl.evaluate.splits import SplitSettings, make_splits
from gigassl.evaluate.task import Task
from gigassl.evaluate.vector_set import VectorSet

N, DIM = 80, 6


class OfTimes(SlideSurvival):
    """Takes the plain numbers of scikit-learn's checks: all events, times above zero."""

    def fit(self, X: Any, y: Any, groups: Any = None) -> "OfTimes":
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        time = np.ravel(np.real(y)).astype(np.float64)
        super().fit(X, surv(time - time.min() + 1, np.ones(len(time), dtype=bool)), groups)
        return self

    def score(self, X: Any, y: Any) -> float:
        time = np.ravel(np.real(y)).astype(np.float64)
        return super().score(X, surv(time - time.min() + 1, np.ones(len(time), dtype=bool)))


def surv(time: np.ndarray, event: np.ndarray) -> np.ndarray:
    kinds = [("event", bool), ("time", float)]
    return np.array(list(zip(event.tolist(), time.tolist(), strict=True)), dtype=kinds)


EXPECTED = {
    "check_do_not_raise_errors_in_init_or_set_params": "the type checker of these tests refuses -1 "
    "as a method; without it any value is taken until fit"
}


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [SlideProbe(strength=1.0), SlideRegressor(strength=1.0), OfTimes(strength=1.0)],
    expected_failed_checks=lambda _estimator: EXPECTED,
)
def test_scikit_learns_own_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [SlideProbe(), SlideRegressor(), OfTimes()],
    expected_failed_checks=lambda _estimator: EXPECTED,
)
def test_scikit_learns_own_checks_where_the_strength_is_chosen(
    estimator: Any, check: Callable[[Any], None]
) -> None:
    check(estimator)


def cohort(kind: str) -> tuple[np.ndarray, Task]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(N, DIM)).astype(np.float32)
    patients = tuple(f"p{number // 2:02}" for number in range(N))
    score = x[:, 0] + 0.5 * rng.normal(size=N)
    target: np.ndarray = score
    event = None
    if kind == "classification":
        target = np.digitize(score, np.quantile(score, [1 / 3, 2 / 3])).astype(np.float64)
    if kind == "survival":
        target, event = rng.exponential(np.exp(-score)) + 0.01, rng.random(N) < 0.7
    task = Task(
        name="t", kind=kind, slide_ids=tuple(f"s{number:02}" for number in range(N)),  # type: ignore[arg-type]
        patient_ids=patients, sites=("",) * N,
        classes=("a", "b", "c") if kind == "classification" else (), target=target, event=event,
    )  # fmt: skip
    return x, task


CASES: list[tuple[str, Any, dict[str, Any]]] = [
    ("classification", SlideProbe(), {}),
    ("classification", SlideProbe(strength=10.0, scaling="none"), {}),
    ("classification", SlideProbe(first_block=2, inner_folds=2), {}),
    ("classification", SlideProbe(method="knn", neighbours=5), {}),
    ("classification", SlideProbe(method="prototype"), {}),
    ("regression", SlideRegressor(), {}),
    ("regression", SlideRegressor(method="knn"), {}),
    ("survival", SlideSurvival(), {"method": "cox"}),
    ("survival", SlideSurvival(strength=10.0, l1_ratio=0.5), {"method": "cox"}),
]


@pytest.mark.parametrize(("kind", "estimator", "more"), CASES)
def test_the_numbers_are_those_of_the_probe_on_the_same_folds(
    kind: str, estimator: Any, more: dict[str, Any]
) -> None:
    x, task = cohort(kind)
    parameters = {**estimator.get_params(), **more}
    first_block, seed = parameters.pop("first_block"), parameters.pop("seed")
    splits = make_splits(task, SplitSettings(folds=3))
    vectors = VectorSet(name="v", slide_ids=task.slide_ids, vectors=x, first_block=first_block)
    wanted = run_probe(task, vectors, splits, settings=ProbeSettings(**parameters), seed=seed)
    columns = [f"p_{name}" for name in task.classes] or ["risk" if kind == "survival" else "value"]
    place = {name: row for row, name in enumerate(wanted["slide_id"].to_pylist())}
    names, groups = np.array(["a", "b", "c"]), np.array(task.patient_ids)
    y: np.ndarray = names[task.labels] if kind == "classification" else task.target
    if task.event is not None:
        y = surv(task.target, task.event)
    for split in splits:
        rows = [place[task.slide_ids[row]] for row in split.test]
        said = np.stack([wanted[name].to_numpy()[rows] for name in columns], axis=1)
        train = np.concatenate([split.train, split.val])
        fitted = clone(estimator).fit(x[train], y[train], groups=groups[train])
        found = fitted.predict_proba(x[split.test]) if task.classes else fitted.predict(
            x[split.test]
        )[:, None]  # fmt: skip
        np.testing.assert_allclose(found, said, atol=2e-5)
        if task.classes:
            assert fitted.predict(x[split.test]).tolist() == names[said.argmax(axis=1)].tolist()


def test_groups_decide_the_inner_folds() -> None:
    x, task = cohort("classification")
    groups = np.array(task.patient_ids)
    # copies of one slide: without groups they stand on both sides, and no penalty is best
    doubled, y = np.repeat(x[::2], 2, axis=0), np.repeat(task.labels[::2], 2)
    apart = SlideProbe().fit(doubled, y, groups=groups).chosen_["strength"]
    together = SlideProbe().fit(doubled, y).chosen_["strength"]
    assert apart < together
    with pytest.raises(SettingsError, match="79 groups do not fit 80 slides"):
        SlideProbe().fit(x, task.labels, groups=groups[1:])


def test_groups_reach_it_through_scikit_learns_tools() -> None:
    x, task = cohort("classification")
    y, groups = task.labels, np.array(task.patient_ids)
    alike = {"groups": groups, "cv": GroupKFold(4)}
    scores = cross_val_score(SlideProbe(), x, y, params={"groups": groups}, **alike)
    assert scores.shape == (4,)
    assert scores.mean() > 0.5
    piped = make_pipeline(StandardScaler(), SlideProbe())
    through = cross_val_score(piped, x, y, params={"slideprobe__groups": groups}, **alike)
    # it standardises itself, so that a scaler before it changes nothing
    np.testing.assert_allclose(through, scores, atol=1e-9)
    with config_context(enable_metadata_routing=True):  # the newer way to say it
        asks = SlideProbe().set_fit_request(groups=True)
        routed = cross_val_score(asks, x, y, params={"groups": groups}, cv=GroupKFold(4))
    np.testing.assert_array_equal(routed, scores)
    said = cross_val_predict(
        SlideProbe(strength=1.0), x, y, method="predict_proba", groups=groups, cv=GroupKFold(4)
    )
    np.testing.assert_allclose(said.sum(axis=1), 1)


def test_a_grid_search_sets_its_parameters() -> None:
    x, task = cohort("regression")
    search = GridSearchCV(SlideRegressor(), {"strength": [1.0, 1e6], "scaling": ["none", "l2"]})
    search.fit(x, task.target)
    assert search.best_params_["strength"] == 1.0
    assert search.best_estimator_.score(x, task.target) > 0.5


def test_survival_scores_by_the_c_index_whatever_the_fields_are_called() -> None:
    x, task = cohort("survival")
    assert task.event is not None
    y = surv(task.target, task.event)
    fitted = SlideSurvival().fit(x, y, groups=np.array(task.patient_ids))
    assert fitted.score(x, y) == c_index(task.target, task.event, fitted.predict(x)) > 0.6
    turned = np.array(list(zip(task.target, task.event, strict=True)), dtype=[("d", float), ("s", bool)])  # noqa: E501  # fmt: skip
    np.testing.assert_array_equal(SlideSurvival().fit(x, turned).predict(x),
                                  SlideSurvival().fit(x, y).predict(x))  # fmt: skip
    scores = cross_val_score(SlideSurvival(strength=10.0), x, y, cv=3)
    assert scores.mean() > 0.55


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (np.arange(4.0), "structured array of 4 rows with a bool .event. and a number"),
        (surv(np.ones(3), np.ones(3, bool)), "structured array of 4 rows"),
        (surv(np.array([1.0, 0.0, 2.0, 3.0]), np.ones(4, bool)), "numbers above zero"),
        (surv(np.ones(4), np.zeros(4, bool)), "no event"),
    ],
)
def test_what_is_no_survival_is_refused(y: np.ndarray, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        SlideSurvival(strength=1.0).fit(np.eye(4), y)


def test_unusable_settings_and_labels_are_refused() -> None:
    x = np.eye(4)
    with pytest.raises(SettingsError, match="two classes; got 1 class, 'a'"):
        SlideProbe().fit(x, ["a"] * 4)
    with pytest.raises(SettingsError, match="unknown probe 'logistics'; did you mean"):
        SlideProbe(method="logistics").fit(x, [0, 1, 0, 1])
    with pytest.raises(SettingsError, match="cannot predict a classification"):
        SlideProbe(method="ridge").fit(x, [0, 1, 0, 1])
    with pytest.raises(SettingsError, match="cannot be chosen"):
        SlideProbe().fit(x, [0, 1, 0, 1], groups=["p", "q", "p", "q"])


def test_labels_keep_their_type() -> None:
    x, task = cohort("classification")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for labels in (
            np.array([10, 20, 30]),
            np.array(["x", "y", "z"]),
            np.array([0.0, 1.0, 2.0]),
        ):
            fitted = SlideProbe(strength=1.0).fit(x, labels[task.labels])
            assert fitted.classes_.dtype == labels.dtype
            assert set(fitted.predict(x).tolist()) <= set(labels.tolist())
