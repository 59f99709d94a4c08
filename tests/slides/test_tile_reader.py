from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from gigassl.errors import SlideError
from gigassl.slides.grid import GridSettings, TileGrid, make_grid
from gigassl.slides.reader import Slide, open_slide
from gigassl.slides.tile_reader import TileReader, level_corners
from tests.shared_data import SHARED, needs_shared
from tests.slides.jpeg_tiff import (
    KINDS,
    JpegKind,
    as_bigtiff,
    encode,
    halved,
    painting,
    split_tables,
    write_jpeg_tiff,
)
from tests.slides.test_reader import slow_average

IMAGE = painting(1100, 900)
LEVELS = [IMAGE, halved(IMAGE), halved(halved(IMAGE))]


def grid_of(slide: Slide, *, tile_px: int = 100, target_mpp: float = 0.5) -> TileGrid:
    settings = GridSettings(tile_px=tile_px, target_mpp=target_mpp, allow_upsampling=True)
    return make_grid(slide.info, settings, tissue=None)


def assert_fast_and_equal(path: Path) -> None:
    with open_slide(path) as slide:
        # aligned with the stored tiles, straddling them, each level, and between levels
        for tile_px, mpp in ((256, 0.5), (100, 0.5), (100, 1.0), (60, 2.0), (100, 0.7)):
            grid = grid_of(slide, tile_px=tile_px, target_mpp=mpp)
            fast, slow = TileReader(slide, grid), TileReader(slide, grid, fast=False)
            assert (fast.backend, slow.backend) == ("jpeg", "openslide")
            every = np.arange(len(grid))
            np.testing.assert_array_equal(fast.read(every), slow.read(every))


@pytest.mark.parametrize("aperio", [True, False], ids=["aperio", "generic-tiff"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_jpeg_kind_is_read_fast_and_equals_openslide(
    tmp_path: Path, kind: str, aperio: bool
) -> None:
    path = write_jpeg_tiff(tmp_path / "a.svs", LEVELS, kind=KINDS[kind], aperio=aperio)
    assert_fast_and_equal(path)


def test_bigtiff_is_read_fast_and_equals_openslide(tmp_path: Path) -> None:
    assert_fast_and_equal(as_bigtiff(write_jpeg_tiff(tmp_path / "a.svs", LEVELS)))


def test_shared_jpeg_tables_are_read_fast_and_equal_openslide(tmp_path: Path) -> None:
    tables, _ = split_tables(encode(IMAGE[:256, :256], JpegKind()))
    path = write_jpeg_tiff(tmp_path / "a.svs", LEVELS, kind=JpegKind(shared_tables=True))
    assert_fast_and_equal(as_bigtiff(path, shared_tables=tables))


def test_a_level_whose_size_was_rounded_is_still_read_fast(tmp_path: Path) -> None:
    image = painting(1101, 903)
    path = write_jpeg_tiff(tmp_path / "a.svs", [image, halved(image)])
    with open_slide(path) as slide:
        grid = grid_of(slide, target_mpp=1.0)
        reader = TileReader(slide, grid)
        assert grid.plan.level == 1
        assert grid.plan.downsample != 2.0
        assert reader.backend == "jpeg"
        tiles = reader.read(np.arange(len(grid)))
        for tile, (x, y) in zip(tiles, level_corners(slide, grid), strict=True):
            painted = halved(image)[y : y + 100, x : x + 100]
            assert np.abs(tile.astype(float) - painted).mean() < 6  # JPEG's loss


def test_pixels_that_differ_from_openslides_are_left_to_openslide(tmp_path: Path) -> None:
    # RGB-coded JPEG in a file that says YCbCr: libjpeg on its own takes other colours
    path = write_jpeg_tiff(tmp_path / "a.svs", [IMAGE], kind=KINDS["rgb"])
    data = path.read_bytes()
    photometric = b"\x06\x01\x03\x00\x01\x00\x00\x00"
    assert data.count(photometric + b"\x02\x00") == 1
    path.write_bytes(data.replace(photometric + b"\x02\x00", photometric + b"\x06\x00"))
    with open_slide(path) as slide:
        grid = grid_of(slide)
        reader, slow = TileReader(slide, grid), TileReader(slide, grid, fast=False)
        assert reader.backend == "openslide"
        every = np.arange(len(grid))
        np.testing.assert_array_equal(reader.read(every), slow.read(every))


def test_tiles_are_area_averaged(tmp_path: Path) -> None:
    path = write_jpeg_tiff(tmp_path / "a.svs", [IMAGE])
    with open_slide(path) as slide:
        for mpp in (0.7, 1.0, 1.5, 2.3):
            grid = grid_of(slide, tile_px=64, target_mpp=mpp)
            tiles = TileReader(slide, grid).read(np.arange(len(grid)))
            side = grid.plan.read_px
            for tile, (x, y) in zip(tiles, grid.coords.tolist(), strict=True):
                full = slide.read_region(x, y, level=0, width=side, height=side)
                expected = slow_average(full, out_size=(64, 64))
                assert np.abs(tile - expected).max() <= 1.01


def test_two_scans_of_one_picture_give_the_same_tiles(tmp_path: Path) -> None:
    fine = painting(1600, 1200)
    coarse = halved(fine)
    fine_path = write_jpeg_tiff(tmp_path / "fine.svs", [fine])
    coarse_path = write_jpeg_tiff(tmp_path / "coarse.svs", [coarse])
    with (
        open_slide(fine_path, cohort_mpp=0.25) as fine_slide,
        open_slide(coarse_path, cohort_mpp=0.5) as coarse_slide,
    ):
        grids = [grid_of(slide, target_mpp=1.0) for slide in (fine_slide, coarse_slide)]
        np.testing.assert_array_equal(grids[0].coords, grids[1].coords * 2)
        tiles = [
            TileReader(slide, grid).read(np.arange(len(grid))).astype(float)
            for slide, grid in zip((fine_slide, coarse_slide), grids, strict=True)
        ]
    assert np.abs(tiles[0] - tiles[1]).mean() < 2.0  # two JPEG losses
    shifted = np.roll(tiles[0], 2, axis=2)
    assert np.abs(shifted - tiles[1]).mean() > 2 * np.abs(tiles[0] - tiles[1]).mean()


def test_coarse_slides_are_enlarged_only_by_interpolation(tmp_path: Path) -> None:
    path = write_jpeg_tiff(tmp_path / "a.svs", [IMAGE])
    with open_slide(path) as slide:
        grid = grid_of(slide, target_mpp=0.25)
        tile = TileReader(slide, grid).read(np.array([0]))[0]
        small = slide.read_region(0, 0, level=0, width=50, height=50)
    assert np.abs(cv2.resize(tile, (50, 50)).astype(float) - small).mean() < 3


def test_scaled_decoding_is_used_only_when_asked_and_stays_close(tmp_path: Path) -> None:
    path = write_jpeg_tiff(tmp_path / "a.svs", [IMAGE])
    with open_slide(path) as slide:
        grid = grid_of(slide, tile_px=128, target_mpp=1.0)
        exact, scaled = TileReader(slide, grid), TileReader(slide, grid, scaled_dct=True)
        assert (exact.reduction, scaled.reduction) == (1, 2)
        every = np.arange(len(grid))
        difference = np.abs(exact.read(every).astype(float) - scaled.read(every))
        assert 0 < difference.mean() < 1.5


def test_missing_stored_tiles_are_what_openslide_says(tmp_path: Path) -> None:
    path = write_jpeg_tiff(tmp_path / "a.svs", [IMAGE], replace={0: b"", 6: b""})
    with open_slide(path) as slide:
        grid = grid_of(slide)
        fast, slow = TileReader(slide, grid), TileReader(slide, grid, fast=False)
        every = np.arange(len(grid))
        assert fast.backend == "jpeg"
        np.testing.assert_array_equal(fast.read(every), slow.read(every))
        assert (fast.read(every[:1]) == 255).all()


def test_a_damaged_stored_tile_fails_only_the_tiles_over_it(tmp_path: Path) -> None:
    good = encode(IMAGE[:256, :256], JpegKind())
    path = write_jpeg_tiff(tmp_path / "a.svs", [IMAGE], replace={6: good[:3000]})
    with open_slide(path) as slide:
        grid = grid_of(slide)
        reader = TileReader(slide, grid)
        inside = (grid.coords + 100 > 256).all(axis=1) & (grid.coords < 512).all(axis=1)
        bad = int(np.flatnonzero(inside)[0])
        assert reader.read(np.array([0])).shape == (1, 100, 100, 3)
        with pytest.raises(SlideError, match="row 1, column 1 is damaged") as caught:
            reader.read(np.array([0, bad]))
        assert caught.value.stage == "read"


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("mpp", [0.5, 0.7])
def test_threads_read_the_same_pixels(tmp_path: Path, fast: bool, mpp: float) -> None:
    path = write_jpeg_tiff(tmp_path / "a.svs", LEVELS)
    with open_slide(path) as slide:
        grid = grid_of(slide, tile_px=60, target_mpp=mpp)
        alone = TileReader(slide, grid).read(np.arange(len(grid)))
        reader = TileReader(slide, grid, fast=fast)
        parts = np.array_split(np.random.default_rng(0).permutation(len(grid)), 16)
        with ThreadPoolExecutor(4) as pool:
            for part, tiles in zip(parts, pool.map(reader.read, parts), strict=True):
                np.testing.assert_array_equal(tiles, alone[part])


def test_tiles_fill_a_given_array(tmp_path: Path) -> None:
    path = write_jpeg_tiff(tmp_path / "a.svs", [IMAGE])
    with open_slide(path) as slide:
        reader = TileReader(slide, grid_of(slide))
        out = np.zeros((3, 100, 100, 3), np.uint8)
        assert reader.read(np.arange(3), out=out) is out
        np.testing.assert_array_equal(out, reader.read(np.arange(3)))


@needs_shared
def test_rgb_jpeg_without_a_marker_on_a_real_slide_is_read_fast() -> None:
    with open_slide(SHARED / "data" / "wsi" / "CMU-1-Small-Region.svs") as slide:
        for tile_px, mpp in ((240, 0.5), (224, 0.5), (112, 1.0)):
            grid = grid_of(slide, tile_px=tile_px, target_mpp=mpp)
            fast, slow = TileReader(slide, grid), TileReader(slide, grid, fast=False)
            assert fast.backend == "jpeg"
            every = np.arange(len(grid))
            np.testing.assert_array_equal(fast.read(every), slow.read(every))


@needs_shared
def test_jpeg_2000_is_left_to_openslide() -> None:
    path = SHARED / "data" / "wsi" / "TCGA-CR-7395-01A-01-TS1.svs"
    with open_slide(path, default_mpp=0.5) as slide:
        assert TileReader(slide, grid_of(slide)).backend == "openslide"
