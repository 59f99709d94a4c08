"""Ridge regression for many penalties at once."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from gigassl.evaluate.narrow import narrowed


def ridge_path(
    rows: Float64[np.ndarray, "row dim"], target: Float64[np.ndarray, " row"],
    strengths: Sequence[float],
) -> tuple[Float64[np.ndarray, "strength dim"], Float64[np.ndarray, " strength"]]:  # fmt: skip
    """Coefficients and intercepts that minimise Σ (error²) + strength · Σ (coefficient²).

    The intercept is not penalised, as in scikit-learn's ``Ridge``. One eigendecomposition serves
    all strengths.
    """
    centre = rows.mean(axis=0)
    narrow = narrowed(rows - centre)
    values, axes = np.linalg.eigh(narrow.rows.T @ narrow.rows)
    moment = axes.T @ (narrow.rows.T @ (target - target.mean()))
    shrunk = moment / (np.maximum(values, 0) + np.array(strengths)[:, None])
    coefficients = narrow.widened(shrunk @ axes.T)
    return coefficients, target.mean() - coefficients @ centre
