"""Methods of self-supervision by name, their settings as published, and how one is made."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from gigassl.errors import unknown_name
from gigassl.tiles.augmentation import AugmentationSettings
from gigassl.tiles.labelled_tasks import FileLabels
from gigassl.tiles.pretrain.method import Method
from gigassl.tiles.pretrain.methods.barlow import Barlow, BarlowOptions
from gigassl.tiles.pretrain.methods.bigan import Bigan, BiganOptions
from gigassl.tiles.pretrain.methods.byol import Byol, ByolOptions
from gigassl.tiles.pretrain.methods.contrastive import Contrastive, ContrastiveOptions
from gigassl.tiles.pretrain.methods.dino import Dino, DinoOptions
from gigassl.tiles.pretrain.methods.dinov2 import Dinov2, Dinov2Options
from gigassl.tiles.pretrain.methods.labelled import (
    Multitask,
    MultitaskOptions,
    Supervised,
    SupervisedOptions,
)
from gigassl.tiles.pretrain.methods.moco import Moco, MocoOptions
from gigassl.tiles.pretrain.methods.parts import Run, options_from, weights_from
from gigassl.tiles.pretrain.methods.simclr import Simclr, SimclrOptions
from gigassl.tiles.pretrain.methods.vae import Vae, VaeOptions
from gigassl.tiles.pretrain.methods.vicreg import Vicreg, VicregOptions
from gigassl.tiles.pretrain.settings import HISTOLOGY, TilePretrainSettings, TileViewSettings

METHODS: Mapping[str, type[Method]] = {
    "barlow": Barlow,
    "bigan": Bigan,
    "byol": Byol,
    "contrastive": Contrastive,
    "dino": Dino,
    "dinov2": Dinov2,
    "moco": Moco,
    "multitask": Multitask,
    "simclr": Simclr,
    "supervised": Supervised,
    "vae": Vae,
    "vicreg": Vicreg,
}
"""Name → method."""

METHOD_OPTIONS: Mapping[str, type[Any]] = {
    "barlow": BarlowOptions,
    "bigan": BiganOptions,
    "byol": ByolOptions,
    "contrastive": ContrastiveOptions,
    "dino": DinoOptions,
    "dinov2": Dinov2Options,
    "moco": MocoOptions,
    "multitask": MultitaskOptions,
    "simclr": SimclrOptions,
    "supervised": SupervisedOptions,
    "vae": VaeOptions,
    "vicreg": VicregOptions,
}
"""Name → its options, a dataclass of numbers with their defaults."""

METHOD_NETWORKS: Mapping[str, str] = {
    "bigan": "nic:bigan",
    "contrastive": "nic:vae",
    "multitask": "nic:bigan",
    "supervised": "nic:vae",
    "vae": "nic:vae",
}
"""Name → network that is trained unless another is asked for; ResNet18 where none stands here."""

# turns, colours, stains, brightness, contrast and zoom, as in NIC; not blurred and never grey,
# since a generator would have to draw that too
_HEAVY = replace(HISTOLOGY, crop_area=(0.5, 1.0), grey_p=0.0, blur_p=0.0)
_NIC_VIEWS = TileViewSettings(first=_HEAVY, second=_HEAVY, side_px=128)
_MULTI_CROP = TileViewSettings(
    first=replace(HISTOLOGY, crop_area=(0.4, 1.0)),
    second=replace(HISTOLOGY, crop_area=(0.4, 1.0)),
    n_small=8,
    small=AugmentationSettings(
        crop_area=(0.05, 0.4), flips=True, turns=True, stain=0.2, hue=0.1, blur_px=5
    ),
)

METHOD_PRESETS: Mapping[str, TilePretrainSettings] = {
    # arXiv 2103.03230, published code: LARS 0.2 at 256, weight decay 1e-6
    "barlow": TilePretrainSettings(
        method="barlow", optimiser="lars", lr=0.2, weight_decay=1e-6, warmup=0.1
    ),
    # arXiv 1811.02840, appendix: Adam 2e-4 at 64 images (both views of 32 tiles), constant, for
    # 200,000 iterations; the last network is kept
    "bigan": TilePretrainSettings(
        method="bigan", optimiser="adam", lr=1.6e-3, weight_decay=0.0, warmup=0.0, batch_size=32,
        schedule="constant", views=_NIC_VIEWS,
    ),
    # arXiv 2006.07733, appendix on shorter trainings: LARS 0.45 at 256, 1e-6, for 100 epochs
    "byol": TilePretrainSettings(
        method="byol", optimiser="lars", lr=0.45, weight_decay=1e-6, warmup=0.1
    ),
    # arXiv 1811.02840, appendix: Adam 1e-2 at 64 pairs, a tenth on each plateau down to 1e-5, the
    # best network on held-out pairs is kept
    "contrastive": TilePretrainSettings(
        method="contrastive", optimiser="adam", lr=4e-2, weight_decay=0.0, warmup=0.0,
        batch_size=64, schedule="plateau", validation=0.25, views=_NIC_VIEWS,
    ),
    # arXiv 2104.14294 and its code: AdamW 5e-4 at 256, weight decay from 0.04, gradients up to 3;
    # without a warm-up the student learns from answers that are not centred yet, and collapses
    "dino": TilePretrainSettings(
        method="dino", optimiser="adamw", lr=5e-4, weight_decay=0.04, warmup=0.1,
        clip_norm=3.0, views=_MULTI_CROP,
    ),
    # arXiv 2304.07193 with the learning rate of iBOT (2111.07832), which small networks had
    "dinov2": TilePretrainSettings(
        method="dinov2", optimiser="adamw", lr=5e-4, weight_decay=0.04, warmup=0.1,
        clip_norm=3.0, views=_MULTI_CROP,
    ),
    # arXiv 2003.04297: SGD 0.03 at 256, weight decay 1e-4, no warm-up
    "moco": TilePretrainSettings(
        method="moco", optimiser="sgd", lr=0.03, weight_decay=1e-4, warmup=0.0
    ),
    # PMLR 121:770-783: Adam 1e-3 at 128 images (both views of 64 tiles), a tenth on each plateau
    # down to 1e-5, a fifth held out; the best network on these is kept
    "multitask": TilePretrainSettings(
        method="multitask", optimiser="adam", lr=4e-3, weight_decay=0.0, warmup=0.0,
        batch_size=64, schedule="plateau", validation=0.2, views=_NIC_VIEWS,
    ),
    # arXiv 2002.05709: LARS 0.3 at 256, weight decay 1e-6, warm-up of a tenth
    "simclr": TilePretrainSettings(
        method="simclr", optimiser="lars", lr=0.3, weight_decay=1e-6, warmup=0.1
    ),
    # arXiv 1811.02840, appendix: Adam 1e-2 at 64 images (both views of 32 tiles), a tenth on each
    # plateau down to 1e-5, the best network on held-out tiles is kept
    "supervised": TilePretrainSettings(
        method="supervised", optimiser="adam", lr=8e-2, weight_decay=0.0, warmup=0.0,
        batch_size=32, schedule="plateau", validation=0.2, views=_NIC_VIEWS,
    ),
    # arXiv 1811.02840, appendix: Adam 1e-3 at 64 images (both views of 32 tiles), a tenth on each
    # plateau down to 1e-5, the best network on held-out tiles is kept
    "vae": TilePretrainSettings(
        method="vae", optimiser="adam", lr=8e-3, weight_decay=0.0, warmup=0.0, batch_size=32,
        schedule="plateau", validation=0.25, views=_NIC_VIEWS,
    ),
    # arXiv 2105.04906, published code for 100 epochs: LARS 0.3 at 256, weight decay 1e-6
    "vicreg": TilePretrainSettings(
        method="vicreg", optimiser="lars", lr=0.3, weight_decay=1e-6, warmup=0.1
    ),
}  # fmt: skip
"""Name → settings as its authors have them for about 100 epochs, with views for histology."""


def learns_from_labels(name: str) -> bool:
    """Whether a method of that name wants labelled images."""
    return name in METHODS and METHODS[name].wants_labels


def new_method(
    settings: TilePretrainSettings, encoder: nn.Module, *, width: int, steps: int,
    gather: bool = False, labels: FileLabels | None = None,
) -> Method:  # fmt: skip
    """The method of the settings around an encoder; weights behind it come from the seed.

    Args:
        encoder: trained in place.
        width: length of its vectors.
        steps: of the optimiser.
        gather: several processes share a batch, so losses over the batch gather it.
        labels: of the files, for methods that learn from these.

    Raises:
        SettingsError: unknown method or option, an option out of its range, or a network that the
            method cannot train.
    """
    name = settings.method
    if name not in METHODS:
        raise unknown_name("method", name, known=METHODS)
    options = options_from(METHOD_OPTIONS[name], settings.options, method=name)
    run = Run(
        width=width, side_px=settings.views.side_px, steps=steps, batch_size=settings.batch_size,
        gather=gather, labels=labels,
    )  # fmt: skip
    make: Callable[..., Method] = METHODS[name]
    with weights_from(settings.seed):
        return make(encoder, options=options, run=run)
