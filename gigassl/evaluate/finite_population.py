"""What a sample without replacement says of all: how many of a known number can be bad."""

from scipy.stats import hypergeom

LEVEL = 0.95
"""Confidence of the one-sided statement."""

_ROUNDING = 1e-9  # probabilities that are equal to a limit are computed this far from it at most


def most_bad(n_bad: int, *, sample: int, population: int, level: float = LEVEL) -> int:
    """The most bad ones that a population may hold, given how many a random sample of it held.

    The largest number with which a sample would hold ``n_bad`` or fewer with a probability above
    ``1 - level``: the exact one-sided limit of Clopper and Pearson (Biometrika 26, 1934), with the
    hypergeometric distribution of a finite population (Buonaccorsi, Am. Stat. 41, 1987).

    Args:
        n_bad: bad ones in the sample.
        sample: size of the sample, drawn without replacement.
        population: number of all.
        level: confidence.

    Example::

        >>> most_bad(0, sample=20, population=11_642) / 11_642 < 0.14
        True
    """
    least = (1 - level) * (1 + _ROUNDING)
    low, high = n_bad, population - (sample - n_bad)
    while low < high:  # the probability falls as the number of bad ones rises
        middle = (low + high + 1) // 2
        if hypergeom.cdf(n_bad, population, middle, sample) > least:
            low = middle
        else:
            high = middle - 1
    return low
