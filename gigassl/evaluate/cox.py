"""Cox's proportional hazards: penalised partial likelihood with Efron's ties."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from gigassl.errors import GigasslError
from gigassl.evaluate.narrow import narrowed

_NEWTON_STEPS, _PROXIMAL_STEPS = 100, 20_000
_TOLERANCE = 1e-8  # of the Newton decrement: twice the gap of the likelihood is its square


@dataclass(frozen=True, kw_only=True, eq=False)
class RiskSets:
    """Who was at risk when; rows count from the longest time to the shortest.

    Every event is one term of the likelihood: the log of the sum of the hazards of those at risk,
    less, among events of one time, a share of the hazards of those events (Efron 1977).

    Attributes:
        order: rows of the table, longest time first.
        event: rows, in that order, that are events; one a term.
        end: of each term, how many ordered rows were at risk.
        tie: of each term, number of its time among the times with events.
        share: of each term, share of its time's events that it leaves out.
    """

    order: Int64[np.ndarray, " row"]
    event: Int64[np.ndarray, " term"]
    end: Int64[np.ndarray, " term"]
    tie: Int64[np.ndarray, " term"]
    share: Float64[np.ndarray, " term"]

    def sums(self, values: Float64[np.ndarray, "row ..."]) -> Float64[np.ndarray, "term ..."]:
        """Sums over those at risk, of values of the ordered rows."""
        total = np.cumsum(values, axis=0)[self.end - 1]
        return np.asarray(total - _scaled(self.share, self._of_ties(values[self.event])[self.tie]))

    def spread(self, values: Float64[np.ndarray, " term"]) -> Float64[np.ndarray, " row"]:
        """For each ordered row, the sum over the terms in which it was at risk."""
        begun = np.zeros(len(self.order) + 1)
        np.add.at(begun, self.end, values)
        rows: Float64[np.ndarray, " row"] = np.cumsum(begun[::-1])[::-1][1:].copy()
        rows[self.event] -= self._of_ties(self.share * values)[self.tie]
        return rows

    def _of_ties(self, values: Float64[np.ndarray, "term ..."]) -> Float64[np.ndarray, "tie ..."]:
        # terms of one time stand together
        first = np.flatnonzero(np.diff(self.tie, prepend=-1))
        sums: Float64[np.ndarray, "tie ..."] = np.add.reduceat(values, first, axis=0)
        return sums


def _scaled(
    share: Float64[np.ndarray, " term"], values: Float64[np.ndarray, "term ..."]
) -> Float64[np.ndarray, "term ..."]:
    return np.asarray(values * share.reshape(-1, *[1] * (values.ndim - 1)))


def risk_sets(time: Float64[np.ndarray, " row"], event: Bool[np.ndarray, " row"]) -> RiskSets:
    """The risk sets of times under observation, at whose end an event was seen or not."""
    order = np.argsort(-time, kind="stable")
    ordered, happened = time[order], np.flatnonzero(event[order])
    times, tie, counts = np.unique(-ordered[happened], return_inverse=True, return_counts=True)
    rank = np.arange(len(tie)) - (np.cumsum(counts) - counts)[tie]
    return RiskSets(
        order=order,
        event=happened,
        end=np.searchsorted(-ordered, times, side="right")[tie],
        tie=tie.astype(np.int64),
        share=rank / counts[tie],
    )


def log_likelihood(scores: Float64[np.ndarray, " row"], sets: RiskSets) -> float:
    """Log partial likelihood of scores (log hazards), Efron's for ties."""
    ordered = scores[sets.order]
    top = ordered.max()
    at_risk = sets.sums(np.exp(ordered - top))
    return float(ordered[sets.event].sum() - (np.log(at_risk) + top).sum())


def _score_slopes(
    scores: Float64[np.ndarray, " row"], sets: RiskSets
) -> tuple[Float64[np.ndarray, " row"], Float64[np.ndarray, " row"], Float64[np.ndarray, " term"]]:
    """Of the ordered rows: slopes of minus the log likelihood, expected events; sums at risk."""
    ordered = scores[sets.order]
    hazard = np.exp(ordered - ordered.max())
    at_risk = sets.sums(hazard)
    expected = hazard * sets.spread(1 / at_risk)
    slopes = expected.copy()
    slopes[sets.event] -= 1
    return slopes, expected, at_risk


def cox_path(
    rows: Float64[np.ndarray, "row dim"], sets: RiskSets, strengths: Sequence[float], *,
    l1_ratio: float = 0.0,
) -> Float64[np.ndarray, "strength dim"]:  # fmt: skip
    """Coefficients that minimise strength · penalty less the log partial likelihood.

    The penalty is l1_ratio · Σ|c| + (1 - l1_ratio) · Σc² / 2. With n rows, lifelines calls
    strength / n the penalizer.

    Raises:
        GigasslError: one did not converge.
    """
    # strongest penalty first: each start is near its minimum
    order = np.argsort(-np.array(strengths), kind="stable")
    narrow = None if l1_ratio else narrowed(rows)
    ordered = (rows if narrow is None else narrow.rows)[sets.order]
    found = np.zeros((len(strengths), ordered.shape[1]))
    start = np.zeros(ordered.shape[1])
    for place in order:
        strength = strengths[place]
        if l1_ratio:
            start = _elastic(ordered, sets, strength, l1_ratio=l1_ratio, start=start)
        else:
            start = _newton(ordered, sets, strength, start=start)
        found[place] = start
    return found if narrow is None else narrow.widened(found)


def _unsorted(sets: RiskSets, ordered: Float64[np.ndarray, " row"]) -> Float64[np.ndarray, " row"]:
    scores = np.empty_like(ordered)
    scores[sets.order] = ordered
    return scores


def _newton(
    rows: Float64[np.ndarray, "row dim"], sets: RiskSets, strength: float, *,
    start: Float64[np.ndarray, " dim"],
) -> Float64[np.ndarray, " dim"]:  # fmt: skip
    """Newton's method with halved steps; ``rows`` are in the order of the risk sets."""
    point = start
    value = _ridge_value(rows, sets, strength, point=point)
    for _ in range(_NEWTON_STEPS):
        slope, second = _derivatives(rows, sets, strength, point=point)
        move = np.linalg.solve(second, slope)
        decrement = float(slope @ move)
        if decrement < _TOLERANCE**2 * max(1.0, abs(value)):
            return point
        step = 1.0
        while True:
            trial = point - step * move
            new = _ridge_value(rows, sets, strength, point=trial)
            if new <= value - 0.25 * step * decrement or step * decrement < 1e-12 * abs(value):
                break
            step /= 2
        point, value = trial, new
    raise _unfinished(strength)


def _ridge_value(
    rows: Float64[np.ndarray, "row dim"], sets: RiskSets, strength: float, *,
    point: Float64[np.ndarray, " dim"],
) -> float:  # fmt: skip
    scores = _unsorted(sets, rows @ point)
    return float(strength / 2 * point @ point) - log_likelihood(scores, sets)


def _derivatives(
    rows: Float64[np.ndarray, "row dim"], sets: RiskSets, strength: float, *,
    point: Float64[np.ndarray, " dim"],
) -> tuple[Float64[np.ndarray, " dim"], Float64[np.ndarray, "dim dim"]]:  # fmt: skip
    """Slope and second derivative of what Newton's method minimises."""
    scores = _unsorted(sets, rows @ point)
    slopes, expected, at_risk = _score_slopes(scores, sets)
    ordered = scores[sets.order]
    hazard = np.exp(ordered - ordered.max())
    means = sets.sums(hazard[:, None] * rows) / at_risk[:, None]
    second = (rows * expected[:, None]).T @ rows - means.T @ means
    second[np.diag_indices_from(second)] += strength
    return rows.T @ slopes + strength * point, second


def _elastic(
    rows: Float64[np.ndarray, "row dim"], sets: RiskSets, strength: float, *, l1_ratio: float,
    start: Float64[np.ndarray, " dim"],
) -> Float64[np.ndarray, " dim"]:  # fmt: skip
    """Accelerated proximal gradient with restarts (Beck & Teboulle 2009; O'Donoghue 2015)."""
    smooth, sharp = strength * (1 - l1_ratio), strength * l1_ratio
    # a term's second derivative is a variance over those at risk, at most the largest square
    centred = rows - rows.mean(axis=0)
    bound = smooth + len(sets.event) * float((centred**2).sum(axis=1).max())
    point, ahead, pace, rate = start, start, 1.0, bound
    for _ in range(_PROXIMAL_STEPS):
        slopes, _, _ = _score_slopes(_unsorted(sets, rows @ ahead), sets)
        slope = rows.T @ slopes + smooth * ahead
        trial = ahead - slope / rate
        trial = np.sign(trial) * np.maximum(np.abs(trial) - sharp / rate, 0)
        if float(np.abs(trial - ahead).max()) * rate < 1e-6 * len(sets.event):
            return np.asarray(trial)
        turned = (ahead - trial) @ (trial - point) > 0
        next_pace = 1.0 if turned else (1 + (1 + 4 * pace**2) ** 0.5) / 2
        ahead = trial + (0.0 if turned else (pace - 1) / next_pace) * (trial - point)
        point, pace = trial, next_pace
    raise _unfinished(strength)


def _unfinished(strength: float) -> GigasslError:
    return GigasslError(
        f"a Cox regression with penalty {strength:g} did not converge; choose a larger penalty, or "
        "scale the vectors"
    )
