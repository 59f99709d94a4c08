"""Draws of a whole batch at once: which files, where in them, which neighbours."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float64, Int64

Allowed = Callable[[Float64[np.ndarray, "drawn 2"]], Bool[np.ndarray, " drawn"]]
"""Whether a square with this centre (x, y) may be drawn, for each square of a batch."""

_DIRECTIONS = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float64)


def seats(
    weights: Float64[np.ndarray, " file"], *, size: int, most: int, rng: np.random.Generator
) -> Int64[np.ndarray, " drawn"]:
    """The file of each place in a batch, at most ``most`` files in all.

    Systematic sampling in random order (Madow, Ann. Math. Statist. 20, 1949): K = ``most`` marks
    lie equally far apart on a line on which each file has a stretch as long as its weight, the
    first one at random. A file with share p of the weights then has ⌊Kp⌋ or ⌈Kp⌉ marks, Kp on
    average, so none is drawn twice unless its weight asks for it, and its expected share of the
    places is p exactly. Place ``i`` goes to mark ``i % K``, which are shuffled: each process that
    takes every n-th place opens as few files as can be.
    """
    marks = min(most, size)
    order = rng.permutation(len(weights))
    ends = np.cumsum(weights[order])
    at = (rng.random() + np.arange(marks)) / marks * ends[-1]
    found = np.minimum(np.searchsorted(ends, at, side="right"), len(weights) - 1)
    shuffled = rng.permutation(order[found])
    drawn: Int64[np.ndarray, " drawn"] = shuffled[np.arange(size) % marks].astype(np.int64)
    return drawn


def spread_within(
    group: Int64[np.ndarray, " drawn"], count: Int64[np.ndarray, " file"],
    *, rng: np.random.Generator,
) -> Int64[np.ndarray, " drawn"]:  # fmt: skip
    """A position below ``count[group]`` for each; those of one group far from one another.

    The m draws of a group lie one in each of m equal stretches, so that all positions are equally
    likely and, as long as there are enough, hardly one is drawn twice.
    """
    _, inverse, members = np.unique(group, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(np.cumsum(members) - members, members)
    m = members[inverse]
    stretch = (rank + rng.integers(0, members)[inverse]) % m
    position = np.floor((stretch + rng.random(len(group))) / m * count[group]).astype(np.int64)
    drawn: Int64[np.ndarray, " drawn"] = np.minimum(position, count[group] - 1)
    return drawn


def jittered(
    corner: Float64[np.ndarray, "drawn 2"], *, by: Float64[np.ndarray, " drawn"],
    rng: np.random.Generator,
) -> Float64[np.ndarray, "drawn 2"]:  # fmt: skip
    """Corners moved by up to so many px in x and in y, either way."""
    moved: Float64[np.ndarray, "drawn 2"] = (
        corner + rng.uniform(-1.0, 1.0, corner.shape) * by[:, None]
    )
    return moved


def inside(
    corner: Float64[np.ndarray, "drawn 2"], *, side: Float64[np.ndarray, " drawn"],
    size: Int64[np.ndarray, "drawn 2"],
) -> Int64[np.ndarray, "drawn 2"]:  # fmt: skip
    """The nearest whole corners at which squares lie inside images of these (width, height)."""
    limit = np.maximum(np.floor(size - side[:, None]), 0.0)
    kept: Int64[np.ndarray, "drawn 2"] = np.clip(np.rint(corner), 0.0, limit).astype(np.int64)
    return kept


def neighbours(
    corner: Int64[np.ndarray, "drawn 2"], *, side: Float64[np.ndarray, " drawn"],
    size: Int64[np.ndarray, "drawn 2"], allowed: Allowed, rng: np.random.Generator,
) -> Int64[np.ndarray, "drawn 2"]:  # fmt: skip
    """The corner of a square beside each: right, left, below or above, at random.

    Squares next to it that lie inside and are allowed come first; where there is none, it is the
    square itself, moved by half its side where there is room.
    """
    wishes = np.stack([_beside(corner, side=side, size=size, allowed=allowed, way=way)
                       for way in _DIRECTIONS])  # fmt: skip
    half = np.stack([inside(corner + way * side[:, None] / 2, side=side, size=size)
                     for way in _DIRECTIONS])  # fmt: skip
    luck = rng.random(wishes.shape[:2])
    found = wishes[..., 0] >= 0
    moved = np.abs(half - corner).sum(axis=2) + luck
    places = np.arange(len(corner))
    first = np.argmax(np.where(found, luck, -1.0), axis=0)
    best = wishes[first, places]
    chosen: Int64[np.ndarray, "drawn 2"] = np.where(
        np.any(found, axis=0, keepdims=True).T, best, half[np.argmax(moved, axis=0), places]
    )
    return chosen


def _beside(
    corner: Int64[np.ndarray, "drawn 2"], *, side: Float64[np.ndarray, " drawn"],
    size: Int64[np.ndarray, "drawn 2"], allowed: Allowed, way: Float64[np.ndarray, " 2"],
) -> Int64[np.ndarray, "drawn 2"]:  # fmt: skip
    """The corner one side away in a direction; -1 where that is outside or not allowed."""
    wished = np.rint(corner + way * side[:, None])
    fits = np.all((wished >= 0) & (wished + side[:, None] <= size), axis=1)
    ok = np.logical_and(fits, allowed(wished + side[:, None] / 2))
    return np.where(ok[:, None], wished, -1.0).astype(np.int64)
