"""L-BFGS for many convex problems at once, each with a step and a memory of its own."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Points = Float[Tensor, "problem variable"]
Gradient = Callable[[Points, Int64[Tensor, " problem"]], Points]
"""Gradients at points of some of the problems, which the second argument numbers."""

_OVERSHOOT = 0.5  # of the first slope that the new one may have in the other direction
_MEMORY = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Minimum:
    """Where the search ended.

    Attributes:
        points: one a problem.
        error: of each problem, what ``tolerance`` was compared with.
        evaluations: batches of gradients computed.
    """

    points: Points
    error: Float[Tensor, " problem"]
    evaluations: int


@dataclass(kw_only=True, eq=False)
class _Search:
    """Problems still running: accepted point, its gradient, the step under trial, the memory."""

    index: Int64[Tensor, " problem"]
    point: Points
    gradient: Points
    direction: Points
    step: Float[Tensor, " problem"]
    moves: list[Points]
    changes: list[Points]
    inverse: list[Float[Tensor, " problem"]]

    def keep(self, rows: Bool[Tensor, " problem"]) -> "_Search":
        """Some of them."""
        return _Search(
            index=self.index[rows], point=self.point[rows], gradient=self.gradient[rows],
            direction=self.direction[rows], step=self.step[rows],
            moves=[m[rows] for m in self.moves], changes=[c[rows] for c in self.changes],
            inverse=[i[rows] for i in self.inverse],
        )  # fmt: skip


def minimise(
    gradient: Gradient, start: Points, *, inverse: Gradient, tolerance: float, evaluations: int
) -> Minimum:
    """Minima of smooth convex functions from their gradients alone.

    A step is taken where the slope along it has not turned by more than half of what it was, else
    shortened to where the slope would vanish: convexity spares the values, whose rounding would
    hide late progress. Finished problems drop out. Nocedal & Wright 2006, algorithms 7.4 and 7.5.

    Args:
        gradient: of the functions.
        start: where to begin.
        inverse: about the inverse second derivative, applied to gradients; it begins each
            recursion.
        tolerance: of the error, the root of gradient · inverse second derivative · gradient as far
            as it is known by then; half of its square is how far a value is above its minimum.
        evaluations: at most so many batches of gradients.
    """
    everything = torch.arange(len(start), device=start.device)
    first = gradient(start, everything)
    moved = inverse(first, everything)
    found, error = start.clone(), (first * moved).sum(1).clamp_min(0).sqrt()
    search = _Search(
        index=everything, point=start.clone(), gradient=first, direction=-moved,
        step=torch.ones_like(start[:, 0]), moves=[], changes=[], inverse=[],
    ).keep(error > tolerance)  # fmt: skip
    done = 1
    while len(search.index) and done < evaluations:
        _advance(search, gradient, inverse)
        done += 1
        found[search.index] = search.point
        running = _errors(search)
        error[search.index] = running
        if (running <= tolerance).any():
            search = search.keep(running > tolerance)
    return Minimum(points=found, error=error, evaluations=done)


def _errors(search: _Search) -> Float[Tensor, " problem"]:
    return (-(search.gradient * search.direction).sum(1)).clamp_min(0).sqrt()


def _advance(search: _Search, gradient: Gradient, inverse: Gradient) -> None:
    """One gradient of each: those whose step is good take it, the others shorten it."""
    trial = search.point + search.step[:, None] * search.direction
    new = gradient(trial, search.index)
    before = (search.gradient * search.direction).sum(1)
    after = (new * search.direction).sum(1)
    good = after <= -_OVERSHOOT * before
    shorter = (before / (before - after)).clamp(0.1, 0.9)
    taken = good[:, None]
    move = torch.where(taken, trial - search.point, 0.0)
    change = torch.where(taken, new - search.gradient, 0.0)
    _remember(search, move, change)
    search.point = search.point + move
    search.gradient = search.gradient + change
    direction = _newton_like(search, inverse)
    search.direction = torch.where(taken, direction, search.direction)
    search.step = torch.where(good, 1.0, search.step * shorter)


def _remember(search: _Search, move: Points, change: Points) -> None:
    """A step not taken leaves a pair of zeros, which the recursion passes over."""
    curvature = (move * change).sum(1)
    weight = torch.where(curvature > 0, 1 / curvature, 0.0)
    search.moves.append(move)
    search.changes.append(change)
    search.inverse.append(weight)
    if len(search.moves) > _MEMORY:
        del search.moves[0], search.changes[0], search.inverse[0]


def _newton_like(search: _Search, inverse: Gradient) -> Points:
    """Minus the approximate inverse of the second derivative, times the gradient."""
    rest = search.gradient.clone()
    weights = []
    for k in reversed(range(len(search.moves))):
        weight = search.inverse[k] * (search.moves[k] * rest).sum(1)
        rest -= weight[:, None] * search.changes[k]
        weights.append(weight)
    result = inverse(rest, search.index)
    for k, weight in enumerate(reversed(weights)):
        back = search.inverse[k] * (search.changes[k] * result).sum(1)
        result += (weight - back)[:, None] * search.moves[k]
    return -result
