"""Statistics of task subsets, against the published rows and a slow second version."""

import math
from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import SettingsError
from gigassl.evaluate.task_subsets import (
    SubsetRun,
    all_subsets,
    count_merit,
    scores_by_count,
    task_merit,
)
from tests.evaluate.published_subsets import TABLE_B2


def test_the_published_rows_give_the_published_statistics() -> None:
    merits = {task: f"{value:.3f}" for task, value in task_merit(TABLE_B2).items()}
    assert merits == {"colorectal": "0.824", "lymph": "0.319", "mitosis": "0.033",
                      "prostate": "0.077"}  # fmt: skip
    found = [(row.n_tasks, f"{row.mean:.3f}", f"{row.sd:.3f}") for row in scores_by_count(TABLE_B2)]
    assert found == [
        (1, "0.512", "0.038"), (2, "0.566", "0.032"), (3, "0.563", "0.045"), (4, "0.588", "0.013"),
    ]  # fmt: skip
    assert f"{count_merit(TABLE_B2):.3f}" == "0.575"
    assert [row.n_runs for row in scores_by_count(TABLE_B2)] == [4, 6, 4, 4]


def slow_ranks(values: list[float]) -> list[float]:
    """Rank of each: how many are below it, and half of those beside it."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def slow_spearman(first: list[float], second: list[float]) -> float:
    a, b = np.array(slow_ranks(first)), np.array(slow_ranks(second))
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))


@given(st.lists(st.integers(0, 20), min_size=7, max_size=7))
def test_merits_are_rank_correlations(scores: list[int]) -> None:
    runs = [
        SubsetRun(tasks=tasks, score=score / 20)
        for tasks, score in zip(all_subsets("abc"), scores, strict=True)
    ]
    values = [run.score for run in runs]
    for task, merit in task_merit(runs).items():
        if len(set(scores)) == 1:
            assert math.isnan(merit)
        else:
            wanted = slow_spearman([float(task in run.tasks) for run in runs], values)
            assert merit == pytest.approx(wanted, abs=1e-12)
    if len(set(scores)) > 1:
        counts = [float(len(run.tasks)) for run in runs]
        assert count_merit(runs) == pytest.approx(slow_spearman(counts, values), abs=1e-12)


def test_all_subsets_are_each_there_once() -> None:
    found = all_subsets("abcd")
    wanted = chain.from_iterable(combinations("abcd", n) for n in range(1, 5))
    assert len(found) == len(set(found)) == 15
    assert set(found) == {frozenset(each) for each in wanted}


def test_a_task_that_all_runs_had_has_no_merit_and_one_run_no_spread() -> None:
    runs = [
        SubsetRun(tasks=frozenset("ab"), score=0.5),
        SubsetRun(tasks=frozenset("a"), score=0.4),
    ]
    merits = task_merit(runs)
    assert math.isnan(merits["a"])
    assert merits["b"] == pytest.approx(1.0)
    assert all(math.isnan(row.sd) for row in scores_by_count(runs))


@pytest.mark.parametrize(("tasks", "score"), [("", 0.5), ("a", math.nan)])
def test_runs_without_task_or_score_are_refused(tasks: str, score: float) -> None:
    with pytest.raises(SettingsError, match="at least one task and a score that is a number"):
        SubsetRun(tasks=frozenset(tasks), score=score)
