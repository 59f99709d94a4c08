"""Pairs: is one method better than another, by the test that the data allow."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from gigassl.evaluate.blocks import Block, Said
from gigassl.evaluate.bootstrap import Resampled, interval, mean_of_known
from gigassl.evaluate.delong import Tested, delong_test
from gigassl.evaluate.metrics import Metric
from gigassl.evaluate.significance import (
    ADJUSTMENTS,
    Adjustment,
    bootstrap_p,
    corrected_resampled_t,
)

DELONG, RESAMPLED_T, BOOTSTRAP = "DeLong", "corrected resampled t", "patient bootstrap"

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
    over patients. Several test sets: the corrected resampled t-test for the mean over folds, and
    the bootstrap over patients for the pooled number. One test set with several rows a patient, or
    with several trainings: the bootstrap over patients.
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


def bootstrapped(
    ours: Resampled, theirs: Resampled, *, pooled: bool, n_patients: int, alpha: float
) -> Tested:
    """The difference of two methods on the same draws of patients."""
    if pooled:
        difference, draws = ours.pooled - theirs.pooled, ours.pooled_draws - theirs.pooled_draws
    else:
        difference, draws = ours.mean - theirs.mean, ours.fold_mean - theirs.fold_mean
    low, high = interval(draws, n_patients=n_patients, alpha=alpha)
    p = bootstrap_p(draws, n_patients=n_patients) if not math.isnan(low) else float("nan")
    return Tested(difference=difference, low=low, high=high, p=p)


def adjusted(pairs: Sequence[Pair], how: Adjustment) -> list[Pair]:
    """The pairs with p-values adjusted for all that ask about the same kind of number.

    A mean over folds and a pooled number are two families: each is read by itself.
    """
    result = list(pairs)
    for family in (lambda p: p.test == BOOTSTRAP, lambda p: p.test != BOOTSTRAP):
        _adjust(result, family, how)
    return result


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
    if n_sets == 1:
        what = "on one test set" + (
            f", mean over {block.n_folds} trainings" if block.n_folds > 1 else ""
        )
        tested = bootstrapped(ours, theirs, pooled=False, n_patients=block.n_patients, alpha=alpha)
        return [(BOOTSTRAP, f"{metric.title} {what}", tested)]
    by_set = _by_test_set(block, ours.folds - theirs.folds)
    t = corrected_resampled_t(by_set, test_over_train=correction_ratio(block), alpha=alpha)
    pooled = bootstrapped(ours, theirs, pooled=True, n_patients=block.n_patients, alpha=alpha)
    return [
        (RESAMPLED_T, f"mean {metric.title} over {n_sets} test sets", t),
        (BOOTSTRAP, f"pooled {metric.title} of {block.n_patients} patients", pooled),
    ]


def _by_test_set(block: Block, values: Float64[np.ndarray, " fold"]) -> Float64[np.ndarray, " set"]:
    """Mean over the trainings for each test set: they are repeats, not further test sets."""
    sets = range(int(block.test_sets.max()) + 1)
    return np.array([mean_of_known(values[block.test_sets == k][None])[0] for k in sets])


def correction_ratio(block: Block) -> float:
    """Slides of a test set over those that it was drawn beside.

    That share is how much two random test sets have in common, which is what the correction is for
    (rho / (1 - rho) with rho = tested / all; Nadeau & Bengio). Few-shot trainings learn from few of
    the slides that were there, so these count, not the few. NaN where neither is known.
    """
    tested = float(np.mean(np.bincount(block.folds)))
    beside = block.n_slides - tested
    known = block.n_train[~np.isnan(block.n_train)]
    trained = max(beside, float(known.mean()) if len(known) else 0.0)
    return tested / trained if trained > 0 else float("nan")


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
