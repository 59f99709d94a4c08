from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import SettingsError
from gigassl.evaluate.shots import few_shots
from gigassl.evaluate.split import FULL, Split
from gigassl.evaluate.splits import SplitSettings, make_splits
from gigassl.evaluate.task import Task
from tests.evaluate.examples import small_task

SETTINGS = SplitSettings(folds=3, train_sizes=("4", "k=5", "50%", FULL), draws=3, seed=4)


def wholes_of(task: Task, settings: SplitSettings) -> tuple[Split, ...]:
    return make_splits(task, replace(settings, train_sizes=(FULL,), draws=1))


@given(st.integers(0, 50), st.integers(20, 60))
def test_draws_are_those_of_make_splits(seed: int, n: int) -> None:
    task = small_task(n=2 * n)
    settings = replace(SETTINGS, seed=seed, repeats=2)
    expected = make_splits(task, settings)
    found = few_shots(task, wholes_of(task, settings), settings=settings)
    assert [s.title for s in found.splits] == [s.title for s in expected]
    for ours, theirs in zip(found.splits, expected, strict=True):
        np.testing.assert_array_equal(ours.train, theirs.train)
        np.testing.assert_array_equal(ours.test, theirs.test)
    assert found.sizes == settings.train_sizes
    assert found.notes == ()


def test_draws_nest_and_test_sets_stay() -> None:
    task = small_task(n=60)
    wholes = wholes_of(task, SETTINGS)
    found = few_shots(task, wholes, settings=SETTINGS)
    for whole in wholes:
        for draw in range(SETTINGS.draws):
            mine = {s.train_size: s for s in found.splits if (s.fold, s.draw) == (whole.fold, draw)}
            for smaller, larger in (("4", "k=5"), ("k=5", "50%")):
                assert set(mine[smaller].train) < set(mine[larger].train)
            for split in mine.values():
                np.testing.assert_array_equal(split.test, whole.test)
                assert set(split.train) <= set(whole.train)


def test_patients_of_published_lists_who_are_tested_are_not_learned_from() -> None:
    task = small_task(n=40)  # slides 2k and 2k + 1 are one patient's
    leaky = Split(scheme="list", train=np.arange(11, 40), test=np.arange(0, 11))
    found = few_shots(task, [leaky], settings=replace(SETTINGS, draws=1))
    for split in found.splits:
        assert 11 not in split.train
    assert "left out 1 training slides" in found.notes[0]


def test_sizes_that_a_training_set_cannot_give_are_named() -> None:
    task = small_task(n=24)
    settings = replace(SETTINGS, train_sizes=("4", "100", "k=10", FULL))
    found = few_shots(task, wholes_of(task, settings), settings=settings)
    assert found.sizes == ("4", FULL)
    assert {s.train_size for s in found.splits} == {"4", FULL}
    assert ["100" in found.notes[0], "k=10" in found.notes[1]] == [True, True]
    assert "give smaller sizes" in found.notes[0]
    with pytest.raises(SettingsError, match="left out training size 100"):
        few_shots(task, wholes_of(task, settings), settings=replace(settings, train_sizes=("100",)))
