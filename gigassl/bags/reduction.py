"""Reduction: a linear map that makes wide tile features narrow, such as PCA to 256 columns."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """``(features - mean) @ components.T``; whitening, where wanted, lies in the components.

    Attributes:
        mean: what is subtracted first.
        components: one row a kept direction.
    """

    mean: Float32[np.ndarray, " dim"]
    components: Float32[np.ndarray, "kept dim"]

    def apply(self, features: Float[np.ndarray, "tile dim"]) -> Float32[np.ndarray, "tile kept"]:
        """The features, reduced, in float32."""
        centred = features.astype(np.float32) - self.mean
        reduced: Float32[np.ndarray, "tile kept"] = centred @ self.components.T
        return reduced
