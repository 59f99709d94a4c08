from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gigassl.errors import SlideError
from gigassl.slides.grid import GridSettings, make_grid
from gigassl.slides.reader import Slide, open_slide
from gigassl.slides.region_reader import RegionReader, verified_jpeg_levels
from gigassl.slides.tile_reader import TileReader
from tests.shared_data import SHARED, needs_shared
from tests.slides.jpeg_tiff import JpegKind, encode, halved, painting, write_jpeg_tiff
from tests.slides.test_reader import slow_average

IMAGE = painting(1101, 903)
LEVELS = [IMAGE, halved(IMAGE), halved(halved(IMAGE))]


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jpeg_tiff(tmp_path_factory.mktemp("regions") / "a.svs", LEVELS)


@pytest.fixture(scope="module")
def halving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
    """A slide whose levels halve exactly, so that OpenSlide never reads between two pixels."""
    image = painting(1104, 904)
    levels = [image, halved(image), halved(halved(image))]
    path = write_jpeg_tiff(tmp_path_factory.mktemp("halving") / "a.svs", levels)
    with open_slide(path) as slide:
        yield slide


@pytest.fixture(scope="module")
def reader_of_halving(halving: Slide) -> RegionReader:
    return RegionReader(halving)


def region(reader: RegionReader, x: int, y: int, *, mpp: float, side: int = 64) -> np.ndarray:
    out = np.zeros((side, side, 3), np.uint8)
    reader.read_into(out, x_l0=x, y_l0=y, mpp=mpp)
    return out


def slow_region(slide: Slide, x: int, y: int, *, mpp: float, side: int = 64) -> np.ndarray:
    """The same through OpenSlide and continuous area averaging, written out for 0.5 µm/px."""
    level = max(k for k, d in enumerate(slide.info.downsamples) if 0.5 * d <= mpp * 1.02)
    downsample = slide.info.downsamples[level]
    as_it_is = abs(0.5 * downsample / mpp - 1) <= 0.02
    read = side if as_it_is else round(side * mpp / 0.5 / downsample)
    width, height = slide.level_sizes[level]
    x_level = min(round(x / downsample), width - read)
    y_level = min(round(y / downsample), height - read)
    pixels = slide.read_region(
        round(x_level * downsample), round(y_level * downsample), level=level, width=read,
        height=read,
    )  # fmt: skip
    return pixels if as_it_is else slow_average(pixels, out_size=(side, side))


@given(
    mpp=st.floats(0.5, 3.0), right=st.floats(0, 1), down=st.floats(0, 1),
    side=st.sampled_from([32, 64]),
)  # fmt: skip
@settings(max_examples=60)
def test_any_square_equals_a_slow_one_through_openslide(
    halving: Slide, reader_of_halving: RegionReader, mpp: float, right: float, down: float,
    side: int,
) -> None:  # fmt: skip
    side_l0 = side * mpp / 0.5
    x, y = int(right * (1104 - side_l0)), int(down * (904 - side_l0))
    mine = region(reader_of_halving, x, y, mpp=mpp, side=side)
    slow = slow_region(halving, x, y, mpp=mpp, side=side)
    assert np.abs(mine.astype(float) - slow).max() <= 1.01


@pytest.mark.parametrize("mpp", [0.5, 0.505, 0.7, 1.0, 1.01, 1.9, 2.0])
def test_the_tiles_of_a_grid_are_such_squares(pyramid: Path, mpp: float) -> None:
    with open_slide(pyramid) as slide:
        grid = make_grid(slide.info, GridSettings(tile_px=60, target_mpp=mpp), tissue=None)
        tiles = TileReader(slide, grid).read(np.arange(len(grid)))
        reader = RegionReader(slide)
        for tile, (x, y) in zip(tiles, grid.coords.tolist(), strict=True):
            np.testing.assert_array_equal(region(reader, x, y, mpp=mpp, side=60), tile)


def test_levels_known_to_be_right_are_not_checked_again(pyramid: Path) -> None:
    with open_slide(pyramid) as slide:
        levels = verified_jpeg_levels(slide)
        assert levels == [0, 1, 2]
        known, slow = RegionReader(slide, jpeg_levels=levels), RegionReader(slide, jpeg_levels=[])
        for mpp in (0.5, 0.8):
            ours, theirs = region(known, 256, 128, mpp=mpp), region(slow, 256, 128, mpp=mpp)
            np.testing.assert_array_equal(ours, theirs)


def test_a_square_may_end_at_the_last_pixel_and_not_behind_it(pyramid: Path) -> None:
    with open_slide(pyramid) as slide:
        reader = RegionReader(slide)
        np.testing.assert_array_equal(
            region(reader, 1101 - 64, 903 - 64, mpp=0.5),
            slide.read_region(1101 - 64, 903 - 64, level=0, width=64, height=64),
        )
        for x, y in ((1101 - 32, 0), (0, 903 - 32), (-9, 0), (5000, 0)):
            with pytest.raises(SlideError, match="does not lie in the slide"):
                region(reader, x, y, mpp=0.5)
        with pytest.raises(SlideError, match="does not lie in the slide"):
            region(reader, 0, 0, mpp=20.0)


def test_what_is_wanted_finer_than_the_slide_is_enlarged(pyramid: Path) -> None:
    with open_slide(pyramid) as slide:
        mine = region(RegionReader(slide), 100, 100, mpp=0.45, side=80)
        small = slide.read_region(100, 100, level=0, width=72, height=72)
    assert np.abs(slow_average(mine, out_size=(72, 72)) - small.astype(float)).mean() < 4


def test_a_damaged_stored_tile_fails_only_squares_over_it(tmp_path: Path) -> None:
    good = encode(IMAGE[:256, :256], JpegKind())
    path = write_jpeg_tiff(tmp_path / "a.svs", [IMAGE], replace={6: good[:3000]})
    with open_slide(path) as slide:
        reader = RegionReader(slide)
        with pytest.raises(SlideError, match="row 1, column 1 is damaged"):
            region(reader, 200, 200, mpp=0.5)
        assert region(reader, 0, 0, mpp=0.5).any()


def test_threads_read_the_same_squares(pyramid: Path) -> None:
    with open_slide(pyramid) as slide:
        rng = np.random.default_rng(0)
        corners, mpps = rng.integers(0, 500, (40, 2)).tolist(), rng.uniform(0.45, 2.2, 40).tolist()
        places = [(x, y, mpp) for (x, y), mpp in zip(corners, mpps, strict=True)]
        checked = RegionReader(slide, jpeg_levels=[0, 1, 2])
        alone = [region(checked, x, y, mpp=mpp) for x, y, mpp in places]
        reader = RegionReader(slide)
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda p: region(reader, p[0], p[1], mpp=p[2]), places))
    np.testing.assert_array_equal(together, alone)


@needs_shared
def test_squares_of_a_real_slide_equal_openslides() -> None:
    with open_slide(SHARED / "data" / "wsi" / "CMU-1-Small-Region.svs") as slide:
        assert verified_jpeg_levels(slide) == [0]
        fast, slow = RegionReader(slide), RegionReader(slide, jpeg_levels=[])
        rng = np.random.default_rng(1)
        for mpp in (0.45, 0.5, 0.55, 1.0):
            for x, y in rng.integers(0, 1700, (5, 2)).tolist():
                mine = region(fast, x, y, mpp=mpp, side=224)
                np.testing.assert_array_equal(mine, region(slow, x, y, mpp=mpp, side=224))
                assert mine.std() > 1
