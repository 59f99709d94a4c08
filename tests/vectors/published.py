"""Checkpoints as Giga-SSL publishes them: small ones made up here, and the golden ones."""

import argparse
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gigassl.vectors.packed import PackedTiles
from tests.shared_data import SHARED

GOLDEN = SHARED / "golden"
needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"golden checkpoints not found at {GOLDEN}; set GIGASSL_SHARED"
)


def golden_checkpoint(name: str, folder: Path) -> Path:
    path = folder / f"{name}.pth"
    path.write_bytes(lzma.decompress((GOLDEN / f"{name}.pth.xz").read_bytes()))
    return path


def golden_case(arrays: Any, case: str) -> tuple[PackedTiles, Tensor]:
    """Packed tiles of all slides of a case, and the vectors that the original computed."""
    features = torch.from_numpy(arrays[f"{case}/features"])
    n_bags, n_tiles, dim = features.shape
    coords = torch.zeros(n_bags * n_tiles, 2)
    if f"{case}/coords_l0" in arrays:
        coords = torch.from_numpy(arrays[f"{case}/coords_l0"]).float().reshape(-1, 2)
    tiles = PackedTiles(
        features=features.reshape(-1, dim),
        coords=coords,
        bag=torch.arange(n_bags).repeat_interleave(n_tiles),
        n_bags=n_bags,
    )
    return tiles, torch.from_numpy(arrays[f"{case}/embedding"])


def norm_of(width: int, *, seed: int) -> dict[str, Tensor]:
    values = np.random.default_rng(seed).uniform(0.5, 1.5, size=(4, width)).astype(np.float32)
    names = ("weight", "bias", "running_mean", "running_var")
    return {name: torch.from_numpy(v) for name, v in zip(names, values, strict=True)}


def small_scm(prefix: str, *, dim: int = 6, width: int = 4) -> dict[str, Tensor]:
    """State of a small ``scm`` in the published layout."""
    state: dict[str, Tensor] = {}
    for block, first_dim in enumerate((dim, width)):
        own = f"{prefix}sparse_pooling.0.{block}."
        convs = {"1": (9, first_dim), "2": (9, width)} | ({"d": (1, dim)} if block == 0 else {})
        for i, (conv, (positions, n_in)) in enumerate(convs.items()):
            generator = torch.Generator().manual_seed(10 * block + i)
            weight = torch.randn(positions, 1, n_in, width, generator=generator)
            state[f"{own}conv{conv}.weight"] = weight
            for name, values in norm_of(width, seed=10 * block + i).items():
                state[f"{own}norm{conv}.{name}"] = values
    return state


def small_mlp(prefix: str, *, dim: int = 6, width: int = 4) -> dict[str, Tensor]:
    """State of a small ``mlp`` in the published layout, with the classifier nobody needs."""
    layers = {
        "0.residual_lin": dim,
        "0.block.0": dim,
        "0.block.1": width,
        "1.block.0": width,
        "1.block.1": width,
    }
    state = {f"{prefix}classifier.weight": torch.zeros(width, width)}
    for i, (layer, n_in) in enumerate(layers.items()):
        own = f"{prefix}tile_encoder.{layer}."
        generator = torch.Generator().manual_seed(i)
        state[f"{own}block.0.weight"] = torch.randn(width, n_in, generator=generator)
        state[f"{own}block.0.bias"] = torch.randn(width, generator=generator)
        for name, values in norm_of(width, seed=i).items():
            state[f"{own}norm.{name}"] = values
        state[f"{own}norm.num_batches_tracked"] = torch.tensor(7)
    return state


def save_published(path: Path, state: dict[str, Tensor], **config: Any) -> Path:
    """Saves as the training scripts do: weights beside the epoch and a pickled namespace."""
    content = {"epoch": 900, "state_dict": state, "config": argparse.Namespace(**config)}
    torch.save(content, path)
    return path
