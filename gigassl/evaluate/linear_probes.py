"""Ridge and Cox probes: linear models whose strength is chosen inside each training set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.cox import cox_path, log_likelihood, risk_sets
from gigassl.evaluate.fitted_probe import FittedProbe
from gigassl.evaluate.narrow import narrowed
from gigassl.evaluate.probe_data import ProbeData, choice_of
from gigassl.evaluate.ridge import ridge_path
from gigassl.evaluate.task import Task

_Coefficients = Float64[np.ndarray, "strength dim"]
_Intercepts = Float64[np.ndarray, " strength"]
_Path = Callable[[np.ndarray, Task, Sequence[float]], tuple[_Coefficients, _Intercepts]]
_Losses = Callable[[np.ndarray, Task, np.ndarray], Float64[np.ndarray, " strength"]]


@dataclass(frozen=True, kw_only=True)
class _Family:
    """A linear model: coefficients for all strengths, and the loss of their scores.

    Attributes:
        path: of rows and their task, for each strength.
        losses: of scores of all training rows, one column a strength, where some are held out.
    """

    method: str
    path: _Path
    losses: _Losses


def fit_ridge(data: ProbeData, trains: Sequence[Int64[np.ndarray, " _"]]) -> list[FittedProbe]:
    """Ridge regressions; the penalty is chosen by the squared error of inner folds."""
    family = _Family(
        method="ridge",
        path=lambda rows, part, strengths: ridge_path(rows, part.target, strengths),
        losses=_squared_errors,
    )
    return [_fit(data, train, family) for train in trains]


def fit_cox(data: ProbeData, trains: Sequence[Int64[np.ndarray, " _"]]) -> list[FittedProbe]:
    """Cox regressions; the penalty is chosen by the cross-validated partial likelihood.

    That is what the held-out patients add to the likelihood of all (Verweij & van Houwelingen
    1993).

    Raises:
        SettingsError: a training set without events.
    """
    family = _Family(
        method="cox",
        path=lambda rows, part, strengths: _cox_path(data, rows, part=part, strengths=strengths),
        losses=_lost_likelihood,
    )
    return [_fit(data, train, family) for train in trains]


def _squared_errors(
    scores: Float64[np.ndarray, "row strength"], part: Task, held: Bool[np.ndarray, " row"]
) -> Float64[np.ndarray, " strength"]:
    errors: Float64[np.ndarray, " strength"] = ((scores[held] - part.target[held, None]) ** 2).sum(
        axis=0
    )
    return errors


def _events(part: Task) -> Bool[np.ndarray, " row"]:
    if part.event is None or not part.event.any():
        raise SettingsError(
            f"task '{part.name}': a training set has no event, so that nothing can be learned; "
            "take fewer folds or more training slides"
        )
    return part.event


def _cox_path(
    data: ProbeData, rows: Float64[np.ndarray, "row dim"], *, part: Task,
    strengths: Sequence[float],
) -> tuple[_Coefficients, _Intercepts]:  # fmt: skip
    sets = risk_sets(part.target, _events(part))
    found = cox_path(rows, sets, strengths, l1_ratio=data.settings.l1_ratio)
    return found, np.zeros(len(found))


def _lost_likelihood(
    scores: Float64[np.ndarray, "row strength"], part: Task, held: Bool[np.ndarray, " row"]
) -> Float64[np.ndarray, " strength"]:
    every, kept = np.arange(len(part)), np.flatnonzero(~held)
    lost = [
        _likelihood(scores[kept, k], part, rows=kept) - _likelihood(scores[:, k], part, rows=every)
        for k in range(scores.shape[1])
    ]
    return np.array(lost)


def _likelihood(
    scores: Float64[np.ndarray, " row"], part: Task, *, rows: Int64[np.ndarray, " row"]
) -> float:
    some = part.rows(rows)
    return log_likelihood(scores, risk_sets(some.target, _events(some)))


def _fit(data: ProbeData, train: Int64[np.ndarray, " train"], family: _Family) -> FittedProbe:
    part = data.task.rows(train)
    centre, factors = data.columns(train)
    strengths = data.settings.grid
    weight, place = data.weights[0], 0
    if len(strengths) * len(data.weights) > 1:
        weight, place = _choice(data, train, family)
    scale = factors * data.block_factors(weight)
    rows = (data.rows[train] - centre) * scale
    coefficients, intercepts = family.path(rows, part, strengths[place : place + 1])
    return FittedProbe(
        method=family.method,
        unit_norm=data.settings.scaling_used == "l2",
        centre=centre,
        factors=scale,
        coefficients=coefficients,
        intercepts=intercepts,
        chosen={"strength": strengths[place], "block_weight": weight},
    )


def _choice(
    data: ProbeData, train: Int64[np.ndarray, " train"], family: _Family
) -> tuple[float, int]:
    """Weight of the second stream, and place of the strength, with the lowest loss inside."""
    part, held_out = data.task.rows(train), data.inner_parts(train)
    if not held_out:
        raise data.no_choice()
    centre, factors = data.columns(train)
    losses = np.zeros((len(data.weights), len(data.settings.grid)))
    for number, weight in enumerate(data.weights):
        rows = (data.rows[train] - centre) * factors * data.block_factors(weight)
        if not data.settings.l1_ratio:
            rows = narrowed(rows).rows
        for held in held_out:
            kept = part.rows(np.flatnonzero(~held))
            coefficients, intercepts = family.path(rows[~held], kept, data.settings.grid)
            losses[number] += family.losses(rows @ coefficients.T + intercepts, part, held)
    best = choice_of(losses.ravel())
    number, place = divmod(best, len(data.settings.grid))
    return data.weights[number], place
