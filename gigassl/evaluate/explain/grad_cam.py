"""Grad-CAM: where in a map the features lie that speak for an answer."""

import torch
from jaxtyping import Float
from torch import Tensor


def grad_cam(
    maps: Float[Tensor, "crop channel row col"], gradients: Float[Tensor, "crop channel row col"]
) -> Float[Tensor, "crop row col"]:
    """Heat of each place: features weighed by the mean of their gradients, where that is positive.

    Selvaraju et al., Grad-CAM (arXiv 1610.02391); Neural Image Compression (arXiv 1811.02840) takes
    the first layer of its slide CNN, for resolution.

    Args:
        maps: features of a layer.
        gradients: of the answer, by these features.
    """
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    return torch.relu((weights * maps).sum(dim=1))
