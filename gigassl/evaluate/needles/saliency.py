"""Where a needle network looks: gradients at the input, and what it says of each place."""

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from gigassl.evaluate.needles.network import NeedleNetwork
from gigassl.evaluate.needles.training import as_input


def needle_saliency(
    network: NeedleNetwork, images: UInt8[np.ndarray, "image side side"]
) -> Float32[np.ndarray, "image side side"]:
    """Size of the gradient of the positive logit at each pixel: its RMS over the channels.

    As in Pawlowski et al., Needles in Haystacks (arXiv 1908.06037).
    """
    network.eval()
    device = next(network.parameters()).device
    pixels = as_input(images).to(device).requires_grad_()
    (gradient,) = torch.autograd.grad(network(pixels)[:, 1].sum(), pixels)
    return gradient.square().mean(dim=1).sqrt().float().cpu().numpy()


def needle_places(
    network: NeedleNetwork, images: UInt8[np.ndarray, "image side side"]
) -> Float32[np.ndarray, "image row col"]:
    """What the linear head says of each place of the last map: logit of a needle minus none."""
    network.eval()
    with torch.inference_mode():
        return network.local(as_input(images).to(next(network.parameters()).device)).cpu().numpy()


def share_inside(
    saliency: Float32[np.ndarray, "image side side"], masks: np.ndarray
) -> Float32[np.ndarray, " image"]:
    """Share of each image's saliency that lies in its mask; by chance the mask's share of area."""
    inside: Float32[np.ndarray, " image"] = (saliency * masks).sum(axis=(1, 2)) / np.maximum(
        saliency.sum(axis=(1, 2)), 1e-12
    )
    return inside
