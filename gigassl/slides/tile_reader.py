"""Tile reader: tiles of a grid as one array of pixels, by the fastest way that is right."""

import numpy as np
from jaxtyping import Int64, UInt8

from gigassl.slides.grid import TileGrid
from gigassl.slides.jpeg import open_jpeg_level
from gigassl.slides.level_reader import Backend, LevelReader, verified_jpeg_level
from gigassl.slides.reader import Slide

Corners = Int64[np.ndarray, "tile 2"]


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
        self._tile_px = grid.tile_px
        self._read_px = plan.read_px
        self._corners = level_corners(slide, grid)
        jpeg = verified_jpeg_level(slide, plan.level) if fast else None
        self._pixels = LevelReader(slide, plan.level, jpeg=jpeg)
        if scaled_dct and jpeg is not None:
            self._use_scaled_dct(slide, level=plan.level, scale=plan.scale)
        if self._pixels.jpeg is not None:
            self._pixels.jpeg.keep_for(self._read_px)

    @property
    def backend(self) -> Backend:
        """Who reads the pixels."""
        return self._pixels.backend

    @property
    def reduction(self) -> int:
        """How much smaller stored tiles are decoded."""
        return self._pixels.reduction

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
            self._pixels.read_square(x, y, read_px=self._read_px, out=tile)
        return tiles

    def let_go(self) -> None:
        """Gives back the memory that reading took; the tiles can be read again."""
        if self._pixels.jpeg is not None:
            self._pixels.jpeg.let_go()

    def _use_scaled_dct(self, slide: Slide, *, level: int, scale: float) -> None:
        # a scale that is a whole number but for rounding counts as that number
        reduction = max(k for k in (1, 2, 4, 8) if k <= scale * 1.001)
        if reduction == 1:
            return
        jpeg = open_jpeg_level(slide.path, slide.level_sizes[level], reduction=reduction)
        if jpeg is None:
            return
        self._pixels = LevelReader(slide, level, jpeg=jpeg, reduction=reduction)
        self._read_px = max(1, round(self._read_px / reduction))
        limit = np.array([jpeg.width, jpeg.height]) - self._read_px
        self._corners = np.minimum(np.rint(self._corners / reduction).astype(np.int64), limit)


def level_corners(slide: Slide, grid: TileGrid) -> Corners:
    """(x, y) of each tile's top-left corner in px of the level it is read from.

    Rounding never pushes a region over the level's last row or column.
    """
    corners = np.rint(grid.coords / grid.plan.downsample).astype(np.int64)
    limit = np.array(slide.level_sizes[grid.plan.level], np.int64) - grid.plan.read_px
    return np.minimum(corners, np.maximum(limit, 0))
