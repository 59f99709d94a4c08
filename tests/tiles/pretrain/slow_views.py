"""Views the obvious way: one tile after the other, one operation after the other, torchvision's."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from gigassl.tiles.augmentation import AugmentationSettings
from gigassl.tiles.pretrain.view_draws import ViewDraws, draw_parameters

STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
ADJUST: tuple[Callable[[Tensor, float], Tensor], ...] = (
    functional.adjust_brightness,
    functional.adjust_contrast,
    functional.adjust_saturation,
    functional.adjust_hue,
)


def slow_views(tiles: Tensor, settings: AugmentationSettings, *, side_px: int, seed: int) -> Tensor:
    """What ``random_views`` should give with a generator of this seed."""
    generator = torch.Generator().manual_seed(seed)
    drawn = draw_parameters(settings, len(tiles), generator=generator)
    views = [
        slow_view(tile, drawn[i : i + 1], settings, side_px=side_px) for i, tile in enumerate(tiles)
    ]
    return torch.stack(views)


def slow_view(
    tile: Tensor, drawn: ViewDraws, settings: AugmentationSettings, *, side_px: int
) -> Tensor:
    image = cropped(tile.permute(2, 0, 1) / 255, drawn, side_px=side_px)
    if drawn.flip_x:
        image = functional.horizontal_flip(image)
    if drawn.flip_y:
        image = functional.vertical_flip(image)
    image = torch.rot90(image, int(drawn.quarter_turns), (-2, -1))
    image = stained(image, drawn.alphas[0].numpy(), drawn.betas[0].numpy())
    for number in drawn.order[0].tolist():
        if number >= 0:
            image = ADJUST[number](image, float(drawn.jitter[0, number]))
    if drawn.grey:
        image = functional.rgb_to_grayscale(image, num_output_channels=3)
    if drawn.blurred:
        side = settings.blur_px
        image = functional.gaussian_blur(image, [side, side], [float(drawn.sigma)] * 2)
    return image


def cropped(image: Tensor, drawn: ViewDraws, *, side_px: int) -> Tensor:
    side = image.shape[-1]
    height, width = (max(1, round(float(share) * side)) for share in (drawn.height, drawn.width))
    top = int(float(drawn.top) * (side - height + 1))
    left = int(float(drawn.left) * (side - width + 1))
    found: Tensor = functional.resized_crop(
        image, top, left, height, width, [side_px, side_px], antialias=True
    )
    return found


def stained(image: Tensor, alphas: np.ndarray, betas: np.ndarray) -> Tensor:
    if (alphas == 1).all() and (betas == 0).all():
        return image
    density = -np.log10(image.double().clamp(min=1 / 255).flatten(1).numpy())
    amounts = np.linalg.solve(STAINS.T, density)
    amounts[:2] = alphas[:, None] * amounts[:2] + betas[:, None]
    light = 10 ** -(STAINS.T @ amounts)
    found: Tensor = torch.from_numpy(light.clip(0, 1)).float().view_as(image)
    return found
