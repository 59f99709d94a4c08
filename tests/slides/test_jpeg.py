import struct
import sys
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gigassl.errors import SlideError
from gigassl.slides.jpeg import TileCache, open_jpeg_level
from gigassl.slides.reader import open_slide
from gigassl.slides.slide_files import SlideFileSettings, save_image
from tests.slides.jpeg_tiff import KINDS, encode, painting, write_jpeg_tiff


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jpeg_tiff(tmp_path_factory.mktemp("s") / "a.svs", [painting(700, 520)])


@settings(max_examples=40)
@given(data=st.data())
def test_any_region_inside_the_slide_equals_openslides(painted: Path, data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 700)), data.draw(st.integers(1, 520))
    x, y = data.draw(st.integers(0, 700 - width)), data.draw(st.integers(0, 520 - height))
    level = open_jpeg_level(painted, (700, 520))
    assert level is not None
    assert level.holds(x, y, width=width, height=height)
    mine = np.empty((height, width, 3), np.uint8)
    level.read_into(mine, x, y)
    with open_slide(painted) as slide:
        theirs = slide.read_region(x, y, level=0, width=width, height=height)
    np.testing.assert_array_equal(mine, theirs)


def test_regions_over_the_edge_are_not_held(painted: Path) -> None:
    level = open_jpeg_level(painted, (700, 520))
    assert level is not None
    assert not level.holds(-1, 0, width=10, height=10)
    assert not level.holds(0, 511, width=10, height=10)
    assert level.holds(690, 510, width=10, height=10)


def test_a_size_that_is_not_stored_gives_nothing(painted: Path) -> None:
    assert open_jpeg_level(painted, (350, 260)) is None


@pytest.mark.parametrize("cut", ["half", "garbage", "too small"])
def test_a_damaged_tile_is_named(tmp_path: Path, cut: str) -> None:
    good = encode(painting(256, 256), KINDS["baseline-420"])
    bad = {
        "half": good[: len(good) // 2],
        "garbage": good[:700] + bytes(300) + good[1000:],
        "too small": encode(painting(128, 128), KINDS["baseline-420"]),
    }[cut]
    path = write_jpeg_tiff(tmp_path / "a.svs", [painting(700, 520)], replace={4: bad})
    level = open_jpeg_level(path, (700, 520))
    assert level is not None
    out = np.empty((100, 100, 3), np.uint8)
    level.read_into(out, 100, 100)
    with pytest.raises(SlideError, match="row 1, column 1 is damaged") as caught:
        level.read_into(out, 200, 200)
    assert caught.value.stage == "read"


def test_a_file_cut_short_names_the_tile_that_is_missing(painted: Path, tmp_path: Path) -> None:
    data = bytearray(painted.read_bytes())
    level = open_jpeg_level(painted, (700, 520))
    assert level is not None
    # the last stored tile is said to be longer than the file
    last = int(level.stored.counts[-1])
    position = data.rindex(last.to_bytes(4, "little"))
    data[position : position + 4] = (len(data) * 2).to_bytes(4, "little")
    path = tmp_path / "cut.svs"
    path.write_bytes(bytes(data))
    cut = open_jpeg_level(path, (700, 520))
    assert cut is not None
    with pytest.raises(SlideError, match=r"row 2, column 2 is damaged.*the file ends before it"):
        cut.read_into(np.empty((4, 4, 3), np.uint8), 690, 515)


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_scaled_decoding_is_close_to_averaging(painted: Path, reduction: int) -> None:
    level = open_jpeg_level(painted, (700, 520), reduction=reduction)
    assert level is not None
    small = np.empty((256 // reduction, 256 // reduction, 3), np.uint8)
    level.read_into(small, 0, 0)
    with open_slide(painted) as slide:
        full = slide.read_region(0, 0, level=0, width=256, height=256).astype(float)
    side = 256 // reduction
    mean = full.reshape(side, reduction, side, reduction, 3).mean(axis=(1, 3))
    assert np.abs(small - mean).mean() < 2.0


def test_the_cache_is_bounded_and_drops_the_oldest_first() -> None:
    tile = np.zeros((10, 10, 3), np.uint8)
    cache = TileCache(max_bytes=2 * tile.nbytes)
    cache.put(1, tile)
    cache.put(2, tile)
    assert cache.get(1) is tile
    cache.put(3, tile)
    assert cache.get(1) is None
    assert cache.get(2) is tile
    assert cache.get(3) is tile


def test_raster_order_decodes_no_tile_twice(painted: Path) -> None:
    level = open_jpeg_level(painted, (700, 520))
    assert level is not None
    out = np.empty((100, 100, 3), np.uint8)
    for y in range(0, 421, 70):
        for x in range(0, 601, 100):
            level.read_into(out, x, y)
    assert level.decoded == 9


def mapped_bytes(path: Path) -> int:
    """Of a file, in this process's memory."""
    maps = psutil.Process().memory_maps(grouped=True)
    return sum(int(each.rss) for each in maps if each.path == str(path))


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux which pages are held")
def test_the_file_does_not_stay_in_memory(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4096, 4096, 3), dtype=np.uint8)
    path = tmp_path / "noise.svs"
    save_image(noise, path, mpp=0.5, settings=SlideFileSettings(quality=99, downsamples=(1,)))
    assert path.stat().st_size > 24 << 20
    level = open_jpeg_level(path, (4096, 4096))
    assert level is not None
    most, band = 0, np.empty((256, 4096, 3), np.uint8)
    for top in range(0, 4096, 256):
        level.read_into(band, 0, top)
        most = max(most, mapped_bytes(path))
    assert (4 << 20) < most < (20 << 20)
    level.let_go()
    assert mapped_bytes(path) < 1 << 20
    again = np.empty_like(band)
    level.read_into(again, 0, 4096 - 256)
    np.testing.assert_array_equal(again, band)


def test_a_directory_that_tifffile_cannot_make_out_goes_without(tmp_path: Path) -> None:
    """Its shared JPEG tables are a number; that was a traceback."""
    path = write_jpeg_tiff(tmp_path / "a.tif", [painting(600, 500)])
    data = bytearray(path.read_bytes())
    (directory,) = struct.unpack_from("<I", data, 4)
    struct.pack_into("<HHII", data, directory + 2, 347, 4, 1, 7)  # in the place of another tag
    path.write_bytes(data)
    assert open_jpeg_level(path, (600, 500)) is None
