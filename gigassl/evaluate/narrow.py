"""Wide rows made narrow without loss: what an L2 penalty sees of them fits in as many columns."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True, kw_only=True, eq=False)
class NarrowRows:
    """Rows in the space that they span.

    With a penalty on the sum of squares the best coefficients lie in the span of the rows, and
    a rotation changes neither products nor squares; so nothing is lost.

    Attributes:
        rows: in coordinates of that space.
        axes: its orthonormal axes; None: the rows were narrow already.
    """

    rows: Float64[np.ndarray, "row axis"]
    axes: Float64[np.ndarray, "dim axis"] | None

    def widened(
        self, coefficients: Float64[np.ndarray, "output axis"]
    ) -> Float64[np.ndarray, "output dim"]:
        """Coefficients for the rows as they were."""
        return coefficients if self.axes is None else coefficients @ self.axes.T


def narrowed(rows: Float64[np.ndarray, "row dim"]) -> NarrowRows:
    """The rows in at most as many columns as there are rows."""
    if rows.shape[1] <= rows.shape[0]:
        return NarrowRows(rows=rows, axes=None)
    axes, upper = np.linalg.qr(rows.T)
    return NarrowRows(rows=np.ascontiguousarray(upper.T), axes=axes)
