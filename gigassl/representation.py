"""What a set of vectors is worth before any label is seen: rank, spread, collapse."""

import numpy as np
from jaxtyping import Float, Float64

from gigassl.errors import SettingsError

FEWEST = 8
"""Of fewer slides nothing is said: their rank is small whatever their vectors are."""

LOWEST_RANK, HIGHEST_COSINE = 2.0, 0.999
"""Beyond these, vectors have collapsed: onto a line about their mean, or onto one point.

Far from what sound vectors have: on 165 colon images, networks with *random* weights give mean
cosines of 0.87 (``abmil``) to 0.95 (``scm``) and effective ranks of 94 to 138; mean pooling gives
0.79 and 93. Vectors with a mean cosine of 0.999 differ by about 4 % of their length.
"""


def effective_rank(vectors: Float[np.ndarray, "row dim"]) -> float:
    """How many directions the vectors fill: exp of the entropy of the normalised singular values.

    From 1 (all along one line) to min(rows, dim). Centre the vectors first to measure how they
    differ rather than where they lie. Roy and Vetterli, The effective rank, EUSIPCO 2007; as a
    measure of learned representations: RankMe, arXiv 2210.02885. All zeros have rank 0.
    """
    wide = vectors.astype(np.float64)
    # singular values by the smaller of the two Gram matrices: many times faster, and what it loses
    # (below 1e-7 of the largest one) has no share in the entropy
    squared = np.linalg.eigvalsh(wide @ wide.T if len(wide) < wide.shape[1] else wide.T @ wide)
    least = squared.max(initial=0.0) * len(squared) * np.finfo(np.float64).eps
    values = np.sqrt(np.where(squared > least, squared, 0.0))
    total = values.sum()
    if total == 0.0:
        return 0.0
    shares = values[values > 0.0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def mean_cosine(vectors: Float[np.ndarray, "row dim"]) -> float:
    """Mean cosine over all pairs of different rows; near 1 where all vectors point one way.

    Raises:
        SettingsError: fewer than two rows.
    """
    units = _unit(vectors)
    n_rows = _at_least_two(units)
    total = float((units.sum(axis=0) ** 2).sum()) - float((units**2).sum())
    return total / (n_rows * (n_rows - 1))


def collapse_level(vectors: Float[np.ndarray, "row dim"]) -> float:
    """One minus √dim times the mean deviation of the coordinates of the unit vectors.

    0 where they fill the sphere evenly, 1 where they are one point: the indicator that the
    published Giga-SSL training logs (after SimSiam, arXiv 2011.10566).
    """
    units = _unit(vectors)
    return 1.0 - float(np.sqrt(units.shape[1]) * units.std(axis=0).mean())


def alignment(first: Float[np.ndarray, "pair dim"], second: Float[np.ndarray, "pair dim"]) -> float:
    """Mean squared distance of the unit vectors of two views of the same slides; 0 is best.

    Wang and Isola, arXiv 2005.10242, with α = 2.
    """
    return float(((_unit(first) - _unit(second)) ** 2).sum(axis=1).mean())


def uniformity(vectors: Float[np.ndarray, "row dim"]) -> float:
    """Log of the mean of exp(-2 · squared distance) over pairs of unit vectors; lower is better.

    Wang and Isola, arXiv 2005.10242, with t = 2: 0 where all are one point, about -4 at best.

    Raises:
        SettingsError: fewer than two rows.
    """
    units = _unit(vectors)
    n_rows = _at_least_two(units)
    # cosines may pass 1 by a rounding error; the diagonal would count each row with itself
    squared = np.maximum(2.0 - 2.0 * (units @ units.T), 0.0)
    kernel = np.exp(-2.0 * squared)
    np.fill_diagonal(kernel, 0.0)
    return float(np.log(kernel.sum() / (n_rows * (n_rows - 1))))


def _unit(vectors: Float[np.ndarray, "row dim"]) -> Float64[np.ndarray, "row dim"]:
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    units: Float64[np.ndarray, "row dim"] = wide / np.where(lengths > 0.0, lengths, 1.0)
    return units


def _at_least_two(vectors: Float64[np.ndarray, "row dim"]) -> int:
    if len(vectors) < 2:
        raise SettingsError(f"pairs need at least two vectors; got {len(vectors)}")
    return len(vectors)
