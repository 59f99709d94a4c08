"""Small networks, toy tiles and methods around them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gigassl.tiles.encoders import create_network
from gigassl.tiles.pretrain.catalogue import METHOD_PRESETS, new_method
from gigassl.tiles.pretrain.method import Method
from gigassl.tiles.records import EncoderRecord, Option

SIDE, SMALL, PATCH, WIDTH = 32, 16, 8, 24
NAMES = ("barlow", "byol", "dino", "dinov2", "moco", "simclr", "vicreg")
SMALL_HEADS: Mapping[str, Mapping[str, float]] = {
    "barlow": {"hidden": 32, "projection": 32},
    "byol": {"hidden": 32, "projection": 16},
    "dino": {"hidden": 32, "bottleneck": 16, "prototypes": 40},
    "dinov2": {"hidden": 32, "bottleneck": 16, "prototypes": 40},
    "moco": {"hidden": 32, "projection": 16, "queue": 64},
    "simclr": {"hidden": 32, "projection": 16},
    "vicreg": {"hidden": 32, "projection": 32},
}


def convolutions(*, norm: bool = False, seed: int = 0) -> nn.Module:
    """A tiny network [tile, 3, row, col] to [tile, WIDTH]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2),
            nn.BatchNorm2d(16) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Conv2d(16, WIDTH, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


def transformer(*, seed: int = 0, **options: Option) -> nn.Module:
    """A tiny vision transformer that takes views of several sides."""
    chosen: dict[str, Option] = {
        "img_size": SIDE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": 2, "num_heads": 2,
        "dynamic_img_size": True, **options,
    }  # fmt: skip
    record = EncoderRecord(
        name="tiny", source="random", architecture="vit_tiny_patch16_224", dim=WIDTH, options=chosen
    )
    return create_network(record, seed=seed)


def network_for(name: str) -> nn.Module:
    return transformer() if name == "dinov2" else convolutions()


def method(
    name: str, options: Mapping[str, float] | None = None, *, batch_size: int = 8,
    steps: int = 10, gather: bool = False, seed: int = 3, encoder: nn.Module | None = None,
) -> Method:  # fmt: skip
    preset = METHOD_PRESETS[name]
    settings = replace(
        preset, batch_size=batch_size, seed=seed, options={**SMALL_HEADS[name], **(options or {})},
        views=replace(preset.views, side_px=SIDE, small_px=SMALL),
    )  # fmt: skip
    return new_method(
        settings, encoder or network_for(name), width=WIDTH, steps=steps, gather=gather
    )


def toy_views(n_tiles: int, *, name: str = "moco", seed: int = 0) -> list[Tensor]:
    """Views of tiles that differ in colour, and in how fast which stripes change."""
    generator = torch.Generator().manual_seed(seed)
    colour = torch.randn(n_tiles, 3, 1, 1, generator=generator)
    pitch = 0.2 + 0.8 * torch.rand(n_tiles, 1, 1, 1, generator=generator)
    x = torch.arange(SIDE).view(1, 1, 1, SIDE)
    tiles = colour + torch.sin(pitch * x) * torch.ones(1, 3, SIDE, 1)
    n_small = 2 if name.startswith("dino") else 0
    views = [tiles + 0.3 * torch.randn(tiles.shape, generator=generator) for _ in range(2)]
    small = [(tiles + 0.3 * torch.randn(tiles.shape, generator=generator)) for _ in range(n_small)]
    return views + [view[..., :SMALL, :SMALL] for view in small]


def step_of(learner: nn.Module, views: list[Tensor], *, progress: float, seed: int = 0) -> Any:
    """The loss of one step."""
    return learner(views, progress=progress, generator=torch.Generator().manual_seed(seed))[0]
