"""Settings of self-supervised training of tile encoders."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from gigassl.errors import SettingsError
from gigassl.tiles.augmentation import AugmentationSettings

Precision = Literal["fp32", "bf16"]
Schedule = Literal["cosine", "constant", "plateau"]
Number = int | float

LR_BATCH = 256
"""The batch that learning rates are given for; at others they are scaled in proportion."""

HISTOLOGY = AugmentationSettings(
    crop_area=(0.2, 1.0), flips=True, turns=True, stain=0.2, brightness=0.2, contrast=0.3,
    saturation=0.3, hue=0.05, grey_p=0.1, blur_px=9, blur_sigma=(0.1, 2.0),
)  # fmt: skip
"""Views of a tile: any turn of it is as good, and stains vary from one laboratory to the next.

Colours are moved less than in the recipes for photographs (brightness, contrast and saturation
0.4, hue 0.1, grey 0.2), so that views spread about as widely as stains do. The mean hue of tissue
lies from 0.785 (5th percentile of the colon images of GlaS) to 0.938 (95th of 279 breast slides,
IDC). A hue moved by up to 0.1 puts 28 % of the views of GlaS outside that range, into blue and
orange; by 0.05, 13 %, and two views of a tile still differ by as much as the two collections do.
Brightness by 0.4 makes glass a grey that no scanner does. Solarisation, in the published second
views of BYOL, Barlow Twins and DINO, is left out: glass would be as dark as nuclei are.
"""


@dataclass(frozen=True, kw_only=True)
class TileViewSettings:
    """Which views are made of each tile; every tile has draws of its own.

    Attributes:
        first, second: what either large view is drawn from.
        side_px: side of the large views.
        n_small: small views beside the two large ones (multi-crop).
        small: what those are drawn from.
        small_px: their side.
    """

    first: AugmentationSettings = HISTOLOGY
    second: AugmentationSettings = HISTOLOGY
    side_px: int = 224
    n_small: int = 0
    small: AugmentationSettings = field(
        default_factory=lambda: replace(
            HISTOLOGY, crop_area=(0.05, 0.2), blur_px=5, blur_sigma=(0.1, 1.0)
        )
    )
    small_px: int = 96

    def __post_init__(self) -> None:
        if self.side_px < 1 or self.small_px < 1 or self.n_small < 0:
            raise SettingsError(
                "views have sides of at least 1 px and not fewer than 0 small ones; got "
                f"{self.side_px}, {self.small_px} and {self.n_small}"
            )


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """Which tiles of the slides are drawn.

    Attributes:
        slide_weight: a slide is drawn in proportion to its number of tiles to this power: 1 draws
            all tiles alike, 0 all slides alike.
        slides_per_batch: slides that one batch comes from, so that few files are open at once.
        jitter_px: tiles lie up to this share of their side off the grid, in either direction.
        jitter_mpp: µm/px of a tile is the target's times e to at most ± this.
        second_mpp: another resolution that tiles are drawn at; None for one only.
        second_share: share of the tiles drawn at it.
        neighbours: the second view is of the tile next to the first one.
    """

    slide_weight: float = 0.5
    slides_per_batch: int = 64
    jitter_px: float = 0.5
    jitter_mpp: float = 0.1
    second_mpp: float | None = None
    second_share: float = 0.5
    neighbours: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.slide_weight <= 1.0 or not 0.0 <= self.second_share <= 1.0:
            raise SettingsError(
                "the weight of large slides and the share of the second resolution lie from 0 to "
                f"1; got {self.slide_weight} and {self.second_share}"
            )
        if self.slides_per_batch < 1:
            raise SettingsError(f"a batch needs at least 1 slide; got {self.slides_per_batch}")
        if not 0.0 <= self.jitter_px <= 1.0 or not 0.0 <= self.jitter_mpp <= 0.5:
            raise SettingsError(
                "tiles are moved by 0 to 1 side and scaled by 0 to 0.5 (natural logarithm); got "
                f"{self.jitter_px} and {self.jitter_mpp}"
            )
        if self.second_mpp is not None and not 0.0 < self.second_mpp < math.inf:
            raise SettingsError(f"µm/px must be positive; got {self.second_mpp}")


@dataclass(frozen=True, kw_only=True)
class TilePretrainSettings:
    """Everything that decides the weights, beside the tiles and the network's beginning.

    Attributes:
        method: a name of ``METHODS``.
        options: numbers of the method itself (temperature, momentum, …); its defaults elsewhere.
        views: which views are made of a tile.
        steps: steps of the optimiser; None for ``epochs``.
        epochs: passes over as many tiles as there are, where ``steps`` is None.
        batch_size: tiles of a batch, over all devices.
        accumulate: batches whose gradients are added up to one step. Losses that compare the tiles
            of a batch see one batch at a time.
        optimiser: a name of ``OPTIMISERS``.
        lr: highest learning rate at a batch of 256; scaled in proportion to the batch used.
        weight_decay: of weights, not of biases and norms.
        clip_norm: gradients longer than this (all together) are scaled down to it; None for any.
        warmup: share of the steps in which the learning rate rises linearly from 0.
        schedule: of the learning rate after that: falling to 0 as half a cosine, constant, or
            falling to a tenth whenever the method's measure on held-out tiles stays where it is.
        validation: share of the patients whose tiles are held out; the best round's encoder is then
            the one that does best on these.
        precision: of the network's arithmetic; losses are always computed in fp32.
        seed: of everything random.
    """

    method: str = "moco"
    options: Mapping[str, Number] = field(default_factory=dict)
    views: TileViewSettings = field(default_factory=TileViewSettings)
    steps: int | None = None
    epochs: int = 100
    batch_size: int = 256
    accumulate: int = 1
    optimiser: str = "sgd"
    lr: float = 0.03
    weight_decay: float = 1e-4
    clip_norm: float | None = None
    warmup: float = 0.05
    schedule: Schedule = "cosine"
    validation: float = 0.0
    precision: Precision = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.accumulate, 1 if self.steps is None else self.steps) < 1:
            raise SettingsError(
                "epochs, steps and batches a step must be at least 1; got "
                f"{self.epochs}, {self.steps} and {self.accumulate}"
            )
        if self.batch_size < 2:
            raise SettingsError(f"a batch needs at least 2 tiles; got {self.batch_size}")
        if not 0.0 < self.lr < math.inf or not 0.0 <= self.weight_decay < math.inf:
            raise SettingsError(
                "the learning rate must be positive and weight decay not negative; "
                f"got {self.lr} and {self.weight_decay}"
            )
        if self.clip_norm is not None and not 0.0 < self.clip_norm < math.inf:
            raise SettingsError(f"gradients are clipped to a positive length; got {self.clip_norm}")
        if not 0.0 <= self.warmup < 1.0 or self.seed < 0:
            raise SettingsError(
                "warm-up is a share of the steps from 0 to below 1, and the seed is not negative; "
                f"got {self.warmup} and {self.seed}"
            )
        self._check_schedule()

    def _check_schedule(self) -> None:
        if not 0.0 <= self.validation < 1.0:
            raise SettingsError(
                f"a share of the patients from 0 to below 1 is held out; got {self.validation}"
            )
        if self.schedule == "plateau" and not self.validation:
            raise SettingsError(
                "the schedule 'plateau' follows what is measured on held-out patients; give "
                "validation a share of them, such as 0.2"
            )
