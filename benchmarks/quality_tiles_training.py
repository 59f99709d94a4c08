"""Short trainings of small tile encoders on one thread, by every method, from tiles in memory.

The presets are for a hundred epochs of a large set in batches of 256 and more. Here are a few
hundred steps of 64 tiles, so learning rates are higher, and slow copies follow faster.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import nn

from benchmarks.quality_tiles_data import MemoryTiles
from gigassl.tiles.encoders import create_network
from gigassl.tiles.pretrain.catalogue import METHOD_PRESETS, new_method
from gigassl.tiles.pretrain.options import TileTrainingOptions
from gigassl.tiles.pretrain.settings import Number, TilePretrainSettings
from gigassl.tiles.pretrain.train import pretrain_tile_encoder
from gigassl.tiles.records import IMAGENET, EncoderRecord

RESNET = EncoderRecord(name="resnet18", source="random", architecture="resnet18", dim=512)
VIT = EncoderRecord(
    name="small ViT", source="random", architecture="vit_tiny_patch16_224", dim=96,
    options={
        "img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3,
        "dynamic_img_size": True,
    },
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a method is trained here, where that is not what its preset says.

    Attributes:
        network: what is trained.
        lr: highest learning rate, at a batch of 256.
        options: of the method.
        optimiser: None takes that of the preset.
        steps: of the optimiser, batches of 64 tiles.
        side_px, small_px: sides of the views.
        n_small: most small views a tile.
    """

    lr: float
    network: EncoderRecord = RESNET
    options: Mapping[str, Number] = field(default_factory=dict)
    optimiser: str | None = None
    steps: int = 240
    side_px: int = 32
    small_px: int = 24
    n_small: int = 4


_DINO = {"momentum": 0.99, "prototypes": 1024, "hidden": 512, "bottleneck": 128}
RECIPES: Mapping[str, Recipe] = {
    # with SGD, or with a longer queue of keys from times when the slow encoder was another one, so
    # few steps teach nothing but which keys are recent
    "moco": Recipe(
        lr=4e-3,
        optimiser="adamw",
        steps=480,
        options={"momentum": 0.99, "queue": 256, "hidden": 512, "temperature": 0.1, "group": 16},
    ),
    "simclr": Recipe(lr=1.5, options={"hidden": 512}),
    "byol": Recipe(lr=1.5, options={"momentum": 0.99, "hidden": 1024}),
    "vicreg": Recipe(lr=1.5, options={"hidden": 512, "projection": 512}),
    "barlow": Recipe(lr=1.5, steps=480, options={"hidden": 512, "projection": 512}),
    "dino": Recipe(lr=4e-3, steps=600, options=_DINO, n_small=2),
    "dinov2": Recipe(lr=4e-3, network=VIT, options=_DINO, side_px=64, small_px=32),
}


def settings_of(
    method: str, *, steps: int, seed: int, batch_size: int = 64
) -> TilePretrainSettings:
    """The preset of a method with the changes of its recipe."""
    recipe, preset = RECIPES[method], METHOD_PRESETS[method]
    views = replace(
        preset.views, side_px=recipe.side_px, small_px=recipe.small_px,
        n_small=min(preset.views.n_small, recipe.n_small),
    )  # fmt: skip
    return replace(
        preset, views=views, steps=steps, batch_size=batch_size, lr=recipe.lr, seed=seed,
        optimiser=recipe.optimiser or preset.optimiser, options=recipe.options, warmup=0.1,
    )  # fmt: skip


def random_network(record: EncoderRecord, *, seed: int) -> nn.Module:
    """The network as every training of that seed begins with it."""
    return create_network(record, seed=seed)


def trained_network(
    source: MemoryTiles, settings: TilePretrainSettings, *, record: EncoderRecord
) -> nn.Module:
    """The network that the method keeps at the end."""
    encoder = random_network(record, seed=settings.seed)
    steps = settings.steps or 1
    method = new_method(settings, encoder, width=record.dim, steps=steps)
    result = pretrain_tile_encoder(
        source, method, settings=settings, mean=IMAGENET[0], std=IMAGENET[1],
        options=TileTrainingOptions(round_steps=max(1, steps // 4)),
    )  # fmt: skip
    if alarm := result.alarm():
        print(f"{settings.method}: {alarm}", flush=True)
    return method.encoder_to_keep().eval()
