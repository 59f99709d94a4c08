"""Tiles that claim more than their file holds: refused before OpenSlide asks for the memory."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tifffile

from gigassl.errors import SlideError
from gigassl.slides.reader import open_slide
from gigassl.slides.slide_files import SlideFileSettings, save_image
from gigassl.slides.tiff_claims import impossible_claim
from tests.shared_data import SHARED, needs_shared

IMAGE = np.full((560, 560, 3), 200, np.uint8)


def patched(path: Path, values: Mapping[int, int], *, nth: int = 0) -> None:
    """Sets tags of a classic TIFF's directory to one number each."""
    data = bytearray(path.read_bytes())
    (directory,) = struct.unpack_from("<I", data, 4)
    (n_entries,) = struct.unpack_from("<H", data, directory)
    for _ in range(nth):
        (directory,) = struct.unpack_from("<I", data, directory + 2 + 12 * n_entries)
        (n_entries,) = struct.unpack_from("<H", data, directory)
    for at in range(directory + 2, directory + 2 + 12 * n_entries, 12):
        tag, _, count, value = struct.unpack_from("<HHII", data, at)
        if tag in values:
            # an array's first number, where it stands; else the number itself
            struct.pack_into("<I", data, value if count > 1 else at + 8, values[tag])
    path.write_bytes(data)


@pytest.mark.parametrize("vendor", ["aperio", "generic"])
@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({325: 2**32 - 1}, r"a tile claims 4,294,967,295 bytes, the whole file has"),
        ({322: 2**20, 323: 2**12}, r"its stored tiles claim 1,048,576 × 4,096 px"),
        ({322: 0}, r"its stored tiles claim no width or height"),
        ({256: 7, 257: 10**6}, r"its 7 × 1,000,000 px claim 8,929 stored tiles, there are 25"),
    ],
)
def test_a_tile_that_cannot_be_in_the_file_is_refused(
    values: Mapping[int, int], sentence: str, vendor: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.tif"
    settings = SlideFileSettings(tile_px=112, vendor="generic" if vendor == "generic" else "aperio")
    save_image(IMAGE, path, mpp=0.5, settings=settings)
    assert impossible_claim(path) == ""
    open_slide(path).close()
    patched(path, values)
    with pytest.raises(SlideError, match=f"the file is damaged: {sentence}|truncated or damaged"):
        open_slide(path)
    assert impossible_claim(path).startswith(sentence)


def test_sizes_that_make_openslide_divide_by_zero_are_refused_before_it_opens(
    tmp_path: Path,
) -> None:
    """It ended the whole process; found by fuzzing (SIGFPE in OpenSlide 4.0)."""
    path = tmp_path / "s.svs"
    save_image(IMAGE, path, mpp=0.5, settings=SlideFileSettings(tile_px=112, downsamples=(1, 4)))
    patched(path, {257: 561})
    patched(path, {257: 61_280}, nth=1)
    with pytest.raises(SlideError, match="its 560 × 561 px claim 30 stored tiles, there are 25"):
        open_slide(path)


def test_levels_of_another_shape_are_refused(tmp_path: Path) -> None:
    """Tissue was sought on a picture 500 times as wide as the slide, for minutes."""
    path = tmp_path / "s.svs"
    save_image(IMAGE, path, mpp=0.5, settings=SlideFileSettings(tile_px=112, downsamples=(1, 4)))
    patched(path, {256: 1})
    with pytest.raises(SlideError, match=r"level 1 of its pyramid has 140 × 140 px, another shape"):
        open_slide(path)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_big_tiff_too(byteorder: Literal["<", ">"], tmp_path: Path) -> None:
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, IMAGE, bigtiff=True, tile=(112, 112), byteorder=byteorder)
    assert impossible_claim(path) == ""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        tag = page.tags["TileByteCounts"]
    data = bytearray(path.read_bytes())
    # two lengths, now numbers of 64 bits
    struct.pack_into(f"{byteorder}HQ", data, tag.offset + 2, 16, 2)
    struct.pack_into(f"{byteorder}QQ", data, tag.valueoffset, 1, 2**60)
    path.write_bytes(data)
    assert impossible_claim(path).startswith("a tile claims 1,152,921,504,606,846,976 bytes")


def test_chains_that_break_or_run_in_circles_end(tmp_path: Path) -> None:
    path = tmp_path / "s.tif"
    circle = struct.pack("<2sHIHI", b"II", 42, 8, 0, 8)
    for data in (b"", b"II*\0", b"II*\0\xff\xff\xff\xff", circle, b"GIF89a"):
        path.write_bytes(data)
        assert impossible_claim(path) == ""


@needs_shared
def test_real_slides_claim_nothing_impossible() -> None:
    for path in sorted((SHARED / "data" / "wsi").glob("*.svs")):
        if path.stem not in {"broken", "unreadable"}:
            assert impossible_claim(path) == ""
