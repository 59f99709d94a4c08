"""Which slides a slide encoder may learn from before a split is tested."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gigassl.evaluate.pretraining_sets import Scope, pretraining_sets
from gigassl.evaluate.splits import SplitSettings, make_splits
from gigassl.evaluate.task import Task


def task_of(n_patients: int, *, slides_each: int = 2) -> Task:
    patients = [f"p{number}" for number in range(n_patients) for _ in range(slides_each)]
    return Task(
        name="t",
        kind="classification",
        slide_ids=tuple(f"s{number}" for number in range(len(patients))),
        patient_ids=tuple(patients),
        sites=("",) * len(patients),
        classes=("a", "b"),
        target=np.repeat(np.arange(n_patients) % 2, slides_each).astype(np.float64),
    )


@settings(max_examples=30, deadline=None)
@given(
    n_patients=st.integers(12, 30),
    folds=st.integers(2, 4),
    sizes=st.sampled_from([("full",), ("full", "k=3"), ("k=2", "k=3")]),
    scope=st.sampled_from(["fold", "split"]),
    validation=st.sampled_from([0.0, 0.25]),
)
def test_every_split_has_one_set_without_its_test_slides_or_their_patients(
    n_patients: int, folds: int, sizes: tuple[str, ...], scope: Scope, validation: float
) -> None:
    task = task_of(n_patients)
    chosen = SplitSettings(folds=folds, train_sizes=sizes, draws=2, validation=validation)
    splits = make_splits(task, chosen)
    found = pretraining_sets(task, splits, scope=scope)
    assert sorted(number for each in found for number in each.splits) == list(range(len(splits)))
    for each in found:
        seen = {task.patient_ids[row] for row in each.rows}
        assert list(each.rows) == sorted(set(each.rows.tolist()))
        for number in each.splits:
            split = splits[number]
            assert not seen & {task.patient_ids[row] for row in split.test}
            learned = {*split.train.tolist(), *split.val.tolist()}
            if scope == "split":
                assert set(each.rows.tolist()) == learned
            else:  # all that is not tested
                assert learned <= set(each.rows.tolist())
                assert len(each.rows) + len(split.test) == len(task)


@pytest.mark.parametrize(("scope", "expected"), [("fold", 3), ("split", 9)])
def test_few_shot_splits_of_a_fold_share_one_training(scope: Scope, expected: int) -> None:
    task = task_of(12)
    wanted = SplitSettings(folds=3, train_sizes=("full", "k=4"), draws=2)
    found = pretraining_sets(task, make_splits(task, wanted), scope=scope)
    assert len(found) == expected
