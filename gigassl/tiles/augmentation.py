"""Augmentation of tiles: one draw of parameters for a whole batch, applied on the device.

The published Giga-SSL bank (arXiv 2212.03273) gives all tiles of a batch the same crop, colours and
blur, so that these are properties of a view of the slide and not noise that a mean would remove.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional

from gigassl.errors import SettingsError
from gigassl.tiles.colours import hue_turned, stain_change, stains_changed

_CROP_TRIES = 10
_TILES_IN_CACHE = 4
_MOST = {
    "jitter_p": 1, "grey_p": 1, "blur_p": 1, "brightness": 1, "contrast": 1, "saturation": 1,
    "hue": 0.5, "stain": 0.9,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """What parameters are drawn from, in the order of application; the defaults are the published.

    Attributes:
        crop_area: share of the tile's area that is kept, from … to.
        crop_ratio: width over height of what is kept, from … to.
        flips: mirror in half of the draws, each axis for itself.
        turns: turn by 0, 90, 180 or 270 degrees.
        stain: strength of H&E jitter; concentrations become ``alpha * c + beta`` with alpha from
            1 ± ``stain`` and beta from ± ``stain`` / 4 (optical density); 0 leaves it out.
        brightness, contrast, saturation: a factor from 1 ± this.
        hue: a shift from ± this, in turns of the colour circle.
        jitter_p: probability of the four together, in random order.
        grey_p: probability of grey.
        blur_p: probability of a Gaussian blur.
        blur_px: side of its kernel.
        blur_sigma: its standard deviation, from … to, px.
    """

    crop_area: tuple[float, float] = (0.5, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flips: bool = False
    turns: bool = False
    stain: float = 0.0
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.2
    jitter_p: float = 0.8
    grey_p: float = 0.2
    blur_p: float = 0.5
    blur_px: int = 5
    blur_sigma: tuple[float, float] = (0.1, 1.0)

    def __post_init__(self) -> None:
        for name in ("crop_area", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise SettingsError(f"{name} goes from a positive number up; got {low} to {high}")
        for name, most in _MOST.items():
            if not 0 <= getattr(self, name) <= most:
                raise SettingsError(f"{name} lies from 0 to {most}; got {getattr(self, name)}")
        if self.crop_area[1] > 1:
            raise SettingsError(f"crop_area is a share of the tile; got {self.crop_area[1]}")
        if self.blur_px < 1 or self.blur_px % 2 == 0:
            raise SettingsError(f"blur_px is an odd number of px; got {self.blur_px}")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """One draw of parameters; the same for all tiles it is applied to.

    Attributes:
        crop_height, crop_width: size of what is kept, as shares of the tile's side.
        crop_top, crop_left: where it lies, from 0 to below 1 of the room there is.
        flip_x, flip_y: mirrored left to right, top to bottom.
        quarter_turns: counter-clockwise turns by 90 degrees.
        stain: alpha and beta of haematoxylin, then of eosin; None leaves stains as they are.
        jitter: names and values of the colour operations in their order; empty leaves colours.
        grey: whether colour is taken away.
        blur_px: side of the blur's kernel.
        blur_sigma: of the Gaussian blur, px; None leaves it out.
    """

    crop_height: float = 1.0
    crop_width: float = 1.0
    crop_top: float = 0.0
    crop_left: float = 0.0
    flip_x: bool = False
    flip_y: bool = False
    quarter_turns: int = 0
    stain: tuple[tuple[float, float], ...] | None = None
    jitter: tuple[tuple[str, float], ...] = ()
    grey: bool = False
    blur_px: int = 5
    blur_sigma: float | None = None


def augmentation_from_record(record: Mapping[str, Any]) -> AugmentationSettings:
    """The settings back from the plain values that JSON keeps of them."""
    known: dict[str, Any] = {}
    for field in fields(AugmentationSettings):
        value = record[field.name]
        known[field.name] = tuple(value) if isinstance(value, list) else value
    return AugmentationSettings(**known)


def draw_augmentation(
    settings: AugmentationSettings, generator: np.random.Generator
) -> Augmentation:
    """One draw of parameters.

    Every parameter is drawn, also where its operation is then left out: what one setting says does
    not change the draws of the others.
    """
    height, width = _draw_crop(settings, generator)
    top, left = generator.random(2).tolist()
    flips, turns = generator.random(2) < 0.5, int(generator.integers(4))
    stain = _draw_stain(settings.stain, generator)
    jitter = _draw_jitter(settings, generator)
    with_jitter, with_grey, with_blur = generator.random(3).tolist()
    sigma = float(generator.uniform(*settings.blur_sigma))
    return Augmentation(
        crop_height=height,
        crop_width=width,
        crop_top=top,
        crop_left=left,
        flip_x=settings.flips and bool(flips[0]),
        flip_y=settings.flips and bool(flips[1]),
        quarter_turns=turns if settings.turns else 0,
        stain=stain if settings.stain else None,
        jitter=jitter if with_jitter < settings.jitter_p else (),
        grey=with_grey < settings.grey_p,
        blur_px=settings.blur_px,
        blur_sigma=sigma if with_blur < settings.blur_p else None,
    )


def _draw_crop(
    settings: AugmentationSettings, generator: np.random.Generator
) -> tuple[float, float]:
    """Height and width as shares of the side; as torchvision does, whole after ten misfits."""
    low, high = (math.log(ratio) for ratio in settings.crop_ratio)
    areas = generator.uniform(*settings.crop_area, size=_CROP_TRIES)
    aspects = np.exp(generator.uniform(low, high, size=_CROP_TRIES))
    for area, aspect in zip(areas.tolist(), aspects.tolist(), strict=True):
        height, width = math.sqrt(area / aspect), math.sqrt(area * aspect)
        if height <= 1 and width <= 1:
            return height, width
    return 1.0, 1.0


def _draw_stain(strength: float, generator: np.random.Generator) -> tuple[tuple[float, float], ...]:
    alphas = 1 + strength * generator.uniform(-1, 1, size=2)
    betas = strength / 4 * generator.uniform(-1, 1, size=2)
    return tuple(zip(alphas.tolist(), betas.tolist(), strict=True))


def _draw_jitter(
    settings: AugmentationSettings, generator: np.random.Generator
) -> tuple[tuple[str, float], ...]:
    values = {
        name: 1 + getattr(settings, name) * float(generator.uniform(-1, 1))
        for name in ("brightness", "contrast", "saturation")
    }
    values["hue"] = settings.hue * float(generator.uniform(-1, 1))
    names = list(values)
    return tuple((names[i], values[names[i]]) for i in generator.permutation(4).tolist())


_COLOUR: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": functional.adjust_brightness,
    "contrast": functional.adjust_contrast,
    "saturation": functional.adjust_saturation,
    "hue": hue_turned,
}


def augmented(
    tiles: UInt8[Tensor, "tile row col 3"], drawn: Augmentation, *, side_px: int
) -> UInt8[Tensor, "tile out_row out_col 3"]:
    """All tiles with the same augmentation, on the device where they are.

    Computed in float32 and rounded to bytes at the end, so that encoders of every backend take the
    result as they take a tile that was read.

    Args:
        tiles: square tiles of any side.
        drawn: from ``draw_augmentation``.
        side_px: side of the tiles that come out.
    """
    if tiles.device.type == "cpu":
        # a few tiles stay in the cache from one operation to the next: three times as fast
        some = [tiles[i : i + _TILES_IN_CACHE] for i in range(0, len(tiles), _TILES_IN_CACHE)]
        return torch.cat([_changed(piece, drawn, side_px=side_px) for piece in some])
    return _changed(tiles, drawn, side_px=side_px)


def _changed(
    tiles: UInt8[Tensor, "tile row col 3"], drawn: Augmentation, *, side_px: int
) -> UInt8[Tensor, "tile out_row out_col 3"]:
    images = _cropped(tiles.permute(0, 3, 1, 2), drawn, side_px=side_px)
    images = images.float().div_(255)
    if drawn.stain is not None:
        alphas, betas = torch.tensor(drawn.stain, dtype=torch.float64).T
        images = stains_changed(images, *stain_change(alphas[None], betas[None]))
    for name, value in drawn.jitter:
        images = _COLOUR[name](images, value)
    if drawn.grey:
        images = functional.rgb_to_grayscale(images, num_output_channels=3)
    if drawn.blur_sigma is not None:
        sigma, side = drawn.blur_sigma, drawn.blur_px
        images = functional.gaussian_blur(images, [side, side], [sigma, sigma])
    return (images * 255).round_().clamp_(0, 255).byte().permute(0, 2, 3, 1).contiguous()


def _cropped(images: Tensor, drawn: Augmentation, *, side_px: int) -> Tensor:
    side = images.shape[-1]
    height, width = (max(1, round(s * side)) for s in (drawn.crop_height, drawn.crop_width))
    top = int(drawn.crop_top * (side - height + 1))
    left = int(drawn.crop_left * (side - width + 1))
    images = functional.resized_crop(
        images, top, left, height, width, [side_px, side_px], antialias=True
    )
    mirrored = [axis for axis, flip in ((-1, drawn.flip_x), (-2, drawn.flip_y)) if flip]
    if mirrored:
        images = images.flip(mirrored)
    return torch.rot90(images, drawn.quarter_turns, (-2, -1)) if drawn.quarter_turns else images
