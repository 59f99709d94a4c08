"""Settings of self-supervised training, and the published ones as a preset."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gigassl.errors import SettingsError
from gigassl.vectors.views import ViewSettings

Precision = Literal["fp32", "bf16"]

LR_BATCH = 256
"""The batch that learning rates are given for; at others they are scaled in proportion."""


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """Everything that decides the weights, beside data and network.

    Attributes:
        objective: a name of ``OBJECTIVES``.
        temperature: of SimCLR; the other objectives have none.
        views: what a view of a slide is.
        epochs: passes over all slides.
        batch_size: slides of a batch; smaller cohorts get smaller batches.
        optimiser: a name of ``OPTIMISERS``.
        lr: highest learning rate at a batch of 256; scaled in proportion to the batch used.
        weight_decay: of weights, not of biases and norms.
        warmup_epochs: of linear rise of the learning rate from 0; at most a tenth of all epochs.
        precision: of the network's arithmetic; losses are always computed in fp32.
        seed: of everything random.
        stop_on_collapse: epochs that vectors may be collapsed for before training is given up.
    """

    objective: str = "simclr"
    temperature: float = 0.05
    views: ViewSettings = field(default_factory=ViewSettings)
    epochs: int = 1000
    batch_size: int = 256
    optimiser: str = "adam"
    lr: float = 0.03
    weight_decay: float = 0.0
    warmup_epochs: int = 10
    precision: Precision = "fp32"
    seed: int = 0
    stop_on_collapse: int = 20

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.warmup_epochs < 0 or self.stop_on_collapse < 1:
            raise SettingsError(
                f"training needs at least 1 epoch, 0 of warm-up and 1 before it is given up; got "
                f"{self.epochs}, {self.warmup_epochs} and {self.stop_on_collapse}"
            )
        if not 0.0 < self.lr < math.inf or not 0.0 <= self.weight_decay < math.inf:
            raise SettingsError(
                "the learning rate must be positive and weight decay not negative; "
                f"got {self.lr} and {self.weight_decay}"
            )
        if not 0.0 < self.temperature < math.inf:
            raise SettingsError(f"the temperature must be positive; got {self.temperature}")
        if self.seed < 0:
            raise SettingsError(f"the seed must not be negative; got {self.seed}")


PRESETS: Mapping[str, PretrainSettings] = {"giga-ssl": PretrainSettings()}
"""Name → settings; "giga-ssl" holds the defaults of the released code (arXiv 2212.03273)."""
