"""Fast JPEG path: the stored tiles of a JPEG-tiled TIFF or SVS, decoded from the mapped file."""

import mmap
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
import tifffile
from jaxtyping import Int64, UInt8

from gigassl.errors import SlideError
from gigassl.files import machine_error

VENDORS = frozenset({"aperio", "generic-tiff"})
CACHE_BYTES = 256 << 20
# of the mapped file that may stay in this process's memory before its pages are given back
_MAPPED_BYTES = 16 << 20

_SOI = b"\xff\xd8"
# says "the three components are RGB"; without it libjpeg takes them for YCbCr
_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
_JPEG = 7
_RGB = 2
_REDUCTIONS = (1, 2, 4, 8)
# of a damaged directory it says what happened to come of it
_TIFFFILE_GIVES_UP = (
    tifffile.TiffFileError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError,
    struct.error,
)  # fmt: skip

Tile = UInt8[np.ndarray, "row col 3"]


@dataclass(frozen=True, kw_only=True)
class StoredTiles:
    """Where the JPEG tiles of one pyramid level lie in the file.

    Attributes:
        width, height: size of the level, px.
        tile_width, tile_height: size of a stored tile, px.
        offsets, counts: byte position and length of each tile, row by row.
        prefix: what stands before a tile's own bytes (start marker, colour marker, shared tables);
            empty where a stored tile is a whole JPEG already.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    offsets: Int64[np.ndarray, " stored"]
    counts: Int64[np.ndarray, " stored"]
    prefix: bytes

    @property
    def columns(self) -> int:
        """Stored tiles in a row."""
        return -(-self.width // self.tile_width)


class TileCache:
    """Decoded tiles, the oldest out first, bounded in bytes; safe across threads.

    Oldest, not least recently used: in raster order both are the same tiles, and looking one up
    then needs no lock.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._tiles: dict[int, Tile] = {}
        self._lock = threading.Lock()
        self.get = self._tiles.get

    def put(self, key: int, tile: Tile) -> None:
        """Keeps a decoded tile, dropping the oldest ones over the bound."""
        with self._lock:
            if key in self._tiles:
                return
            self._tiles[key] = tile
            self._bytes += tile.nbytes
            while self._bytes > self._max_bytes:
                self._bytes -= self._tiles.pop(next(iter(self._tiles))).nbytes


class JpegLevel:
    """One pyramid level, read by decoding its stored JPEG tiles.

    Attributes:
        width, height: size in px, after ``reduction``.
        tile_width, tile_height: size of a decoded tile in px, after ``reduction``.
        stored: where its tiles lie in the file.
        decoded: stored tiles decoded into the cache so far.
    """

    def __init__(self, file: mmap.mmap, stored: StoredTiles, *, reduction: int = 1) -> None:
        self.width = -(-stored.width // reduction)
        self.height = -(-stored.height // reduction)
        self.tile_width = stored.tile_width // reduction
        self.tile_height = stored.tile_height // reduction
        self._reduction = reduction
        self.stored = stored
        self._columns = stored.columns
        self._all_stored = bool((stored.counts > 0).all())
        self._map, self._file = file, memoryview(file)
        self._mapped_bytes = 0
        self._cache = TileCache()
        self._most_bytes = CACHE_BYTES
        self.decoded = 0
        self._tile_shape = (self.tile_height, self.tile_width, 3)

    def keep_for(self, region_px: int) -> None:
        """Keeps no more decoded tiles than raster-order reads of such regions come back to.

        Twice the rows that a region spans, as several threads may be a row apart.
        """
        rows = 2 * (-(-region_px // self.tile_height) + 1)
        row_bytes = self._columns * self.tile_width * self.tile_height * 3
        self.keep_at_most(rows * row_bytes)

    def keep_at_most(self, n_bytes: int) -> None:
        """Keeps no more decoded tiles than fit in so many bytes, nor than the common bound."""
        self._most_bytes = min(CACHE_BYTES, n_bytes)
        self._cache = TileCache(self._most_bytes)

    def let_go(self) -> None:
        """Gives its memory back: decoded tiles and pages of the file. It can be read again."""
        self._cache = TileCache(self._most_bytes)
        self._give_pages_back()

    def _give_pages_back(self) -> None:
        # they stay in the system's cache; here they would add up to the size of the file
        self._mapped_bytes = 0
        self._map.madvise(mmap.MADV_DONTNEED)

    def holds(self, x: int, y: int, *, width: int, height: int) -> bool:
        """Whether the region lies inside the level and every tile under it is stored."""
        if x < 0 or y < 0 or x + width > self.width or y + height > self.height:
            return False
        if self._all_stored:
            return True
        counts = self.stored.counts
        rows, cols = self._span(y, height, self.tile_height), self._span(x, width, self.tile_width)
        return all(counts[row * self._columns + col] > 0 for row in rows for col in cols)

    def read_into(self, out: Tile, x: int, y: int) -> None:
        """Fills ``out`` with the region whose top-left corner is (x, y), px of this level.

        Raises:
            SlideError: a stored tile is damaged.
        """
        height, width = out.shape[:2]
        tile_w, tile_h = self.tile_width, self.tile_height
        if out.shape == self._tile_shape and x % tile_w == 0 and y % tile_h == 0:
            self._decode((y // tile_h) * self._columns + x // tile_w, out=out)
            return
        for row in self._span(y, height, tile_h):
            top = row * tile_h
            y0, y1 = max(y, top), min(y + height, top + tile_h)
            for col in self._span(x, width, tile_w):
                left = col * tile_w
                x0, x1 = max(x, left), min(x + width, left + tile_w)
                tile = self._tile(row * self._columns + col)
                out[y0 - y : y1 - y, x0 - x : x1 - x] = tile[
                    y0 - top : y1 - top, x0 - left : x1 - left
                ]

    @staticmethod
    def _span(start: int, length: int, step: int) -> range:
        return range(start // step, (start + length - 1) // step + 1)

    def _tile(self, index: int) -> Tile:
        tile = self._cache.get(index)
        if tile is None:
            tile = np.empty(self._tile_shape, np.uint8)
            self._decode(index, out=tile)
            self._cache.put(index, tile)
            self.decoded += 1
        return tile

    def _decode(self, index: int, *, out: Tile) -> None:
        stored = self.stored
        start, count = int(stored.offsets[index]), int(stored.counts[index])
        data: bytes | memoryview = self._file[start : start + count]
        if len(data) < count:
            raise self._damaged(index, "the file ends before it")
        if stored.prefix:
            data = b"".join((stored.prefix, data[2:]))
        try:
            if self._reduction == 1:
                tile = simplejpeg.decode_jpeg(data, "RGB", buffer=out)
            else:
                tile = simplejpeg.decode_jpeg(
                    data,
                    "RGB",
                    min_width=self.tile_width,
                    min_height=self.tile_height,
                    buffer=out,
                )
        except ValueError as error:
            raise self._damaged(index, str(error)) from error
        self._mapped_bytes += count
        if self._mapped_bytes > _MAPPED_BYTES:
            self._give_pages_back()
        if tile.shape != self._tile_shape:
            raise self._damaged(index, f"{tile.shape[1]} × {tile.shape[0]} px inside")

    def _damaged(self, index: int, detail: str) -> SlideError:
        row, column = divmod(index, self._columns)
        return SlideError(
            f"the stored JPEG tile in row {row}, column {column} is damaged; copy the file again",
            stage="read",
            detail=detail,
        )


def open_jpeg_level(path: Path, size: tuple[int, int], *, reduction: int = 1) -> JpegLevel | None:
    """The pyramid level of ``size`` (width, height) px, if the file stores it as JPEG tiles.

    Args:
        path: a TIFF or SVS file.
        size: the level's size, px.
        reduction: 2, 4 or 8 decodes each tile that much smaller (libjpeg's scaled DCT: faster,
            and slightly other pixels than averaging).

    Raises:
        MachineError: no file handles left.
    """
    assert reduction in _REDUCTIONS
    try:
        with path.open("rb") as handle:
            stored = _find_level(path, size)
            if stored is None or stored.tile_width % reduction or stored.tile_height % reduction:
                return None
            mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        known = machine_error(error, doing=f"cannot open {path}")
        if known is not None:
            raise known from error
        raise SlideError(
            "the file cannot be read", stage="open", detail=error.strerror or str(error)
        ) from error
    return JpegLevel(mapped, stored, reduction=reduction)


def _find_level(path: Path, size: tuple[int, int]) -> StoredTiles | None:
    try:
        with tifffile.TiffFile(path) as tiff:
            for page in tiff.pages:
                if isinstance(page, tifffile.TiffPage) and _is_jpeg_tiled(page, size):
                    return _stored_tiles(page)
    except _TIFFFILE_GIVES_UP:
        return None  # OpenSlide reads some files that tifffile does not; they go without
    return None


def _is_jpeg_tiled(page: tifffile.TiffPage, size: tuple[int, int]) -> bool:
    return (
        bool(page.is_tiled)
        and page.compression == _JPEG
        and (page.imagewidth, page.imagelength) == size
        and (page.samplesperpixel, page.bitspersample, page.planarconfig) == (3, 8, 1)
    )


def _stored_tiles(page: tifffile.TiffPage) -> StoredTiles | None:
    stored = StoredTiles(
        width=page.imagewidth,
        height=page.imagelength,
        tile_width=page.tilewidth,
        tile_height=page.tilelength,
        offsets=np.asarray(page.dataoffsets, np.int64),
        counts=np.asarray(page.databytecounts, np.int64),
        prefix=_prefix(page.jpegtables, is_rgb=page.photometric == _RGB),
    )
    rows = -(-stored.height // stored.tile_height)
    return stored if len(stored.offsets) == len(stored.counts) == rows * stored.columns else None


def _prefix(tables: bytes | None, *, is_rgb: bool) -> bytes:
    # shared tables are a JPEG of their own: start marker, tables, end marker
    body = tables[2:-2] if tables else b""
    colour = _ADOBE_RGB if is_rgb else b""
    return _SOI + colour + body if body or colour else b""
