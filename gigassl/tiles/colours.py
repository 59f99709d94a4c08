"""Colour operations on images, each with a strength of its own or one for all; on any device."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

# optical density of haematoxylin, eosin and the residual (DAB), rows of unit length
# (Ruifrok and Johnston, Anal Quant Cytol Histol 2001)
_STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
_GREY = (0.2989, 0.587, 0.114)


def grey_of(images: Float[Tensor, "tile 3 row col"]) -> Float[Tensor, "tile 1 row col"]:
    """The luma of every pixel (ITU-R BT.601, as torchvision has it)."""
    red, green, blue = images[:, :1], images[:, 1:2], images[:, 2:]
    return (red * _GREY[0]).add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2])


def brightened(
    images: Float[Tensor, "tile 3 row col"], factor: Float[Tensor, "tile"]
) -> Float[Tensor, "tile 3 row col"]:
    """All channels of an image times its factor, cut at 1."""
    return (images * factor.view(-1, 1, 1, 1)).clamp_(max=1)


def contrasted(
    images: Float[Tensor, "tile 3 row col"], factor: Float[Tensor, "tile"]
) -> Float[Tensor, "tile 3 row col"]:
    """The difference from the image's mean grey times its factor, cut at 0 and 1."""
    mean = grey_of(images).mean((1, 2, 3), keepdim=True)
    return _apart(images, mean, factor)


def saturated(
    images: Float[Tensor, "tile 3 row col"], factor: Float[Tensor, "tile"]
) -> Float[Tensor, "tile 3 row col"]:
    """The difference of each pixel from its own grey times the image's factor, cut at 0 and 1."""
    return _apart(images, grey_of(images), factor)


def _apart(images: Tensor, middle: Tensor, factor: Tensor) -> Tensor:
    factor = factor.view(-1, 1, 1, 1)
    return (images * factor).add_(middle * (1 - factor)).clamp_(0, 1)


def hue_turned(
    images: Float[Tensor, "tile 3 row col"], turn: Float[Tensor, "tile"] | float
) -> Float[Tensor, "tile 3 row col"]:
    """The hue of every pixel turned by a share of the colour circle, lightness kept.

    The same result as ``torchvision.transforms.v2.functional.adjust_hue``, many times faster on a
    CPU, since nothing is chosen among cases: how far a hue lies from red, in sixths of the circle,
    is ``2 + (green + blue - red - most) / chroma``, and on which side of it says the sign of
    ``green - blue``. A channel is at its most within one sixth of its own hue, and at its least
    from two sixths on.

    Args:
        images: RGB from 0 to 1.
        turn: of each image, or one for all; in turns of the colour circle.
    """
    red, green, blue = images[:, :1], images[:, 1:2], images[:, 2:]
    most = torch.maximum(torch.maximum(red, green), blue)
    chroma = most - torch.minimum(torch.minimum(red, green), blue)
    from_red = (green + blue).sub_(red).sub_(most)
    from_red.div_(chroma.clamp(min=torch.finfo(chroma.dtype).tiny)).add_(2)
    hue = from_red.copysign_(green - blue).div_(6)  # in turns; red is 0
    hue += turn.view(-1, 1, 1, 1) if isinstance(turn, Tensor) else turn
    away = hue - torch.arange(3, device=hue.device).view(1, 3, 1, 1) / 3
    away -= away.round()
    share = away.abs_().mul_(6).sub_(1).clamp_(0, 1)
    return torch.addcmul(most, chroma, share, value=-1)


def stain_change(
    alphas: Float[Tensor, "tile 2"], betas: Float[Tensor, "tile 2"]
) -> tuple[Float[Tensor, "tile 3 3"], Float[Tensor, "tile 3 1"]]:
    """What ``stains_changed`` does to the logarithm of RGB: a matrix, and what is added.

    Args:
        alphas: factor of the concentration of haematoxylin, and of eosin.
        betas: what is added to it, in optical density.
    """
    stains = torch.from_numpy(_STAINS).to(alphas)
    apart = torch.from_numpy(np.linalg.inv(_STAINS)).to(alphas)
    residual = torch.ones_like(alphas[:, :1])
    matrix = (apart * torch.cat([alphas, residual], dim=1)[:, None]) @ stains
    return matrix.mT.contiguous(), -math.log(10) * (betas @ stains[:2])[:, :, None]


def stains_changed(
    images: Float[Tensor, "tile 3 row col"], matrix: Float[Tensor, "#tile 3 3"],
    shift: Float[Tensor, "#tile 3 1"],
) -> Float[Tensor, "tile 3 row col"]:  # fmt: skip
    """Changes how much haematoxylin and eosin there is; the residual stays.

    Colour deconvolution: optical density ``-log10(I)`` is a sum of stains, each times its
    concentration (Ruifrok and Johnston 2001); jitter after Tellez et al. (IEEE TMI 2018).

    Args:
        images: RGB from 0 to 1.
        matrix, shift: from ``stain_change``, of each image or one for all.
    """
    light = images.clamp(min=1 / 255).log_().flatten(2)
    light = torch.baddbmm(shift.to(light), matrix.to(light).expand(len(light), -1, -1), light)
    return light.exp_().clamp_(max=1).view_as(images)
