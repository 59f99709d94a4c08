"""Scoring: what a MIL model in evaluation mode says of slides, whole or on the mean of crops."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float32, Float64
from torch import Tensor, nn
from torch.nn import functional

from gigassl.evaluate.mil.crops import Reader
from gigassl.evaluate.mil.settings import MilSettings
from gigassl.evaluate.task import Kind
from gigassl.vectors.matmul import fast_matmul


def scores_of(
    model: nn.Module, reader: Reader, slides: Sequence[int], *, precision: torch.dtype, kind: Kind
) -> Float32[Tensor, "slide output"]:
    """What a model in evaluation mode says of slides: of whole bags, or on the mean of crops.

    Memory stays bounded.
    """
    # the same matrix products in a run and by a model that was loaded, or the last digits differ
    products = fast_matmul(reader.device)
    with torch.inference_mode(), products, autocast(reader.device, precision):
        said = [model(bags).scores.float() for bags in reader.in_turn(slides)]
    return mean_of_views(torch.cat(said), [reader.n_views(slide) for slide in slides], kind)


def mean_of_views(
    scores: Float32[Tensor, "view output"], counts: Sequence[int], kind: Kind
) -> Float32[Tensor, "slide output"]:
    """Scores of slides whose output is the mean over that of their views.

    Of classes, the mean is that of the probabilities.

    Args:
        scores: of the views, slide after slide.
        counts: number of views of each slide.
        kind: of the task.
    """
    if max(counts) == 1:
        return scores
    parts = torch.split(scores.double(), list(counts))
    mean = _mean_class if kind == "classification" else partial(torch.mean, dim=0)
    return torch.stack([mean(views) for views in parts]).float()


def _mean_class(scores: Float64[Tensor, "view output"]) -> Float64[Tensor, " output"]:
    if scores.shape[1] > 1:
        return scores.log_softmax(dim=1).logsumexp(dim=0) - math.log(len(scores))
    second, first = functional.logsigmoid(scores), functional.logsigmoid(-scores)
    return second.logsumexp(dim=0) - first.logsumexp(dim=0)


def precision_of(settings: MilSettings, device: torch.device) -> torch.dtype:
    """What the network computes in."""
    said = settings.precision
    half = said == "bf16" or (said == "auto" and device.type == "cuda")
    return torch.bfloat16 if half else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[Any]:
    """Arithmetic of a network in that precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16)
