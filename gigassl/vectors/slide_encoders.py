"""Slide encoders by name: networks that make one vector of each bag of packed tiles."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from gigassl.errors import SettingsError, unknown_name
from gigassl.vectors.attention import GatedAttention
from gigassl.vectors.lags import LagCovariances
from gigassl.vectors.mlp import MeanOfTiles, ResidualMlp
from gigassl.vectors.scm import SparseConvEncoder
from gigassl.vectors.spatial import SpatialEncoder

SLIDE_ENCODERS: Mapping[str, Callable[..., nn.Module]] = {
    "mean": MeanOfTiles,
    "mlp": ResidualMlp,
    "scm": SparseConvEncoder,
    "abmil": GatedAttention,
    "lags": LagCovariances,
    "spatial": SpatialEncoder,
}
"""Name → class. A class takes ``dim`` (width of the tile features), ``cell`` (side of a grid cell
in the unit of the coordinates) and keywords of its own, has an attribute ``width``, and its
``forward`` makes [bag, width] of ``PackedTiles``. Any other ``nn.Module`` like that will do."""


def new_network(
    architecture: str, *, dim: int, cell: float, seed: int, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """A slide encoder with random weights, the same for the same seed.

    Raises:
        SettingsError: unknown name, or an option that it does not have.
    """
    if architecture not in SLIDE_ENCODERS:
        raise unknown_name("slide encoder", architecture, known=SLIDE_ENCODERS)
    try:
        network = SLIDE_ENCODERS[architecture](dim=dim, cell=cell, **(options or {}))
    except TypeError as error:
        raise SettingsError(f"slide encoder '{architecture}': {error}") from error
    initialise(network, seed=seed)
    return network


def initialise(network: nn.Module, *, seed: int) -> None:
    """Draws all weights anew from a generator of their own.

    Every module with an ``initialise(generator)`` does it itself; linear layers are drawn as
    PyTorch does it; norms start at one and zero.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if callable(own := getattr(module, "initialise", None)):
            own(generator)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
