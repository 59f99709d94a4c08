"""Logistic probe: regressions of many training sets, their strengths chosen inside, in one go."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from gigassl.evaluate.fitted_probe import FittedProbe
from gigassl.evaluate.logistic import (
    LogisticFits,
    LogisticProblems,
    row_weights,
    solve_logistic,
)
from gigassl.evaluate.probe_data import ProbeData, choice_of


@dataclass(frozen=True, kw_only=True, eq=False)
class _InnerFold:
    """One inner fold: of which training set, rows learned from, rows held out."""

    number: int
    kept: Int64[np.ndarray, " kept"]
    held: Int64[np.ndarray, " held"]


def fit_logistic(data: ProbeData, trains: Sequence[Int64[np.ndarray, " _"]]) -> list[FittedProbe]:
    """L2-penalised logistic regressions; C, and the weight of a second stream, chosen by log loss.

    The loss is summed over inner folds of patients of the training set, with the classes weighted
    as in training.

    Raises:
        SettingsError: C is to be chosen, and a class of a training set has a single patient.
    """
    factors = np.stack([data.columns(train)[1] for train in trains])
    strengths, weights = np.array(data.settings.grid), data.weights
    if len(strengths) * len(weights) == 1:
        chosen = np.zeros(len(trains), dtype=np.int64)
    else:
        chosen = _chosen(data, trains, factors=factors)
    found: list[FittedProbe] = [None] * len(trains)  # type: ignore[list-item]  # all are filled
    for place, weight in enumerate(weights):
        members = np.flatnonzero(chosen // len(strengths) == place)
        if not len(members):
            continue
        block = data.block_factors(weight)
        strength = strengths[chosen[members] % len(strengths)]
        sets = [_weights(data, trains[k]) for k in members.tolist()]
        fits = _solved(data, factors[members] * block, sets=sets, strengths=strength[:, None])
        for row, k in enumerate(members):
            facts = {"strength": float(strength[row]), "block_weight": weight}
            found[k] = _probe(data, fits, row, chosen=facts)
    return found


def _weights(data: ProbeData, train: Int64[np.ndarray, " train"]) -> Float64[np.ndarray, " slide"]:
    return row_weights(data.task.labels, train, balanced=data.settings.balanced)


def _solved(
    data: ProbeData, factors: Float64[np.ndarray, "set dim"], *,
    sets: Sequence[Float64[np.ndarray, " _"]], strengths: Float64[np.ndarray, "set strength"],
) -> LogisticFits:  # fmt: skip
    """Every training set with each of its strengths; strengths of one set follow each other."""
    number = np.repeat(np.arange(len(sets)), strengths.shape[1])
    with np.errstate(divide="ignore"):
        penalties, penalty_of = np.unique(1 / factors**2, axis=0, return_inverse=True)
    problems = LogisticProblems(
        n_classes=len(data.task.classes),
        labels=data.task.labels[None],
        weights=np.stack(sets),
        penalties=penalties,
        label_of=np.zeros_like(number),
        weight_of=number,
        penalty_of=penalty_of[number],
        strengths=strengths.ravel(),
    )
    return solve_logistic(data.rows, problems)


def _probe(
    data: ProbeData, fits: LogisticFits, number: int, *, chosen: dict[str, float]
) -> FittedProbe:
    dim = data.rows.shape[1]
    return FittedProbe(
        method="logistic",
        unit_norm=data.settings.scaling_used == "l2",
        centre=np.zeros(dim),
        factors=np.ones(dim),
        coefficients=fits.coefficients[number],
        intercepts=fits.intercepts[number],
        chosen=chosen,
    )


def _chosen(
    data: ProbeData, trains: Sequence[Int64[np.ndarray, " _"]], *,
    factors: Float64[np.ndarray, "set dim"],
) -> Int64[np.ndarray, " set"]:  # fmt: skip
    """Of each training set, which of all weights × strengths has the lowest loss."""
    folds = _inner_folds(data, trains)
    strengths = np.tile(np.array(data.settings.grid), (len(folds), 1))
    sets = [_weights(data, fold.kept) for fold in folds]
    owner = [fold.number for fold in folds]
    losses = []
    for weight in data.weights:
        scaled = factors[owner] * data.block_factors(weight)
        fits = _solved(data, scaled, sets=sets, strengths=strengths)
        losses.append(_losses(data, fits, folds=folds, n_sets=len(trains)))
    return np.array([choice_of(row) for row in np.concatenate(losses, axis=1)])


def _inner_folds(data: ProbeData, trains: Sequence[Int64[np.ndarray, " _"]]) -> list[_InnerFold]:
    folds = []
    for number, train in enumerate(trains):
        parts = data.inner_parts(train)
        if not parts:
            raise data.no_choice()
        folds += [_InnerFold(number=number, kept=train[~out], held=train[out]) for out in parts]
    return folds


def _losses(
    data: ProbeData, fits: LogisticFits, *, folds: Sequence[_InnerFold], n_sets: int
) -> Float64[np.ndarray, "set strength"]:
    width = len(data.settings.grid)
    total = np.zeros((n_sets, width))
    for place, fold in enumerate(folds):
        labels = data.task.labels[fold.held]
        weights = row_weights(labels, np.arange(len(labels)), balanced=data.settings.balanced)
        for k in range(width):
            said = fits.probabilities(data.rows[fold.held], place * width + k)
            # a class that an inner fold never met costs the same with every strength
            of_truth = np.maximum(said[np.arange(len(labels)), labels], 1e-300)
            total[fold.number, k] -= weights @ np.log(of_truth)
    return total
