"""Pairs: is one method better than another, by the test that the data allow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gigassl.evaluate.blocks import Block, Said
from gigassl.evaluate.bootstrap import Resampled
from gigassl.evaluate.delong import Tested, delong_test
from gigassl.evaluate.intervals import BOOTSTRAP, mean_difference, pooled_difference
from gigassl.evaluate.metrics import Metric
from gigassl.evaluate.significance import ADJUSTMENTS, Adjustment

DELONG = "DeLong"
_POOLED = "pooled"

Results = Mapping[tuple[str, str], Resampled]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A method against the reference in one block.

    Attributes:
        task, split, train_size, level: of the block.
        method, reference: difference = method - reference.
        metric: of which the difference is.
        test: its name.
        estimand: what the difference is of.
        difference, low, high, p: NaN where the data do not tell.
        p_adjusted: for all tests of the same estimand's kind in the comparison.
        family: how many those are.
        n_patients, n_folds: what the test saw; folds where both methods are defined.
    """

    task: str
    split: str
    train_size: str
    level: str
    method: str
    reference: str
    metric: str
    test: str
    estimand: str
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float = float("nan")
    family: int = 0
    n_patients: int
    n_folds: int


def pairs_of(
    block: Block, reference: str, *, metric: Metric, results: Results, alpha: float
) -> list[Pair]:
    """Every method that is no control against the reference, by each test that is valid.

    One fixed test set with one row a patient: DeLong for the AUC of two classes, else the bootstrap
    over patients. Several test sets: the corrected resampled t-test for the mean over folds (with
    fewer than three, the bootstrap), and the bootstrap over patients for the pooled number. One
    test set with several rows a patient, or with several trainings: the bootstrap over patients.
    """
    by_name = {said.method: said for said in block.methods}
    others = [said for said in block.methods if not said.control and said.method != reference]
    return [
        _pair(block, said, by_name[reference], metric=metric, tested=tested)
        for said in others
        for tested in _tests(
            block, (said, by_name[reference]), metric=metric, results=results, alpha=alpha
        )
    ]


def adjusted(pairs: Sequence[Pair], how: Adjustment) -> list[Pair]:
    """The pairs with p-values adjusted for all that ask about the same kind of number.

    A mean over folds and a pooled number are two families: each is read by itself.
    """
    result = list(pairs)
    for family in (_is_pooled, lambda pair: not _is_pooled(pair)):
        _adjust(result, family, how)
    return result


def _is_pooled(pair: Pair) -> bool:
    return pair.estimand.startswith(_POOLED)


def _adjust(pairs: list[Pair], family: Callable[[Pair], bool], how: Adjustment) -> None:
    members = [k for k, pair in enumerate(pairs) if family(pair)]
    values = ADJUSTMENTS[how](np.array([pairs[k].p for k in members], dtype=np.float64))
    for k, value in zip(members, values, strict=True):
        size = int((~np.isnan(values)).sum())
        pairs[k] = replace(pairs[k], p_adjusted=float(value), family=size)


def _tests(
    block: Block, two: tuple[Said, Said], *, metric: Metric, results: Results, alpha: float
) -> list[tuple[str, str, Tested]]:
    ours, theirs = (results[said.method, metric.name] for said in two)
    n_sets = int(block.test_sets.max()) + 1
    if block.one_row_a_patient and metric.name == "auc" and len(block.classes) == 2:
        scores = np.stack([said.output[:, 1] for said in two], axis=1)
        tested = delong_test(block.outcome.labels == 1, scores, alpha=alpha)
        return [(DELONG, f"AUC on one test set of {block.n_patients} patients", tested)]
    how, found = mean_difference(block, ours, theirs, alpha=alpha)
    if n_sets == 1:
        trainings = f", mean over {block.n_folds} trainings" if block.n_folds > 1 else ""
        return [(how, f"{metric.title} on one test set{trainings}", found)]
    pooled = pooled_difference(block, ours, theirs, alpha=alpha)
    return [
        (how, f"mean {metric.title} over {n_sets} test sets", found),
        (BOOTSTRAP, f"{_POOLED} {metric.title} of {block.n_patients} patients", pooled),
    ]


def _pair(
    block: Block, said: Said, reference: Said, *, metric: Metric,
    tested: tuple[str, str, Tested],
) -> Pair:  # fmt: skip
    test, estimand, found = tested
    return Pair(
        task=block.task,
        split=block.split,
        train_size=block.train_size,
        level=block.level,
        method=said.method,
        reference=reference.method,
        metric=metric.name,
        test=test,
        estimand=estimand,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p=found.p,
        n_patients=block.n_patients,
        n_folds=block.n_folds,
    )
