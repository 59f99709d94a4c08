"""Refusal: why OpenSlide does not open a file, as far as its first bytes tell."""

import struct
from pathlib import Path
from typing import BinaryIO

_TIFF = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
}
_MOST_DIRECTORIES = 1000


def why_not_a_slide(path: Path) -> str:
    """One sentence: not a TIFF at all, a TIFF cut off, or a TIFF of another kind."""
    with path.open("rb") as file:
        magic = file.read(4)
        if magic not in _TIFF:
            return "not a whole-slide image: another kind of file, or a damaged header"
        order, big = _TIFF[magic]
        if _is_cut_off(file, n_bytes=path.stat().st_size, order=order, big=big):
            return "the file is truncated: part of its directory lies beyond its end; copy it again"
    return (
        "a TIFF that OpenSlide does not read as a slide; "
        "convert it to a tiled, pyramidal TIFF first (for example with vips tiffsave)"
    )


def _is_cut_off(file: BinaryIO, *, n_bytes: int, order: str, big: bool) -> bool:
    """Whether the chain of image directories leaves the file."""
    entry_bytes, count_format, link_format = (20, "Q", "Q") if big else (12, "H", "I")
    file.seek(8 if big else 4)
    for _ in range(_MOST_DIRECTORIES):
        link = _number(file, order + link_format)
        if link == 0:
            return False
        if link is None or link >= n_bytes:
            return True
        file.seek(link)
        n_entries = _number(file, order + count_format)
        if n_entries is None:
            return True
        file.seek(n_entries * entry_bytes, 1)
    return False


def _number(file: BinaryIO, form: str) -> int | None:
    """The next number of the file; None where the file ends before it."""
    data = file.read(struct.calcsize(form))
    return struct.unpack(form, data)[0] if len(data) == struct.calcsize(form) else None
