"""Tiles of plain images: an image is one tile, or is cut into several at an encoder's µm/px."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from gigassl.errors import SettingsError, SlideError
from gigassl.slides.average import resize_square

_SAME = 0.02


@dataclass(frozen=True, kw_only=True)
class ImageCut:
    """How images become tiles.

    Attributes:
        tile_px: side of a tile, px.
        mpp: µm/px of the tiles; counts only where ``image_mpp`` is given.
        image_mpp: µm/px of the images. None: each image is one tile, resized whole.

    Raises:
        SettingsError: a number that is not above zero.
    """

    tile_px: int = 224
    mpp: float = 0.5
    image_mpp: float | None = None

    def __post_init__(self) -> None:
        numbers = [self.tile_px, self.mpp, *([] if self.image_mpp is None else [self.image_mpp])]
        if not all(0 < number < math.inf for number in numbers):
            raise SettingsError(
                "the side of tiles and the µm/px of tiles and images must be above zero; got "
                f"{self.tile_px}, {self.mpp:g} and {self.image_mpp}"
            )

    @property
    def side(self) -> float:
        """Side of a tile in px of the image; within 2 % of the wanted µm/px pixels stay as is."""
        if self.image_mpp is None or abs(self.image_mpp / self.mpp - 1) <= _SAME:
            return float(self.tile_px)
        return max(1.0, self.tile_px * self.mpp / self.image_mpp)


def cut_image(
    image: UInt8[np.ndarray, "row col 3"], cut: ImageCut
) -> UInt8[np.ndarray, "tile side side 3"]:
    """The tiles of an image: side by side from the middle, what is left at the rim dropped.

    Area-averaged where pixels shrink, cubic where they grow.

    Raises:
        SlideError: the image is smaller than one tile.
    """
    refuse_small(image, cut)
    if cut.image_mpp is None:
        return _resized([image], tile_px=cut.tile_px)
    tops, lefts = (_starts(length, cut) for length in image.shape[:2])
    side = round(cut.side)
    squares = [image[y : y + side, x : x + side] for y in tops for x in lefts]
    return _resized(squares, tile_px=cut.tile_px)


def refuse_small(image: UInt8[np.ndarray, "row col 3"], cut: ImageCut) -> None:
    """Refuses an image that gives no tile.

    Raises:
        SlideError: it is smaller than one tile.
    """
    if cut.image_mpp is not None and not all(_count(side, cut) for side in image.shape[:2]):
        raise SlideError(
            f"its {image.shape[1]} × {image.shape[0]} px at {cut.image_mpp:g} µm/px are less than "
            f"one tile of {cut.tile_px} px at {cut.mpp:g} µm/px, {cut.side:.0f} px of it",
            stage="grid",
        )


def _count(length: int, cut: ImageCut) -> int:
    # a side that is whole but for the last bits of a division counts as whole
    return int(length / cut.side + 1e-9)


def _starts(length: int, cut: ImageCut) -> list[int]:
    count, side = _count(length, cut), round(cut.side)
    margin = (length - count * cut.side) / 2
    return [min(round(margin + i * cut.side), length - side) for i in range(count)]


def _resized(
    squares: list[UInt8[np.ndarray, "_ _ 3"]], *, tile_px: int
) -> UInt8[np.ndarray, "tile side side 3"]:
    tiles = np.empty((len(squares), tile_px, tile_px, 3), np.uint8)
    for square, tile in zip(squares, tiles, strict=True):
        if square.shape == tile.shape:
            tile[:] = square
        else:
            resize_square(np.ascontiguousarray(square), out=tile)
    return tiles
