"""Which tasks make a multitask encoder useful: scores of encoders trained on subsets of tasks."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from gigassl.errors import SettingsError
from gigassl.evaluate.metrics import spearman


@dataclass(frozen=True, kw_only=True)
class SubsetRun:
    """An encoder trained on some tasks, and what it was worth on another one.

    Attributes:
        tasks: that it was trained on.
        score: of what was learned from its vectors; higher is better.
    """

    tasks: frozenset[str]
    score: float

    def __post_init__(self) -> None:
        if not self.tasks or not math.isfinite(self.score):
            raise SettingsError(
                "a run has at least one task and a score that is a number; got "
                f"{sorted(self.tasks)} and {self.score}"
            )


@dataclass(frozen=True, kw_only=True)
class CountScore:
    """The scores of all runs with so many tasks.

    Attributes:
        n_tasks: how many tasks each had.
        n_runs: how many runs there were.
        mean: of their scores.
        sd: their standard deviation, of a sample; NaN of a single run.
    """

    n_tasks: int
    n_runs: int
    mean: float
    sd: float


def all_subsets(tasks: Sequence[str]) -> list[frozenset[str]]:
    """Every subset but the empty one, small ones first.

    >>> [sorted(subset) for subset in all_subsets("ab")]
    [['a'], ['b'], ['a', 'b']]
    """
    return [frozenset(few) for n in range(1, len(tasks) + 1) for few in combinations(tasks, n)]


def scores_by_count(runs: Sequence[SubsetRun]) -> tuple[CountScore, ...]:
    """Mean and spread of the scores by number of tasks, few tasks first.

    As in figure 3 of Tellez et al., Extending Unsupervised Neural Image Compression With
    Supervised Multitask Learning (MIDL 2020, PMLR 121:770-783).
    """
    found: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        found[len(run.tasks)].append(run.score)
    return tuple(
        CountScore(
            n_tasks=count, n_runs=len(scores), mean=float(np.mean(scores)),
            sd=float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan,
        )
        for count, scores in sorted(found.items())
    )  # fmt: skip


def task_merit(runs: Sequence[SubsetRun]) -> Mapping[str, float]:
    """Task → Spearman's correlation of "was trained on it" with the score, over all runs.

    NaN for a task that all runs had or none of the others; also where all scores are equal. The
    same publication; runs are not independent, so no p-value belongs to it.
    """
    scores = np.array([run.score for run in runs])
    return {
        task: spearman(scores, np.array([float(task in run.tasks) for run in runs]))
        for task in sorted({task for run in runs for task in run.tasks})
    }


def count_merit(runs: Sequence[SubsetRun]) -> float:
    """Spearman's correlation of the number of tasks with the score, over all runs."""
    counts = np.array([float(len(run.tasks)) for run in runs])
    return spearman(np.array([run.score for run in runs]), counts)
