"""MIL models by name: networks that say numbers of each bag of packed tiles."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from gigassl.errors import SettingsError, unknown_name
from gigassl.evaluate.mil.attention import AttentionPooling, Clam
from gigassl.evaluate.mil.dsmil import DualStream
from gigassl.evaluate.mil.grid_cnn import GridCnn
from gigassl.evaluate.mil.pooling import MaxPooling, MeanMlp, MeanPooling
from gigassl.evaluate.mil.transmil import TransMil
from gigassl.evaluate.task import Asked
from gigassl.vectors.slide_encoders import initialise

MIL_MODELS: Mapping[str, Callable[..., nn.Module]] = {
    "mean": MeanPooling,
    "max": MaxPooling,
    "mean-mlp": MeanMlp,
    "abmil": AttentionPooling,
    "gated-abmil": partial(AttentionPooling, gated=True),
    "clam-sb": Clam,
    "dsmil": DualStream,
    "transmil": TransMil,
    "nic-cnn": GridCnn,
}
"""Name → class. A class takes ``dim`` (width of the tile features), ``outputs`` (numbers said of a
bag) and keywords of its own; its ``forward`` makes a ``Reading`` of ``PackedBags``."""

CLASSIFIERS_ONLY = ("clam-sb",)
"""Models that learn from classes alone."""

ON_CROPS = ("nic-cnn",)
"""Models that see where tiles lie: their bags are crops of compressed slides."""

OF_BAGS = tuple(name for name in MIL_MODELS if name not in ON_CROPS)
"""Models that take any bag."""


def new_model(
    name: str, task: Asked, *, dim: int, seed: int, options: Mapping[str, Any]
) -> nn.Module:
    """A MIL model with random weights, the same for the same seed.

    Args:
        name: one of ``MIL_MODELS``.
        task: two classes, a value or a risk are one number of a bag; more classes one number each.
        options: keywords of the model.

    Raises:
        SettingsError: unknown name, an option that it does not have, or a task that it cannot
            learn.
    """
    if name not in MIL_MODELS:
        raise unknown_name("MIL model", name, known=MIL_MODELS)
    sizes = {"dim": dim, "outputs": n_outputs(task)}
    if name in CLASSIFIERS_ONLY:
        if task.kind != "classification":
            raise SettingsError(
                f"'{name}' clusters the tiles of classes; task '{task.name}' is {task.kind}. "
                "Use gated-abmil, which is the same without the clusters"
            )
        sizes["classes"] = len(task.classes)
    try:
        # layers draw weights from PyTorch's global generator as they are made: to no avail, and
        # that one is put back
        with torch.random.fork_rng(devices=[]):
            model = MIL_MODELS[name](**sizes, **options)
    except TypeError as error:
        raise SettingsError(f"MIL model '{name}': {error}") from error
    initialise(model, seed=seed)
    return model


def n_outputs(task: Asked) -> int:
    """Numbers that a model says of a bag: one, or one a class where there are three or more."""
    return len(task.classes) if len(task.classes) > 2 else 1
