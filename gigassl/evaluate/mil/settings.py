"""Settings of MIL training; the published ones of each model, as presets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gigassl.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class MilSettings:
    """Everything that decides a MIL model's predictions, beside bags, labels and splits.

    Attributes:
        model: a name of ``MIL_MODELS``.
        options: keywords of the model.
        epochs: passes over the training bags, at most.
        patience: epochs without a lower validation loss after which training ends.
        least_epochs: epochs before which it does not end.
        validation: share of the training patients that early stopping watches, where a split has
            no validation rows of its own; 0 for none: then the last epoch's weights are used.
        batch_size: bags of a batch.
        optimiser: AdamW; or Adam, whose weight decay is a penalty on the squared weights.
        lr, weight_decay: of the optimiser.
        schedule: whether the learning rate stays, falls to 0 as half a cosine, or is divided by ten
            where the validation loss (without validation, that of training) no longer falls, down
            to 1e-5.
        plateau: epochs without a lower loss after which "plateau" divides it.
        warmup_epochs: of linear rise of the learning rate from 0.
        balance: how classes are given equal say: bags drawn as often ("sampling"), weighed in the
            loss ("loss"), or not at all ("none").
        max_tiles: tiles of a training bag; of longer ones others are drawn each epoch. None for
            all. Prediction always takes all.
        standardise: features to mean 0 and standard deviation 1 over the tiles of the training
            bags.
        precision: of the network's arithmetic; "auto" for bf16 on a GPU and fp32 on a CPU.
        seed: of everything random.
        device: "auto", "cpu" or "cuda".

    Raises:
        SettingsError: numbers out of range.
    """

    model: str = "abmil"
    options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 100
    patience: int = 20
    least_epochs: int = 20
    validation: float = 0.2
    batch_size: int = 1
    optimiser: Literal["adamw", "adam"] = "adamw"
    lr: float = 2e-4
    weight_decay: float = 1e-5
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    plateau: int = 4
    warmup_epochs: int = 0
    balance: Literal["none", "loss", "sampling"] = "sampling"
    max_tiles: int | None = 4096
    standardise: bool = False
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    device: str = field(default="auto", metadata={"digest": False})

    def __post_init__(self) -> None:
        counts = (
            self.epochs, self.patience, self.least_epochs, self.plateau, self.batch_size,
            self.max_tiles,
        )  # fmt: skip
        if any(count is not None and count < 1 for count in counts) or self.warmup_epochs < 0:
            raise SettingsError(
                "epochs, patience, least epochs, plateau, batch size and most tiles must be at "
                f"least 1, warm-up at least 0; got {counts} and {self.warmup_epochs}"
            )
        if self.schedule == "plateau" and self.warmup_epochs:
            raise SettingsError("a plateau has no warm-up; use a cosine, or no warm-up epochs")
        if not 0.0 <= self.validation <= 0.5:
            raise SettingsError(f"validation must be between 0 and 0.5; got {self.validation}")
        if not 0.0 < self.lr < math.inf or not 0.0 <= self.weight_decay < math.inf:
            raise SettingsError(
                "the learning rate must be positive and weight decay not negative; "
                f"got {self.lr} and {self.weight_decay}"
            )
        if self.seed < 0:
            raise SettingsError(f"the seed must not be negative; got {self.seed}")


MIL_PRESETS: Mapping[str, MilSettings] = {
    "mean": MilSettings(model="mean"),
    "max": MilSettings(model="max"),
    "mean-mlp": MilSettings(model="mean-mlp"),
    "abmil": MilSettings(model="abmil", lr=1e-4, weight_decay=5e-4, schedule="constant"),
    "gated-abmil": MilSettings(
        model="gated-abmil", lr=1e-4, weight_decay=5e-4, schedule="constant"
    ),
    "clam-sb": MilSettings(
        model="clam-sb", epochs=200, least_epochs=50, lr=2e-4, weight_decay=1e-5,
        schedule="constant", balance="sampling",
    ),
    "dsmil": MilSettings(
        model="dsmil", epochs=200, lr=1e-4, weight_decay=1e-3, schedule="cosine"
    ),
    "transmil": MilSettings(
        model="transmil", epochs=200, lr=2e-4, weight_decay=1e-5, schedule="constant"
    ),
    "nic-cnn": MilSettings(
        model="nic-cnn", optimiser="adam", batch_size=16, lr=1e-2, weight_decay=2e-5,
        schedule="plateau", max_tiles=None,
    ),
}  # fmt: skip
"""Name of a model → settings after its paper or its authors' code, as far as they are known to us.

All but ``nic-cnn`` train on one bag at a time. ``abmil``: lr 1e-4, decay 5e-4, at most 100 epochs
(after arXiv 1802.04712, histology). ``clam-sb``: lr 2e-4, decay 1e-5, dropout 0.25, 50 to 200
epochs, patience 20, classes drawn as often, 8 tiles a cluster, bag weight 0.7 (after arXiv
2004.09666). ``dsmil``: lr 1e-4, decay 1e-3, cosine, at most 200 epochs (after arXiv 2011.08939).
``transmil``: lr 2e-4, decay 1e-5, at most 200 epochs (after arXiv 2106.00908). Not every number
could be checked against the papers. For ``mean``, ``max`` and ``mean-mlp``, which no paper tuned,
the settings of CLAM with a falling rate.

Three things are the same for them, so that models are compared and not recipes: AdamW (the papers:
Adam; TransMIL: RAdam with Lookahead), early stopping on the validation loss with patience 20, and
at most 4,096 tiles of a training bag at a time.

``nic-cnn`` is trained as published, on crops: Adam, 16 a batch, lr 1e-2 divided by ten on a plateau
of validation down to 1e-5, the penalty 1e-5 · w² (as Adam's weight decay: 2e-5), dropout
0.2 (arXiv 1811.02840). The patience of the plateau is that of the authors' later code, 4; how many
epochs they took is not known to us.
"""
