"""What a TIFF file claims that it cannot hold, and OpenSlide would believe.

OpenSlide asks for the memory that a tile's length or size claims before it reads; where there is
not so much of it, the whole process ends. So it does where some sizes of images and tiles, which
no tiles are there for, make it divide by zero.

Layout: TIFF revision 6.0 (Adobe, 1992), and BigTIFF.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

MOST_TILE_PX = 1 << 27
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT, _STRIP_BYTES, _TILE_BYTES = 256, 257, 322, 323, 279, 325
_TILED = (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT)
_WANTED = frozenset({*_TILED, _STRIP_BYTES, _TILE_BYTES})
_SIZES = {3: "u2", 4: "u4", 16: "u8"}
_MOST_DIRECTORIES = 1000


@dataclass(frozen=True, kw_only=True)
class _Form:
    """How numbers are written: byte order, and classic TIFF or BigTIFF."""

    order: str
    big: bool

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.big else "I")

    @property
    def count(self) -> str:
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> str:
        """Tag, type, number of values; what follows is the value, or where it stands."""
        return self.order + ("HHQ" if self.big else "HHI")


_FORMS = {
    b"II*\0": _Form(order="<", big=False), b"MM\0*": _Form(order=">", big=False),
    b"II+\0": _Form(order="<", big=True), b"MM\0+": _Form(order=">", big=True),
}  # fmt: skip


def impossible_claim(path: Path) -> str:
    """What a TIFF claims of a tile that it cannot hold, as a sentence; "" where nothing is wrong.

    Not for formats with a layout of their own (NDPI). What cannot be followed is left to OpenSlide.
    """
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        form = _FORMS.get(file.read(4))
        for tags in _directories(file, form) if form else ():
            if claim := _of_length(tags, n_bytes) or _of_size(tags):
                return claim
    return ""


_Tags = dict[int, "np.ndarray[tuple[int], np.dtype[np.unsignedinteger]]"]


def _of_length(tags: _Tags, n_bytes: int) -> str:
    lengths = [tags[tag].max() for tag in (_STRIP_BYTES, _TILE_BYTES) if _given(tags, tag)]
    longest = int(max(lengths, default=0))
    if longest <= n_bytes:
        return ""
    return f"a tile claims {longest:,} bytes, the whole file has {n_bytes:,}"


def _of_size(tags: _Tags) -> str:
    if not all(_given(tags, tag) for tag in _TILED):
        return ""
    width, height, tile_width, tile_height = (int(tags[tag][0]) for tag in _TILED)
    if tile_width * tile_height > MOST_TILE_PX:
        return f"its stored tiles claim {tile_width:,} × {tile_height:,} px"
    if not tile_width * tile_height:
        return "its stored tiles claim no width or height"
    needed = -(-width // tile_width) * -(-height // tile_height)
    n_stored = len(tags.get(_TILE_BYTES, ()))
    if n_stored >= needed:
        return ""
    return f"its {width:,} × {height:,} px claim {needed:,} stored tiles, there are {n_stored:,}"


def _given(tags: _Tags, tag: int) -> bool:
    return tag in tags and tags[tag].size > 0


def _directories(file: BinaryIO, form: _Form) -> Iterator[_Tags]:
    """The wanted tags of each directory, until the chain ends or breaks."""
    file.seek(8 if form.big else 4)
    for _ in range(_MOST_DIRECTORIES):
        link = _number(file, form.offset)
        if not link:
            return
        file.seek(link)
        n_entries = _number(file, form.count)
        if n_entries is None:
            return
        size = struct.calcsize(form.entry) + struct.calcsize(form.offset)
        entries = file.read(min(n_entries, 1 << 16) * size)
        after = file.tell()
        yield _tags(file, entries, form)
        file.seek(after)


def _tags(file: BinaryIO, entries: bytes, form: _Form) -> _Tags:
    found: _Tags = {}
    head, place = struct.calcsize(form.entry), struct.calcsize(form.offset)
    for at in range(0, len(entries) - head - place + 1, head + place):
        tag, kind, count = struct.unpack_from(form.entry, entries, at)
        if tag not in _WANTED or kind not in _SIZES:
            continue
        dtype = np.dtype(form.order + _SIZES[kind])
        data = entries[at + head : at + head + place]
        if count * dtype.itemsize > place:
            file.seek(struct.unpack(form.offset, data)[0])
            # no more than there is, whatever the number of values claims
            data = file.read(min(count * dtype.itemsize, 1 << 30))
        whole = min(count, len(data) // dtype.itemsize)
        found[tag] = np.frombuffer(data, dtype=dtype, count=whole)
    return found


def _number(file: BinaryIO, form: str) -> int | None:
    data = file.read(struct.calcsize(form))
    return int(struct.unpack(form, data)[0]) if len(data) == struct.calcsize(form) else None
