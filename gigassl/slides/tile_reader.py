"""Tile reader: tiles of a grid as one array of pixels, by the fastest way that is right."""

import math
import threading
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from gigassl.errors import SlideError
from gigassl.slides.average import resize_square
from gigassl.slides.grid import TileGrid
from gigassl.slides.jpeg import VENDORS, JpegLevel, open_jpeg_level
from gigassl.slides.reader import Slide

Backend = Literal["jpeg", "openslide"]
Corners = Int64[np.ndarray, "tile 2"]

_CHECKED_REGIONS = 12
# below half of the smallest fraction of a pixel that OpenSlide's compositing resolves (1/256)
_SAME_PIXEL = 1 / 600


class TileReader:
    """Reads tiles of one slide; ``read`` may be called from several threads at once.

    Attributes:
        backend: "jpeg" where stored JPEG tiles are decoded directly, after sampled regions came out
            identical to OpenSlide's; else "openslide".
        reduction: 2, 4 or 8 where tiles are decoded that much smaller (scaled DCT), else 1.
    """

    def __init__(
        self, slide: Slide, grid: TileGrid, *, fast: bool = True, scaled_dct: bool = False
    ) -> None:
        """Opens the tiles of ``grid`` for reading.

        Args:
            slide: stays open as long as the reader is used.
            grid: where the tiles lie and how they are read.
            fast: decode stored JPEG tiles directly where that gives OpenSlide's pixels.
            scaled_dct: let libjpeg shrink while it decodes; slightly other pixels, so opt-in.

        Raises:
            SlideError: the slide cannot be read.
            MachineError: no file handles left.
        """
        plan = grid.plan
        self._slide = slide
        self._level = plan.level
        self._downsample = plan.downsample
        self._tile_px = grid.tile_px
        self._read_px = plan.read_px
        self._corners = level_corners(slide, grid)
        self._jpeg = verified_jpeg_level(slide, plan.level) if fast else None
        self.backend: Backend = "openslide" if self._jpeg is None else "jpeg"
        self.reduction = 1
        self._scratch = threading.local()
        if scaled_dct and self._jpeg is not None:
            self._use_scaled_dct(plan.scale)
        if self._jpeg is not None:
            self._jpeg.keep_for(self._read_px)

    def read(
        self,
        indices: Int64[np.ndarray, " tile"],
        *,
        out: UInt8[np.ndarray, "tile row col 3"] | None = None,
    ) -> UInt8[np.ndarray, "tile row col 3"]:
        """Pixels of the tiles with these positions in the grid.

        Args:
            indices: positions in ``grid.coords``.
            out: array to fill instead of a new one, ``[len(indices), tile_px, tile_px, 3]``.

        Raises:
            SlideError: stored pixels are damaged.
            MachineError: no file handles left.
        """
        side = self._tile_px
        tiles = np.empty((len(indices), side, side, 3), np.uint8) if out is None else out
        for tile, (x, y) in zip(tiles, self._corners[indices].tolist(), strict=True):
            if self._read_px == side:
                self._read_into(tile, x, y)
            else:
                region = self._region()
                self._read_into(region, x, y)
                resize_square(region, out=tile)
        return tiles

    def _read_into(self, out: UInt8[np.ndarray, "row col 3"], x: int, y: int) -> None:
        jpeg, side = self._jpeg, self._read_px
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

    def _region(self) -> UInt8[np.ndarray, "row col 3"]:
        region: UInt8[np.ndarray, "row col 3"] | None = getattr(self._scratch, "region", None)
        if region is None:
            region = np.empty((self._read_px, self._read_px, 3), np.uint8)
            self._scratch.region = region
        return region

    def _use_scaled_dct(self, scale: float) -> None:
        # a scale that is a whole number but for rounding counts as that number
        reduction = max(k for k in (1, 2, 4, 8) if k <= scale * 1.001)
        if reduction == 1:
            return
        size = self._slide.level_sizes[self._level]
        level = open_jpeg_level(self._slide.path, size, reduction=reduction)
        if level is None:
            return
        self._jpeg, self.reduction = level, reduction
        self._read_px = max(1, round(self._read_px / reduction))
        limit = np.array([level.width, level.height]) - self._read_px
        self._corners = np.minimum(np.rint(self._corners / reduction).astype(np.int64), limit)


def level_corners(slide: Slide, grid: TileGrid) -> Corners:
    """(x, y) of each tile's top-left corner in px of the level it is read from.

    Rounding never pushes a region over the level's last row or column.
    """
    corners = np.rint(grid.coords / grid.plan.downsample).astype(np.int64)
    limit = np.array(slide.level_sizes[grid.plan.level], np.int64) - grid.plan.read_px
    return np.minimum(corners, np.maximum(limit, 0))


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
