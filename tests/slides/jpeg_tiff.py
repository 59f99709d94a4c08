"""Small JPEG-tiled TIFF and SVS files in every JPEG flavour that scanners and converters write."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from gigassl.slides.tiff_writer import TiffLevel, save_tiff

APERIO = (
    "Aperio Image Library v12.0.0\r\n{width}x{height} (256x256) JPEG Q=80|AppMag = 20|MPP = 0.5"
)


@dataclass(frozen=True, kw_only=True)
class JpegKind:
    """One flavour: chroma subsampling ("4:2:0" …), scan order, colour coding."""

    subsampling: str = "4:2:0"
    progressive: bool = False
    rgb: bool = False
    shared_tables: bool = False


KINDS = {
    "baseline-420": JpegKind(),
    "baseline-422": JpegKind(subsampling="4:2:2"),
    "baseline-444": JpegKind(subsampling="4:4:4"),
    "progressive-420": JpegKind(progressive=True),
    "rgb": JpegKind(subsampling="4:4:4", rgb=True),
}


def painting(width: int, height: int, *, seed: int = 0) -> np.ndarray:
    """A smooth colourful picture with detail at every scale: RGB, rows x columns."""
    rng = np.random.default_rng(seed)
    total = np.full((height, width, 3), 128.0, np.float32)
    for cells, strength in ((4, 60), (16, 40), (64, 30)):
        noise = rng.normal(0, strength, (cells, cells, 3)).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return total.clip(0, 255).astype(np.uint8)


def encode(tile: np.ndarray, kind: JpegKind) -> bytes:
    """One tile as a JPEG of this flavour."""
    out = io.BytesIO()
    Image.fromarray(tile).save(
        out,
        "JPEG",
        quality=80,
        progressive=kind.progressive,
        subsampling=kind.subsampling,
        keep_rgb=kind.rgb,
    )
    data = out.getvalue()
    return without_adobe_marker(data) if kind.rgb else data


def without_adobe_marker(data: bytes) -> bytes:
    """The JPEG without its APP14 segment, as some Aperio scanners store RGB."""
    start = data.index(b"\xff\xee")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    return data[:start] + data[start + 2 + length :]


def write_jpeg_tiff(
    path: Path,
    levels: list[np.ndarray],
    *,
    kind: JpegKind | None = None,
    tile_px: int = 256,
    aperio: bool = True,
    replace: dict[int, bytes] | None = None,
) -> Path:
    """Writes pyramid levels; ``replace`` gives level-0 tiles other bytes (empty: missing)."""
    kind = kind or JpegKind()
    factors = {"4:2:0": (2, 2), "4:2:2": (2, 1), "4:4:4": (1, 1)}[kind.subsampling]
    height, width = levels[0].shape[:2]
    text = APERIO.format(width=width, height=height) if aperio else ""
    replaced = [replace or {}] + [{} for _ in levels[1:]]
    tiff_levels = [
        TiffLevel(
            width_px=level.shape[1],
            height_px=level.shape[0],
            tile_px=tile_px,
            tiles=_encoded(level, kind, tile_px=tile_px, replace=other),
            subsampling=None if kind.rgb else factors,
            description=text,
            px_per_cm=None if aperio else 20000.0,
            reduced=number > 0 and not aperio,
        )
        for number, (level, other) in enumerate(zip(levels, replaced, strict=True))
    ]
    save_tiff(tiff_levels, path)
    return path


def as_bigtiff(path: Path, *, shared_tables: bytes = b"") -> Path:
    """Rewrites a classic TIFF as BigTIFF; ``shared_tables`` becomes each level's JPEGTables tag."""
    with tifffile.TiffFile(path) as tiff:
        pages = [
            {tag.code: (int(tag.dtype), tag.value) for tag in page.tags}
            for page in tiff.pages
            if isinstance(page, tifffile.TiffPage)
        ]
    body = path.read_bytes()[8:]
    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) + body)
        link = 8
        for tags in pages:
            if shared_tables:
                tags[347] = (7, shared_tables)
            packed = [(code, *_packed(code, *tags[code])) for code in sorted(tags)]
            entries = b""
            for code, dtype, count, data in packed:
                entries += struct.pack("<HHQ", code, dtype, count)
                if len(data) > 8:
                    entries += struct.pack("<Q", file.tell())
                    file.write(data)
                else:
                    entries += data.ljust(8, b"\0")
            start = file.tell()
            file.write(struct.pack("<Q", len(packed)) + entries + struct.pack("<Q", 0))
            end = file.tell()
            file.seek(link)
            file.write(struct.pack("<Q", start))
            file.seek(end)
            link = end - 8
    return path


def _packed(code: int, dtype: int, value: object) -> tuple[int, int, bytes]:
    if isinstance(value, str):
        data = value.encode() + b"\0"
        return dtype, len(data), data
    if isinstance(value, bytes):
        return dtype, len(value), value
    numbers = np.atleast_1d(np.asarray(value, np.int64))
    if code == 324:  # tile offsets: the BigTIFF header is 8 bytes longer
        return 16, len(numbers), (numbers + 8).astype("<u8").tobytes()
    if dtype == 5:
        return 5, len(numbers) // 2, numbers.astype("<u4").tobytes()
    return dtype, len(numbers), numbers.astype("<u2" if dtype == 3 else "<u4").tobytes()


def split_tables(data: bytes) -> tuple[bytes, bytes]:
    """A JPEG as (shared tables, the rest), the way TIFF's JPEGTables tag wants them."""
    tables, rest, position = b"", b"", 2
    while True:
        marker = data[position + 1]
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker in (0xDB, 0xC4):
            tables += data[position:end]
        else:
            rest += data[position:end]
        position = end
        if marker == 0xDA:
            return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + rest + data[position:]


def _encoded(
    image: np.ndarray, kind: JpegKind, *, tile_px: int, replace: dict[int, bytes]
) -> Iterator[bytes]:
    for number, tile in enumerate(tiles_of(image, tile_px)):
        data = replace.get(number, encode(tile, kind))
        yield split_tables(data)[1] if kind.shared_tables and data else data


def tiles_of(image: np.ndarray, tile_px: int) -> Iterator[np.ndarray]:
    """The stored tiles of an image, row by row; the last ones repeat its edge."""
    height, width = image.shape[:2]
    spare = ((0, -height % tile_px), (0, -width % tile_px), (0, 0))
    padded = np.pad(image, spare, "edge")
    for y in range(0, height, tile_px):
        for x in range(0, width, tile_px):
            yield padded[y : y + tile_px, x : x + tile_px]


def halved(image: np.ndarray) -> np.ndarray:
    """The next pyramid level."""
    height, width = image.shape[:2]
    return cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
