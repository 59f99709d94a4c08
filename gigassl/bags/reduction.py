"""Reduction: a linear map that makes wide tile features narrow, such as PCA to 256 columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from gigassl.digests import digest_of_tensors
from gigassl.errors import SettingsError
from gigassl.tiles.weights import load_checkpoint, reading_card, save_checkpoint

KIND, VERSION = "reduction", 1


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


def fit_pca(features: Float[np.ndarray, "sample dim"], *, kept: int) -> Reduction:
    """The leading principal directions, unscaled, as the published follow-up of Giga-SSL reduces.

    Raises:
        SettingsError: more directions wanted than the sample has rows or columns.
    """
    if not 1 <= kept <= min(features.shape):
        raise SettingsError(
            f"cannot keep {kept} columns: the sample has {features.shape[0]} tiles of "
            f"{features.shape[1]} columns; choose a smaller --reduce pca:N, or give more slides"
        )
    from sklearn.decomposition import PCA

    # an exact solver: a randomised one would make the bank depend on a second seed
    found = PCA(n_components=kept, svd_solver="covariance_eigh").fit(features.astype(np.float64))
    return Reduction(
        mean=found.mean_.astype(np.float32), components=found.components_.astype(np.float32)
    )


def digest_of_reduction(reduction: Reduction) -> str:
    """16 hex digits over mean and components."""
    return digest_of_tensors(_tensors(reduction))


def save_reduction(path: Path, reduction: Reduction, *, encoder_digest: str) -> None:
    """Writes ``.safetensors``; the digest of the tile encoder it is for goes into its card.

    Raises:
        MachineError: disk full, read-only or missing folder.
    """
    card = {"kind": KIND, "version": VERSION, "encoder_digest": encoder_digest}
    save_checkpoint(path, _tensors(reduction), card=card)


def load_reduction(path: Path, *, encoder_digest: str | None = None) -> Reduction:
    """Reads what ``save_reduction`` wrote.

    Args:
        encoder_digest: the tile encoder whose features it is to reduce; None checks nothing.

    Raises:
        SettingsError: no such file, no reduction, another version, or fitted on another encoder.
    """
    checkpoint = load_checkpoint(path)
    card: Mapping[str, Any] = checkpoint.card
    if (card.get("kind"), card.get("version")) != (KIND, VERSION):
        raise SettingsError(
            f"{path} is no reduction that this gigassl reads; `gigassl encode --reduce pca:256` "
            "puts one into its bank"
        )
    fitted_on = card.get("encoder_digest")
    if encoder_digest is not None and fitted_on != encoder_digest:
        raise SettingsError(
            f"{path} was fitted on features of the tile encoder {fitted_on}, these "
            f"are of {encoder_digest}; fit another with --reduce pca:N"
        )
    with reading_card(path):
        tensors = checkpoint.tensors
        return Reduction(mean=tensors["mean"].numpy(), components=tensors["components"].numpy())


def _tensors(reduction: Reduction) -> dict[str, Any]:
    import torch

    return {
        "mean": torch.from_numpy(reduction.mean),
        "components": torch.from_numpy(reduction.components),
    }
