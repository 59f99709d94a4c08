"""Standing: the best method is ahead only where every test says so."""

import numpy as np
import pytest

from gigassl.evaluate.comparison import CompareSettings, compare
from gigassl.evaluate.predictions import Method
from gigassl.evaluate.standing import best_first, standing
from tests.evaluate.prediction_tables import folds_of, holdout_of, predictions_of, task_of

SETTINGS = CompareSettings(draws=100)


def test_a_far_better_method_is_ahead_and_its_twin_is_not() -> None:
    task = task_of([0, 1] * 30)
    names = [(Method(name="weak"), 0.1), (Method(name="strong"), 3.0), (Method(name="twin"), 2.9)]
    for methods, ahead in ((names[:2], True), (names, False)):
        found = compare([predictions_of(task, folds_of(task), methods)], settings=SETTINGS)
        said = standing(found.tables[0], found.metric, settings=SETTINGS)
        assert said is not None
        assert said.ahead is ahead
        assert said.best == best_first(found.tables[0], found.metric)[0].method
        # the test is that of `compare` against the best
        against = compare(
            [predictions_of(task, folds_of(task), methods)],
            settings=CompareSettings(draws=100, reference=said.best),
        )
        tests = [pair for pair in against.pairs if not pair.estimand.startswith("pooled")]
        assert said.p == max(pair.p for pair in tests)
        assert ahead == all(pair.p < 0.05 for pair in tests)


def test_a_single_test_set_is_delongs() -> None:
    task = task_of([0, 1] * 40)
    methods = [(Method(name="a"), 2.0), (Method(name="b"), 0.2)]
    found = compare([predictions_of(task, holdout_of(task), methods)], settings=SETTINGS)
    said = standing(found.tables[0], found.metric, settings=SETTINGS)
    assert said is not None
    assert (said.best, said.rival, said.test, said.ahead) == ("a", "b", "DeLong", True)
    assert said.p == pytest.approx(found.pairs[0].p)


def test_controls_take_no_part_and_stand_below() -> None:
    task = task_of([0, 1] * 30)
    methods = [(Method(name="count", control="tile-count"), 3.0), (Method(name="a"), 0.2)]
    found = compare([predictions_of(task, folds_of(task), methods)], settings=SETTINGS)
    table = found.tables[0]
    assert standing(table, found.metric, settings=SETTINGS) is None
    rows = best_first(table, found.metric)
    assert [row.method for row in rows] == ["a", "count"]
    assert rows[1].scores["auc"].mean > rows[0].scores["auc"].mean


def test_the_best_loss_is_the_lowest() -> None:
    task = task_of([0, 1] * 30)
    methods = [(Method(name="a"), 0.1), (Method(name="b"), 3.0)]
    found = compare(
        [predictions_of(task, folds_of(task), methods)],
        settings=CompareSettings(draws=100, metric="log_loss"),
    )
    rows = best_first(found.tables[0], found.metric)
    assert np.diff([row.scores["log_loss"].mean for row in rows]) > 0
