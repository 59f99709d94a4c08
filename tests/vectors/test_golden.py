"""Imported published networks against what the original implementation computed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gigassl.vectors.importing import read_published
from tests.vectors.published import GOLDEN, golden_case, golden_checkpoint, needs_golden

CASES = {
    "scm": ("single_tile", "paper_t5", "dense_t25", "shared_cell"),
    "mlp": ("single_tile", "paper_t5", "t100"),
}
pytestmark = needs_golden


@pytest.mark.parametrize("name", CASES)
def test_imported_networks_make_the_vectors_of_the_original(name: str, tmp_path: Path) -> None:
    model = read_published(golden_checkpoint(f"giga_ssl_{name}", tmp_path))
    assert (model.record.architecture, model.record.dim, model.record.width) == (name, 256, 512)
    arrays = np.load(GOLDEN / f"giga_ssl_{name}.npz")
    for case in CASES[name]:
        tiles, expected = golden_case(arrays, case)
        with torch.inference_mode():
            found = model.network(tiles)
        # before L2 normalisation; each slide for itself
        error = (found - expected).norm(dim=1) / expected.norm(dim=1)
        assert error.max() < 1e-4, case
