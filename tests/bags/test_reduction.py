"""Reduction: PCA against a singular value decomposition, its file, and what it is refused for."""

from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float32

from gigassl.bags.reduction import (
    digest_of_reduction,
    fit_pca,
    load_reduction,
    save_reduction,
)
from gigassl.errors import SettingsError
from gigassl.tiles.weights import save_checkpoint


@pytest.fixture
def features() -> Float32[np.ndarray, "tile dim"]:
    generator = np.random.default_rng(0)
    mixed = generator.normal(size=(200, 12)) * np.linspace(5, 0.1, 12) + 3
    return mixed.astype(np.float32)


def test_pca_is_the_singular_value_decomposition(
    features: Float32[np.ndarray, "tile dim"],
) -> None:
    reduction = fit_pca(features, kept=4)
    centred = features - features.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ directions[:4].T
    found = reduction.apply(features)
    signs = np.sign((found * expected).sum(axis=0))
    assert np.allclose(found, expected * signs, atol=1e-4)
    assert found.dtype == np.float32


def test_a_whole_pca_keeps_all_distances(features: Float32[np.ndarray, "tile dim"]) -> None:
    found = fit_pca(features, kept=12).apply(features)
    before, after = (np.linalg.norm(v[:50, None] - v[None, :50], axis=2) for v in (features, found))
    assert np.allclose(before, after, atol=1e-3)


def test_the_file_gives_back_what_was_saved(
    features: Float32[np.ndarray, "tile dim"], tmp_path: Path
) -> None:
    path, again = tmp_path / "r.safetensors", tmp_path / "again.safetensors"
    reduction = fit_pca(features, kept=3)
    save_reduction(path, reduction, encoder_digest="abc")
    save_reduction(again, fit_pca(features, kept=3), encoder_digest="abc")
    assert path.read_bytes() == again.read_bytes()
    found = load_reduction(path, encoder_digest="abc")
    assert digest_of_reduction(found) == digest_of_reduction(reduction)
    assert np.array_equal(found.components, reduction.components)
    with pytest.raises(SettingsError, match="of the tile encoder abc, these are of xyz"):
        load_reduction(path, encoder_digest="xyz")


def test_what_is_no_reduction_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no checkpoint at"):
        load_reduction(tmp_path / "absent.safetensors")
    save_checkpoint(tmp_path / "other.safetensors", {}, card={"kind": "slide-encoder"})
    with pytest.raises(SettingsError, match="is no reduction that this gigassl reads"):
        load_reduction(tmp_path / "other.safetensors")


@pytest.mark.parametrize("kept", [0, 13])
def test_more_columns_than_there_are_is_refused(
    features: Float32[np.ndarray, "tile dim"], kept: int
) -> None:
    with pytest.raises(SettingsError, match=f"cannot keep {kept} columns.*200 tiles of 12 columns"):
        fit_pca(features, kept=kept)
