"""Fitted probe: what a probe learned, as plain arrays, and what it says of vectors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float64

from gigassl.errors import SettingsError
from gigassl.evaluate.logistic import class_probabilities
from gigassl.evaluate.threads import one_thread


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedProbe:
    """A probe that has learned; all of it is in these fields.

    Attributes:
        method: how the rest is read.
        unit_norm: vectors are first divided by their lengths.
        centre: is then subtracted,
        factors: and columns are multiplied.
        coefficients: of each output (linear probes); vectors that vote (kNN); class means
            of vectors of length 1 (prototype).
        intercepts: of each output; minus infinity for a class without training slides.
        votes: what each vector of kNN votes for; empty else.
        neighbours: that vote.
        chosen: what was chosen in the training set: ``strength``, ``block_weight``.
    """

    method: str
    unit_norm: bool
    centre: Float64[np.ndarray, " dim"]
    factors: Float64[np.ndarray, " dim"]
    coefficients: Float64[np.ndarray, "output dim"]
    intercepts: Float64[np.ndarray, " output"]
    votes: Float64[np.ndarray, "voter choice"] = field(default_factory=lambda: np.zeros((0, 0)))
    neighbours: int = 1
    chosen: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method not in _ANSWERS:
            raise SettingsError(f"unknown method of a probe: {self.method!r}")
        widths = {len(self.centre), len(self.factors), *self.coefficients.shape[1:]}
        if len(widths) != 1 or self.coefficients.ndim != 2:
            raise SettingsError(
                f"a probe of {len(self.centre)} columns has factors of {len(self.factors)} and "
                f"coefficients of shape {self.coefficients.shape}"
            )

    @one_thread()
    def predict(
        self, vectors: Float[np.ndarray, "slide dim"]
    ) -> Float64[np.ndarray, "slide answer"]:
        """Probabilities of the classes, or one column with the value or the log hazard.

        Raises:
            SettingsError: vectors of another width.
        """
        if vectors.shape[1] != len(self.centre):
            raise SettingsError(
                f"the probe learned from vectors of {len(self.centre)} columns; these have "
                f"{vectors.shape[1]}"
            )
        rows = vectors.astype(np.float64)
        rows = ((unit_rows(rows) if self.unit_norm else rows) - self.centre) * self.factors
        return _ANSWERS[self.method](self, rows)


def unit_rows(rows: Float64[np.ndarray, "row dim"]) -> Float64[np.ndarray, "row dim"]:
    """Rows of length 1; zero rows stay zero."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def _linear(
    probe: FittedProbe, rows: Float64[np.ndarray, "row dim"]
) -> Float64[np.ndarray, "row output"]:
    answers: Float64[np.ndarray, "row output"] = rows @ probe.coefficients.T + probe.intercepts
    return answers


def _probabilities(
    probe: FittedProbe, rows: Float64[np.ndarray, "row dim"]
) -> Float64[np.ndarray, "row class"]:
    return class_probabilities(_linear(probe, rows))


def _voted(
    probe: FittedProbe, rows: Float64[np.ndarray, "row dim"]
) -> Float64[np.ndarray, "row choice"]:
    """Shares of the votes of the nearest; of equally near ones those that were learned first."""
    likeness = unit_rows(rows) @ unit_rows(probe.coefficients).T
    count = min(probe.neighbours, likeness.shape[1])
    # rounding differences of equal likenesses must not decide who votes
    near = np.argsort(-np.round(likeness, 12), axis=1, kind="stable")[:, :count]
    shares: Float64[np.ndarray, "row choice"] = probe.votes[near].mean(axis=1)
    return shares


def _nearest_mean(
    probe: FittedProbe, rows: Float64[np.ndarray, "row dim"]
) -> Float64[np.ndarray, "row class"]:
    units, means = unit_rows(rows), probe.coefficients
    squares = (units**2).sum(axis=1, keepdims=True) + (means**2).sum(axis=1) - 2 * units @ means.T
    return class_probabilities(probe.intercepts - np.sqrt(np.maximum(squares, 0.0)))


_ANSWERS: Mapping[str, Callable[[FittedProbe, np.ndarray], np.ndarray]] = {
    "logistic": _probabilities,
    "ridge": _linear,
    "cox": _linear,
    "knn": _voted,
    "prototype": _nearest_mean,
}
