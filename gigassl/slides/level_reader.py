"""Level reader: squares of one pyramid level, from its stored JPEG tiles where that is right."""

import math
import threading
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from gigassl.errors import SlideError
from gigassl.slides.average import resize_square
from gigassl.slides.jpeg import VENDORS, JpegLevel, open_jpeg_level
from gigassl.slides.reader import Slide

Backend = Literal["jpeg", "openslide"]

_CHECKED_REGIONS = 12
# below half of the smallest fraction of a pixel that OpenSlide's compositing resolves (1/256)
_SAME_PIXEL = 1 / 600


class LevelReader:
    """Reads squares of one level of a slide; may be called from several threads at once.

    Attributes:
        jpeg: direct access to the level's stored tiles; None leaves all to OpenSlide.
        reduction: how much smaller those are decoded than they are stored.
    """

    def __init__(
        self, slide: Slide, level: int, *, jpeg: JpegLevel | None, reduction: int = 1
    ) -> None:
        self._slide = slide
        self._level = level
        self._downsample = slide.info.downsamples[level]
        self._scratch = threading.local()
        self.jpeg = jpeg
        self.reduction = reduction

    @property
    def backend(self) -> Backend:
        """Who reads the pixels."""
        return "openslide" if self.jpeg is None else "jpeg"

    def read_square(
        self, x: int, y: int, *, read_px: int, out: UInt8[np.ndarray, "side side 3"]
    ) -> None:
        """Fills ``out`` with a square of ``read_px`` whose corner is (x, y), px of this level.

        Raises:
            SlideError: stored pixels are damaged.
            MachineError: no file handles left.
        """
        if read_px == out.shape[0]:
            self._read_into(out, x, y)
            return
        region = self._region(read_px)
        self._read_into(region, x, y)
        resize_square(region, out=out)

    def _read_into(self, out: UInt8[np.ndarray, "side side 3"], x: int, y: int) -> None:
        jpeg, side = self.jpeg, out.shape[0]
        if jpeg is not None and jpeg.holds(x, y, width=side, height=side):
            jpeg.read_into(out, x, y)
            return
        # without data of its own (a tile of zero length): what stands there is OpenSlide's to say
        scale = self._downsample * self.reduction
        full = side * self.reduction
        region = self._slide.read_region(
            round(x * scale), round(y * scale), level=self._level, width=full, height=full
        )
        if full == side:
            out[...] = region
        else:
            resize_square(region, out=out)

    def _region(self, read_px: int) -> UInt8[np.ndarray, "side side 3"]:
        region: UInt8[np.ndarray, "side side 3"] | None = getattr(self._scratch, "region", None)
        if region is None or len(region) != read_px:
            region = np.empty((read_px, read_px, 3), np.uint8)
            self._scratch.region = region
        return region


def verified_jpeg_level(slide: Slide, level: int) -> JpegLevel | None:
    """Direct access to a level's stored JPEG tiles, if it gives exactly OpenSlide's pixels.

    Compared are regions at the corners, at the last row and column, across borders of stored tiles
    and at fixed places between; one differing pixel is enough to leave the level to OpenSlide.
    """
    if slide.vendor not in VENDORS:
        return None
    jpeg = open_jpeg_level(slide.path, slide.level_sizes[level])
    if jpeg is None:
        return None
    agreed = [_agrees(slide, jpeg, level=level, corner=corner) for corner in _samples(jpeg)]
    compared = [same for same in agreed if same is not None]
    return jpeg if compared and all(compared) else None


def _samples(jpeg: JpegLevel) -> list[tuple[int, int]]:
    far_x, far_y = max(0, jpeg.width - jpeg.tile_width), max(0, jpeg.height - jpeg.tile_height)
    border_x, border_y = min(jpeg.tile_width // 2, far_x), min(jpeg.tile_height // 2, far_y)
    places = [(0, 0), (far_x, 0), (0, far_y), (far_x, far_y), (border_x, border_y)]
    # the golden ratio spreads any number of places evenly, the same ones every time
    spread = _CHECKED_REGIONS - len(places)
    for i in range(1, spread + 1):
        along, across = (i * (math.sqrt(5) - 1) / 2) % 1, i / (spread + 1)
        places.append((round(along * far_x), round(across * far_y)))
    return places


def _agrees(slide: Slide, jpeg: JpegLevel, *, level: int, corner: tuple[int, int]) -> bool | None:
    """Whether one region is identical both ways; None where one of them has nothing to compare."""
    downsample = slide.info.downsamples[level]
    x, y = (_on_pixel(position, downsample=downsample) for position in corner)
    width, height = min(jpeg.tile_width, jpeg.width - x), min(jpeg.tile_height, jpeg.height - y)
    if not jpeg.holds(x, y, width=width, height=height):
        return None
    mine = np.empty((height, width, 3), np.uint8)
    try:
        jpeg.read_into(mine, x, y)
    except SlideError:
        return None  # a damaged tile fails the slide only if the grid asks for it
    x_l0, y_l0 = round(x * downsample), round(y * downsample)
    theirs = slide.read_region(x_l0, y_l0, level=level, width=width, height=height)
    return bool(np.array_equal(mine, theirs))


def _on_pixel(position: int, *, downsample: float) -> int:
    """The nearest position at or before this one that a whole level-0 pixel falls on.

    OpenSlide is asked in level-0 px and interpolates where that falls between two pixels.
    """
    candidates = (
        p
        for p in range(position, -1, -1)
        if abs(round(p * downsample) / downsample - p) < _SAME_PIXEL
    )
    return next(candidates, 0)
