"""Contribution of each tile to the logit of a linear probe on a pooled slide vector: exact."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from gigassl.errors import SettingsError, SlideError, unknown_name
from gigassl.evaluate.explain.explanation import Explanation, contributions
from gigassl.evaluate.fitted_probe import FittedProbe
from gigassl.vectors.pooling import pool, pooled_max, pooled_mean, pooled_mean_and_std

LINEAR = ("logistic", "ridge", "cox")
"""Probes that are a weighted sum of the vector's columns."""

# as the poolings themselves: memory stays bounded whatever the number of tiles
_ROWS_AT_ONCE = 1024

Tiles = Float[np.ndarray, "tile dim"]
Weights = Float64[np.ndarray, " width"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Readout:
    """One output of a linear probe, read from a vector of length one.

    The output is ``weights · vector + shift + intercept``; shift holds the centre that the probe
    subtracts, so that ``weights · vector + shift`` is the distance from an average training slide.
    """

    weights: Weights
    shift: float
    intercept: float

    def of(self, vector: Float[np.ndarray, " width"]) -> float:
        """What the probe says of a vector of length one."""
        return float(vector.astype(np.float64) @ self.weights) + self.shift + self.intercept


def readout_of(probe: FittedProbe, *, number: int) -> Readout:
    """One output of a probe: the logit of a class, the value (0) or the log hazard (0).

    Args:
        probe: a linear one.
        number: of the class; of two classes the first has minus the logit of the second.

    Raises:
        SettingsError: a probe that is not linear, or no such output.
    """
    if probe.method not in LINEAR:
        raise SettingsError(
            f"a '{probe.method}' probe has no weights, so no tile has a share in its answer; fit "
            f"one of {', '.join(LINEAR)}"
        )
    of_two = probe.method == "logistic" and len(probe.coefficients) == 1
    n_outputs = 2 if of_two else len(probe.coefficients)
    if not 0 <= number < n_outputs:
        raise SettingsError(f"the probe has {n_outputs} outputs; there is no number {number}")
    row, sign = (0, 1.0 if number else -1.0) if of_two else (number, 1.0)
    weights = sign * probe.coefficients[row] * probe.factors
    return Readout(
        weights=weights,
        shift=-float(weights @ probe.centre),
        intercept=sign * float(probe.intercepts[row]),
    )


def explain_pooled(features: Float[np.ndarray, "tile dim"], *, pooling: str,
                   readout: Readout) -> Explanation:  # fmt: skip
    """What each tile adds to the answer of a linear probe on a pooled vector.

    The vector is the pooled one over its length L, and L is taken as it is: a tile's share is what
    it adds to the pooled vector, through the weights, over L. What the probe subtracts as its
    centre is shared evenly. So shares sum to the answer less its intercept: exactly. In the mean
    each tile has 1/n of itself; in the maximum each column belongs to the tiles that reach it; in
    the standard deviation each tile has its part of the squared deviations.

    Args:
        features: of a bag.
        pooling: a name of ``POOLINGS``.
        readout: what is explained.

    Raises:
        SettingsError: a pooling whose parts are not known, or a probe of another width.
        SlideError: the pooled vector is zero.
    """
    if pooling not in _SHARES:
        raise unknown_name("pooling", pooling, known=_SHARES)
    # as it stands in a table, float32 included
    pooled = pool(features, method=pooling).astype(np.float64)
    if len(pooled) != len(readout.weights):
        raise SettingsError(
            f"the probe reads vectors of {len(readout.weights)} columns; '{pooling}' of these "
            f"tiles has {len(pooled)}"
        )
    length = math.sqrt(math.fsum(np.square(pooled).tolist()))
    if length == 0:
        raise SlideError("the slide's vector is zero and cannot be explained", stage="encode")
    score = _SHARES[pooling](features, readout.weights / length) + readout.shift / len(features)
    return contributions(
        score,
        method=f"exact contributions to a linear probe on the {pooling} of the tiles",
        output=readout.of(pooled / length),
        offset=readout.intercept,
    )


def _rows(features: Tiles) -> Iterator[tuple[slice, Float64[np.ndarray, "part dim"]]]:
    for start in range(0, len(features), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        yield part, features[part].astype(np.float64)


def _of_mean(features: Tiles, weights: Weights) -> Float64[np.ndarray, " tile"]:
    score = np.empty(len(features))
    for part, rows in _rows(features):
        score[part] = rows @ weights / len(features)
    return score


def _of_max(features: Tiles, weights: Weights) -> Float64[np.ndarray, " tile"]:
    largest = pooled_max(features)
    n_reach = np.zeros(len(largest))
    for _, rows in _rows(features):
        n_reach += (rows == largest).sum(axis=0)
    score = np.empty(len(features))
    for part, rows in _rows(features):
        score[part] = (rows == largest) @ (weights * largest / n_reach)
    return score


def _of_mean_and_std(features: Tiles, weights: Weights) -> Float64[np.ndarray, " tile"]:
    mean, std = pooled_mean(features), pooled_mean_and_std(features)[features.shape[1] :]
    of_std = weights[features.shape[1] :] / np.where(std > 0, std, np.inf) / len(features)
    score = _of_mean(features, weights[: features.shape[1]])
    for part, rows in _rows(features):
        score[part] += np.square(rows - mean) @ of_std
    return score


_SHARES: Mapping[str, Callable[[Tiles, Weights], Float64[np.ndarray, " tile"]]] = {
    "mean": _of_mean,
    "max": _of_max,
    "mean+std": _of_mean_and_std,
}
"""Pooling → what each tile adds to ``weights · pooled``."""
