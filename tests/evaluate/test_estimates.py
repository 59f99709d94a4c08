import numpy as np
import pytest

from gigassl.evaluate.bootstrap import BootstrapSettings
from gigassl.evaluate.estimates import Estimator
from gigassl.evaluate.metrics import auc, chosen_metric
from gigassl.evaluate.predictions import Method, Predictions, joined, rows_of_split
from gigassl.evaluate.split import Split
from gigassl.evaluate.splits import SplitSettings, make_splits
from gigassl.evaluate.task import Task
from tests.evaluate.examples import small_task

TASK = small_task(n=80)
SCORES = np.random.default_rng(0).random(80) * 0.6 + 0.4 * TASK.target


def predicted(splits: tuple[Split, ...], scores: np.ndarray = SCORES) -> Predictions:
    def rows(split: Split) -> np.ndarray:
        return np.stack([1 - scores[split.test], scores[split.test]], axis=1)

    tables = [rows_of_split(TASK, s, rows(s), method=Method(name="a")) for s in splits]
    return joined("classification", tables, provenance={})


def folds(task: Task, *, seed: int) -> tuple[Split, ...]:
    return make_splits(task, SplitSettings(folds=4, seed=seed))


def estimator() -> Estimator:
    metric = chosen_metric("classification", "auc")
    return Estimator(TASK, metric, settings=BootstrapSettings(draws=200))


def test_a_value_is_the_mean_over_folds() -> None:
    splits = folds(TASK, seed=0)
    found = estimator().value(predicted(splits))
    both = np.stack([1 - SCORES, SCORES], axis=1)
    by_hand = [auc(TASK.labels[s.test], both[s.test]) for s in splits]
    assert found.value == pytest.approx(np.mean(by_hand))
    assert found.low < found.value < found.high


def test_equal_predictions_have_no_difference_whatever_the_order_of_their_folds() -> None:
    splits = folds(TASK, seed=0)
    found = estimator().difference(predicted(splits), predicted(splits[::-1]))
    assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0))


def test_a_difference_is_paired_across_other_folds() -> None:
    one, other = predicted(folds(TASK, seed=0)), predicted(folds(TASK, seed=1), SCORES**2)
    difference, value = estimator().difference(one, other), estimator().value(one)
    # the ranks are nearly the same, so the difference moves less than either value
    assert difference.high - difference.low < value.high - value.low
    assert difference.value == pytest.approx(value.value - estimator().value(other).value)
