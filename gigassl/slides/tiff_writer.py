"""Writes tiled TIFF files from finished JPEG streams; equal tiles may share one stream.

tifffile is not used for it: it writes JPEG tiles only with imagecodecs, and never shares them.
Tag numbers and layout: TIFF revision 6.0 (Adobe, 1992).
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gigassl.errors import SettingsError

_SHORT, _LONG, _RATIONAL, _ASCII = 3, 4, 5, 2
_JPEG = 7
_RGB, _YCBCR = 2, 6
_CENTIMETRE = 3
_MOST_BYTES = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class TiffLevel:
    """One image of a TIFF file.

    Attributes:
        width_px, height_px: size of the image; tiles at the right and lower edge hang over.
        tile_px: side of its tiles.
        tiles: JPEG streams, row by row; an ``int`` repeats the stream of that earlier tile.
        subsampling: chroma subsampling (across, down); None for RGB-coded JPEG.
        description: text of the ImageDescription tag; empty for none.
        px_per_cm: resolution; None for none.
        reduced: marks the image as a smaller version of another.
    """

    width_px: int
    height_px: int
    tile_px: int
    tiles: Iterable[bytes | int]
    subsampling: tuple[int, int] | None
    description: str = ""
    px_per_cm: float | None = None
    reduced: bool = False


def save_tiff(levels: Iterable[TiffLevel], path: Path) -> None:
    """Writes levels, finest first, into one classic TIFF.

    Raises:
        SettingsError: the file would pass the 4 GiB that classic TIFF can address.
    """
    with path.open("wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, 0))
        link = 4
        for level in levels:
            tags = _tags(level, *_write_tiles(file, level.tiles))
            link = _write_directory(file, tags, link=link)


def _write_tiles(file: BinaryIO, tiles: Iterable[bytes | int]) -> tuple[list[int], list[int]]:
    offsets: list[int] = []
    sizes: list[int] = []
    for tile in tiles:
        if isinstance(tile, int):
            offsets.append(offsets[tile])
            sizes.append(sizes[tile])
            continue
        offsets.append(file.tell())
        sizes.append(len(tile))
        file.write(tile)
        if file.tell() > _MOST_BYTES:
            raise SettingsError("the slide would pass 4 GiB; make it smaller or lower the quality")
    return offsets, sizes


def _tags(
    level: TiffLevel, offsets: list[int], sizes: list[int]
) -> list[tuple[int, int, Sequence[int] | bytes]]:
    tags: list[tuple[int, int, Sequence[int] | bytes]] = [
        (254, _LONG, [int(level.reduced)]),
        (256, _LONG, [level.width_px]),
        (257, _LONG, [level.height_px]),
        (258, _SHORT, [8, 8, 8]),
        (259, _SHORT, [_JPEG]),
        (262, _SHORT, [_YCBCR if level.subsampling else _RGB]),
        (277, _SHORT, [3]),
        (284, _SHORT, [1]),
        (322, _LONG, [level.tile_px]),
        (323, _LONG, [level.tile_px]),
        (324, _LONG, offsets),
        (325, _LONG, sizes),
    ]
    if level.description:
        tags.append((270, _ASCII, level.description.encode("ascii") + b"\0"))
    if level.px_per_cm is not None:
        ratio = [round(level.px_per_cm * 1000), 1000]
        tags += [(282, _RATIONAL, ratio), (283, _RATIONAL, ratio), (296, _SHORT, [_CENTIMETRE])]
    if level.subsampling:
        tags.append((530, _SHORT, list(level.subsampling)))
    return sorted(tags, key=lambda tag: tag[0])


def _write_directory(
    file: BinaryIO, tags: list[tuple[int, int, Sequence[int] | bytes]], *, link: int
) -> int:
    """Writes long values, then the directory, and points ``link`` at it; returns the next link."""
    entries = []
    for number, kind, values in tags:
        if isinstance(values, bytes):
            packed, count = values, len(values)
        else:
            packed = struct.pack(f"<{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
            count = len(values) // 2 if kind == _RATIONAL else len(values)
        if len(packed) > 4:
            file.write(b"\0" * (file.tell() % 2))
            packed, long_value = struct.pack("<I", file.tell()), packed
            file.write(long_value)
        entries.append(struct.pack("<HHI", number, kind, count) + packed.ljust(4, b"\0"))
    file.write(b"\0" * (file.tell() % 2))
    start = file.tell()
    file.write(struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0))
    end = file.tell()
    file.seek(link)
    file.write(struct.pack("<I", start))
    file.seek(end)
    return end - 4
