"""Explanation: what each tile of a slide had to do with what a model says of it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

Meaning = Literal["contribution", "attention", "grad-cam"]
"""What a score is: a share of the logit (signed), a weight in a bag, or Grad-CAM's heat."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """Scores of the tiles of one slide.

    Attributes:
        score: of each tile, in the bag's order; NaN for a tile that the model did not look at.
        meaning: what a score is.
        method: how it was found, in words.
        output: what was explained: the logit of the class, the value or the log hazard.
        offset: what ``output`` has that no tile brought about: contributions sum to
            ``output - offset``. 0 for what does not sum to anything.
        completeness_error: |sum of contributions - (output - offset)|; None where scores do not
            sum to anything.
    """

    score: Float64[np.ndarray, " tile"]
    meaning: Meaning
    method: str
    output: float
    offset: float = 0.0
    completeness_error: float | None = None

    @property
    def n_unseen(self) -> int:
        """Tiles that the model did not look at."""
        return int(np.isnan(self.score).sum())


def contributions(
    score: Float64[np.ndarray, " tile"], *, method: str, output: float, offset: float
) -> Explanation:
    """Contributions with the error of their sum."""
    error = abs(float(np.nansum(score)) - (output - offset))
    return Explanation(
        score=score, meaning="contribution", method=method, output=output, offset=offset,
        completeness_error=error,
    )  # fmt: skip
