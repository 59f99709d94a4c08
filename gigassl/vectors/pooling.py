"""Pooling: the simple controls that make one vector of a bag's features."""

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from jaxtyping import Float, Float32, Float64

from gigassl.errors import SlideError, unknown_name

# fixed: float64 sums depend on the order of addition, so on where a chunk ends
_ROWS_AT_ONCE = 1024


def pool(features: Float[np.ndarray, "tile dim"], *, method: str) -> Float32[np.ndarray, " width"]:
    """One float32 vector of a bag's features, by the name of a method in ``POOLINGS``.

    Memory stays bounded: only 1,024 tiles at a time are widened to float64.

    >>> pool(np.array([[1.0, 5.0], [3.0, 5.0]], np.float16), method="mean+std").tolist()
    [2.0, 5.0, 1.0, 0.0]

    Raises:
        SettingsError: unknown method.
        SlideError: the bag is empty.
    """
    if method not in POOLINGS:
        raise unknown_name("slide encoder", method, known=POOLINGS)
    if len(features) == 0:
        raise SlideError("the bag is empty: it holds no tile", stage="bag")
    return POOLINGS[method](features).astype(np.float32)


def pooled_mean(features: Float[np.ndarray, "tile dim"]) -> Float64[np.ndarray, " dim"]:
    """Mean over tiles, summed in float64."""
    total = np.zeros(features.shape[1])
    for chunk in _chunks(features):
        total += chunk.sum(axis=0)
    mean: Float64[np.ndarray, " dim"] = total / len(features)
    return mean


def pooled_max(features: Float[np.ndarray, "tile dim"]) -> Float64[np.ndarray, " dim"]:
    """Largest value of each feature over tiles."""
    largest = np.full(features.shape[1], -np.inf)
    # by chunks here too: numpy compares float16 slowly, float64 fast
    for chunk in _chunks(features):
        np.maximum(largest, chunk.max(axis=0), out=largest)
    return largest


def pooled_mean_and_std(features: Float[np.ndarray, "tile dim"]) -> Float64[np.ndarray, " width"]:
    """Mean, then population standard deviation (0 for one tile); twice as wide as the features."""
    mean = pooled_mean(features)
    squares = np.zeros(features.shape[1])
    # a second pass over the deviations: E[x²] - E[x]² would cancel for large means
    for chunk in _chunks(features):
        squares += np.square(chunk - mean).sum(axis=0)
    return np.concatenate([mean, np.sqrt(squares / len(features))])


def _chunks(
    features: Float[np.ndarray, "tile dim"],
) -> Iterator[Float64[np.ndarray, "part dim"]]:
    for start in range(0, len(features), _ROWS_AT_ONCE):
        yield features[start : start + _ROWS_AT_ONCE].astype(np.float64)


def l2_normalised(vector: Float[np.ndarray, " dim"]) -> Float32[np.ndarray, " dim"]:
    """The vector at length one; the length is summed exactly, so the same on every machine.

    >>> l2_normalised(np.array([3.0, 4.0], np.float32)).round(3).tolist()
    [0.6000000238418579, 0.800000011920929]

    Raises:
        SlideError: the vector is zero or not finite.
    """
    wide = vector.astype(np.float64)
    length = math.sqrt(math.fsum(np.square(wide).tolist()))
    if length == 0 or not math.isfinite(length):
        raise SlideError(
            f"the slide's vector has length {length} and cannot be normalised; "
            "look at its tile features",
            stage="encode",
        )
    unit: Float32[np.ndarray, " dim"] = (wide / length).astype(np.float32)
    return unit


POOLINGS: Mapping[str, Callable[[Float[np.ndarray, "tile dim"]], Float64[np.ndarray, " width"]]] = {
    "mean": pooled_mean,
    "max": pooled_max,
    "mean+std": pooled_mean_and_std,
}
"""The controls by name."""
