"""Writes images as pyramidal, JPEG-tiled slide files that OpenSlide opens, small and huge."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import simplejpeg
from jaxtyping import Int64, UInt8
from PIL import Image

from gigassl.errors import SettingsError
from gigassl.files import written_whole
from gigassl.slides.tiff_writer import TiffLevel, save_tiff

JpegCoding = Literal["420", "422", "444", "rgb", "rgb-no-marker", "progressive"]
Vendor = Literal["aperio", "generic"]
Rgb = UInt8[np.ndarray, "row col 3"]


@dataclass(frozen=True, kw_only=True)
class SlideFileSettings:
    """How a slide is stored.

    Attributes:
        tile_px: side of the stored JPEG tiles; a multiple of 16.
        quality: JPEG quality, 1 to 100.
        coding: chroma subsampling (``420``, ``422``, ``444``), ``rgb`` for RGB-coded JPEG,
            ``rgb-no-marker`` for the same without the Adobe marker (some scanners do so),
            ``progressive`` for progressive 4:2:0.
        downsamples: of the pyramid levels, finest (1) first.
        vendor: ``aperio`` writes an SVS description, ``generic`` TIFF resolution tags.
        with_mpp: store the resolution in the file.
    """

    tile_px: int = 256
    quality: int = 80
    coding: JpegCoding = "420"
    downsamples: tuple[int, ...] = (1, 4, 16)
    vendor: Vendor = "aperio"
    with_mpp: bool = True

    def __post_init__(self) -> None:
        if self.tile_px < 16 or self.tile_px % 16:
            raise SettingsError(f"stored tiles need a multiple of 16 px; got {self.tile_px}")
        if self.coding not in get_args(JpegCoding):
            raise SettingsError(
                f"unknown JPEG coding '{self.coding}'; known: {', '.join(get_args(JpegCoding))}"
            )
        if self.downsamples[:1] != (1,) or list(self.downsamples) != sorted(set(self.downsamples)):
            raise SettingsError(f"downsamples start at 1 and rise; got {self.downsamples}")


def save_image(
    image: UInt8[np.ndarray, "row col 3"],
    path: Path,
    *,
    mpp: float,
    settings: SlideFileSettings | None = None,
) -> None:
    """Writes an image as a tiled pyramid; levels are area averages of the finest one.

    Args:
        image: the finest level.
        path: file to write; appears whole.
        mpp: µm/px of the image.
        settings: how to store it.
    """
    settings = settings or SlideFileSettings()
    with written_whole(path) as part:
        save_tiff(_levels_of_image(image, mpp=mpp, settings=settings), part)


def _levels_of_image(image: Rgb, *, mpp: float, settings: SlideFileSettings) -> Iterator[TiffLevel]:
    for downsample in settings.downsamples:
        level = _shrunk(image, downsample)
        if level is not None:
            size = (level.shape[1], level.shape[0])
            tiles = _encoded_tiles(level, settings)
            yield _level(settings, tiles, size=size, mpp=mpp, downsample=downsample)


def save_tiled_slide(
    path: Path,
    *,
    width_px: int,
    height_px: int,
    mpp: float = 0.25,
    palette: UInt8[np.ndarray, "row col 3"] | None = None,
    settings: SlideFileSettings | None = None,
) -> None:
    """Writes a huge slide in seconds: an ellipse of tissue whose stored tiles share a few JPEGs.

    The image is never in memory and equal tiles are stored once: 100,000 × 100,000 px take 4 MB.

    Args:
        path: file to write; appears whole.
        width_px, height_px: size of the finest level.
        mpp: µm/px of the finest level.
        palette: picture to repeat inside the ellipse, cut to whole tiles; default: blobs on pink.
        settings: how to store it.
    """
    settings = settings or SlideFileSettings(downsamples=(1, 4, 16, 64))
    tiles = _palette_tiles(palette, tile_px=settings.tile_px)
    which = _which_tile(width_px, height_px, tile_px=settings.tile_px, n_side=len(tiles))
    flat = np.concatenate([tiles.reshape(-1, *tiles.shape[2:]), np.full_like(tiles[0, :1], 244)])

    def levels() -> Iterator[TiffLevel]:
        for downsample in settings.downsamples:
            size = (width_px // downsample, height_px // downsample)
            shared = _shared_tiles(flat, which, size=size, step=downsample, settings=settings)
            yield _level(settings, shared, size=size, mpp=mpp, downsample=downsample)

    with written_whole(path) as part:
        save_tiff(levels(), part)


def _level(
    settings: SlideFileSettings,
    tiles: Iterable[bytes | int],
    *,
    size: tuple[int, int],
    mpp: float,
    downsample: int,
) -> TiffLevel:
    """One level of ``size`` (width, height); ``mpp`` is that of the finest level."""
    samplings = {"422": (2, 1), "444": (1, 1), "rgb": None, "rgb-no-marker": None}
    aperio = settings.vendor == "aperio"
    description = ""
    if aperio:
        description = (
            f"Aperio Image Library v12.0.15 \r\n{size[0]}x{size[1]} "
            f"({settings.tile_px}x{settings.tile_px}) JPEG/RGB Q={settings.quality}"
        )
        if settings.with_mpp and downsample == 1:
            description += f"|AppMag = {10 / mpp:g}|MPP = {mpp:.6g}"
    return TiffLevel(
        width_px=size[0],
        height_px=size[1],
        tile_px=settings.tile_px,
        tiles=tiles,
        subsampling=samplings.get(settings.coding, (2, 2)),
        description=description,
        px_per_cm=1e4 / (mpp * downsample) if settings.with_mpp and not aperio else None,
        reduced=downsample > 1 and not aperio,
    )


def _shrunk(image: Rgb, downsample: int) -> UInt8[np.ndarray, "level_row level_col 3"] | None:
    """The level at ``downsample``; None where nothing would be left."""
    rows, cols = (length // downsample for length in image.shape[:2])
    if min(rows, cols) < 1:
        return None
    whole = image[: rows * downsample, : cols * downsample]
    return np.asarray(cv2.resize(whole, (cols, rows), interpolation=cv2.INTER_AREA))


def _encoded_tiles(level: Rgb, settings: SlideFileSettings) -> Iterator[bytes]:
    side = settings.tile_px
    for top in range(0, level.shape[0], side):
        for left in range(0, level.shape[1], side):
            tile = level[top : top + side, left : left + side]
            missing = (side - tile.shape[0], side - tile.shape[1])
            if any(missing):  # stored tiles are whole; what hangs over the edge is never shown
                tile = np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
            yield _encode(np.ascontiguousarray(tile), settings)


def _encode(tile: Rgb, settings: SlideFileSettings) -> bytes:
    """One tile as a whole JPEG stream."""
    if settings.coding in {"420", "422", "444"}:
        encoded: bytes = simplejpeg.encode_jpeg(
            tile, quality=settings.quality, colorsubsampling=settings.coding, fastdct=False
        )
        return encoded
    buffer = io.BytesIO()
    picture = Image.fromarray(tile)
    if settings.coding == "progressive":
        picture.save(
            buffer, "JPEG", quality=settings.quality, subsampling="4:2:0", progressive=True
        )
    else:
        picture.save(buffer, "JPEG", quality=settings.quality, keep_rgb=True)
    stream = buffer.getvalue()
    return _without_adobe_marker(stream) if settings.coding == "rgb-no-marker" else stream


def _without_adobe_marker(stream: bytes) -> bytes:
    """Drops the APP14 (Adobe) segment, which says that a JPEG is RGB."""
    at = stream.find(b"\xff\xee")
    if at < 0:
        return stream
    length = int.from_bytes(stream[at + 2 : at + 4], "big")
    return stream[:at] + stream[at + 2 + length :]


def _palette_tiles(palette: Rgb | None, *, tile_px: int) -> UInt8[np.ndarray, "n n row col 3"]:
    """The palette cut into a square arrangement of at most 4 × 4 tiles."""
    if palette is None:
        palette = _blobs(4 * tile_px)
    n_side = min(4, palette.shape[0] // tile_px, palette.shape[1] // tile_px)
    if n_side < 1:
        raise SettingsError(f"the palette must hold at least one tile of {tile_px} px")
    side = n_side * tile_px
    cut = palette[:side, :side].reshape(n_side, tile_px, n_side, tile_px, 3)
    return np.ascontiguousarray(cut.transpose(0, 2, 1, 3, 4))


def _blobs(side_px: int) -> Rgb:
    rng = np.random.default_rng(0)
    image = np.full((side_px, side_px, 3), (226, 150, 190), dtype=np.uint8)
    for x, y in rng.integers(0, side_px, (side_px * side_px // 400, 2)).tolist():
        cv2.ellipse(image, (x, y), (6, 4), float(x % 180), 0.0, 360.0, (95, 60, 130), thickness=-1)
    return image


def _which_tile(
    width_px: int, height_px: int, *, tile_px: int, n_side: int
) -> Int64[np.ndarray, "row col"]:
    """Index of the palette's tile at each place of the finest level; ``n_side²`` means glass."""
    rows, cols = -(-height_px // tile_px), -(-width_px // tile_px)
    row, col = np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij")
    inside = (2 * (row + 0.5) / rows - 1) ** 2 + (2 * (col + 0.5) / cols - 1) ** 2 < 0.8
    return np.where(inside, (row % n_side) * n_side + col % n_side, n_side**2).astype(np.int64)


def _shared_tiles(
    flat: UInt8[np.ndarray, "tile row col 3"],
    which: Int64[np.ndarray, "grid_row grid_col"],
    *,
    size: tuple[int, int],
    step: int,
    settings: SlideFileSettings,
) -> Iterator[bytes | int]:
    """Stored tiles of one level, row by row; a repeated one is the number of its first."""
    # a stored tile of this level shows step × step tiles of the finest one, each shrunk by step
    side = settings.tile_px
    rows, cols = -(-size[1] // side), -(-size[0] // side)
    small_px = (side // step, side // step)
    small = np.stack([cv2.resize(t, small_px, interpolation=cv2.INTER_AREA) for t in flat])
    glass = len(flat) - 1
    first: dict[bytes, int] = {}
    for number in range(rows * cols):
        row, col = divmod(number, cols)
        block = np.full((step, step), glass, dtype=np.int64)
        part = which[row * step : (row + 1) * step, col * step : (col + 1) * step]
        block[: part.shape[0], : part.shape[1]] = part
        known = first.setdefault(block.tobytes(), number)
        yield known if known < number else _encode(_joined(small[block]), settings)


def _joined(
    blocks: UInt8[np.ndarray, "n n row col 3"],
) -> UInt8[np.ndarray, "all_rows all_cols 3"]:
    """Small tiles laid side by side."""
    n, _, side, _, _ = blocks.shape
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3, 4).reshape(n * side, n * side, 3))
