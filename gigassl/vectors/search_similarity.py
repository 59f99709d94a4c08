"""Cosine similarities: those of many rows at once, and those that decide an order."""

import numpy as np
from jaxtyping import Float32, Float64, Int64

MARGIN = 1e-5
"""What float32 products say of unit vectors is true to this; nearer ones are compared exactly."""

FEW = 1 / 16
"""Up to this part of the rows, to compare each costs no more than to ask an index."""


def exact_similarities(
    vectors: Float32[np.ndarray, "slide dim"], vector: Float32[np.ndarray, " dim"], *,
    rows: Int64[np.ndarray, " row"],
) -> Float64[np.ndarray, " row"]:  # fmt: skip
    """Products of a vector with some rows, in float64.

    Row by row, so that equal vectors have equal similarities wherever they stand.
    """
    products = vectors[rows].astype(np.float64) * vector.astype(np.float64)
    similarities: Float64[np.ndarray, " row"] = products.sum(axis=1)
    return similarities


def best_of_rows(
    vectors: Float32[np.ndarray, "slide dim"], vector: Float32[np.ndarray, " dim"], *,
    rows: Int64[np.ndarray, " row"], wanted: int,
) -> tuple[Float32[np.ndarray, " found"], Int64[np.ndarray, " found"]]:  # fmt: skip
    """Similarities (true to ``MARGIN``) and numbers of the best of some rows, best first."""
    # to copy few rows is quicker than to multiply all of them
    few = len(rows) <= FEW * len(vectors)
    similarities = vectors[rows] @ vector if few else (vectors @ vector)[rows]
    best = np.argpartition(-similarities, wanted - 1)[:wanted]
    best = best[np.argsort(-similarities[best], kind="stable")]
    return similarities[best], rows[best]
