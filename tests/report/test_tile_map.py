"""Tile maps as files: places to the pixel, colours at the extremes, what other programs read."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gigassl.bags.bag import Bag
from gigassl.bags.info import BagInfo
from gigassl.errors import SlideError
from gigassl.report.geojson import save_bag_geojson, save_tiles_geojson
from gigassl.report.heatmap import save_heatmap
from gigassl.report.ome_overlay import save_ome_overlay
from gigassl.report.tile_map import PX_PER_TILE, TileMap
from gigassl.report.tile_sheet import save_tile_sheet
from gigassl.slides.reader import open_slide
from gigassl.slides.slide_files import save_image


def map_of(
    score: np.ndarray, *, cols: int = 5, side: float = 100.0, signed: bool = True,
    mpp: float | None = 0.5,
) -> TileMap:  # fmt: skip
    """Tiles row by row on a grid, as many as there are scores."""
    row, col = np.divmod(np.arange(len(score)), cols)
    coords = np.rint(np.stack([col, row], axis=1) * side).astype(np.int64)
    n_rows = int(row.max()) + 1
    return TileMap(
        slide_id="a & b µ", coords=coords, side_l0=side, score=score.astype(np.float64),
        signed=signed, width_l0=round(cols * side) + 30, height_l0=round(n_rows * side) + 7,
        mpp_l0=mpp,
    )  # fmt: skip


@given(n=st.integers(1, 23), side=st.floats(50, 700), seed=st.integers(0, 99))
def test_every_tile_of_a_grid_has_its_own_pixels(n: int, side: float, seed: int) -> None:
    score = np.random.default_rng(seed).normal(size=n)
    tiles = map_of(score, side=side)
    picture, k = tiles.picture, PX_PER_TILE
    for number, (x, y) in enumerate(tiles.coords.tolist()):
        row, col = round(y / side) * k, round(x / side) * k
        block = picture[row : row + k, col : col + k]
        assert block.shape == (k, k)
        np.testing.assert_array_equal(block, np.float32(score[number]))
    assert np.isfinite(picture).sum() == n * k * k
    assert picture.shape == tuple(
        int(np.ceil(length / tiles.l0_per_px)) for length in (tiles.height_l0, tiles.width_l0)
    )


def test_where_tiles_overlap_stands_their_mean() -> None:
    coords = np.array([[0, 0], [50, 0]])
    tiles = TileMap(slide_id="s", coords=coords, side_l0=100.0, score=np.array([1.0, 3.0]),
                    signed=False, width_l0=150, height_l0=100)  # fmt: skip
    assert tiles.picture[0].tolist() == [1, 1, 2, 2, 3, 3]


def test_colours_part_at_zero_where_the_sign_means_something() -> None:
    tiles = map_of(np.array([-2.0, 0.0, 1.0, np.nan]))
    low, high = tiles.limits
    assert low == -high
    below, zero, above, none = tiles.colours.astype(int)
    assert below[2] > below[0]  # blue
    assert above[0] > above[2]  # red
    assert zero.min() > 240
    assert none.tolist() == [153] * 3


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    "score", [np.zeros(7), np.full(7, 0.25), np.full(7, np.nan), np.array([3.0]), np.arange(7.0)]
)
def test_limits_are_a_range_whatever_the_scores(score: np.ndarray, *, signed: bool) -> None:
    tiles = map_of(score, signed=signed)
    low, high = tiles.limits
    assert low < high
    assert tiles.colours.shape == (len(score), 3)


@pytest.mark.parametrize("n", [1, 12])
def test_heatmaps_of_small_slides_and_equal_scores(tmp_path: Path, n: int) -> None:
    grey = np.full((60, 80, 3), 200, np.uint8)
    for name, thumbnail in (("with", grey), ("alone", None), ("again", None)):
        save_heatmap(tmp_path / f"{name}.png", map_of(np.full(n, 0.5)), title="one\ntwo",
                     scale="share", thumbnail=thumbnail)  # fmt: skip
    with Image.open(tmp_path / "with.png") as one, Image.open(tmp_path / "alone.png") as other:
        assert min(one.size) > 300
        assert np.ptp(np.asarray(other.convert("RGB"))) > 100
    assert (tmp_path / "alone.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_an_overlay_says_its_physical_size(tmp_path: Path) -> None:
    tiles = map_of(np.arange(12.0))
    for name in ("a", "b"):
        save_ome_overlay(tiles, tmp_path / f"{name}.ome.tiff", channel="logit of 'é'")
    with tifffile.TiffFile(tmp_path / "a.ome.tiff") as file:
        assert file.is_ome
        assert file.ome_metadata is not None
        assert 'PhysicalSizeX="12.5"' in file.ome_metadata
        assert "logit of 'é'" in file.ome_metadata.replace("&#233;", "é")
        (series,) = file.series
        assert (series.axes, str(series.dtype)) == ("YX", "float32")
        np.testing.assert_array_equal(series.asarray(), tiles.picture)
    assert (tmp_path / "a.ome.tiff").read_bytes() == (tmp_path / "b.ome.tiff").read_bytes()
    with pytest.raises(SlideError, match="needs the µm/px"):
        save_ome_overlay(map_of(np.arange(3.0), mpp=None), tmp_path / "c.ome.tiff", channel="x")


def test_geojson_holds_a_square_a_tile_in_level_0_pixels(tmp_path: Path) -> None:
    tiles = map_of(np.array([0.5, -1.0, np.nan]), side=33.3)
    save_tiles_geojson(tiles, tmp_path / "t.geojson", measurements={"score": tiles.score})
    document = json.loads((tmp_path / "t.geojson").read_text())
    assert document["type"] == "FeatureCollection"
    first, second, third = document["features"]
    (ring,) = second["geometry"]["coordinates"]
    assert ring == [[33, 0], [66.3, 0], [66.3, 33.3], [33, 33.3], [33, 0]]
    assert first["properties"]["objectType"] == "tile"
    assert first["properties"]["measurements"] == {"score": 0.5}
    assert first["properties"]["color"] == tiles.colours[0].tolist()
    assert third["properties"]["measurements"] == {}


@pytest.mark.parametrize("n", [1, 2, 40])
def test_a_bags_tiles_have_the_colours_of_their_components(tmp_path: Path, n: int) -> None:
    features = np.random.default_rng(0).normal(size=(n, 5)) * [9, 3, 1, 0.1, 0.1]
    coords = np.stack([np.arange(n), np.arange(n) % 7], axis=1).astype(np.int64) * 448
    info = BagInfo(slide_id="s", encoder="e", side_l0=447.5)
    bag = Bag(features=features.astype(np.float32), coords=coords, info=info)
    save_bag_geojson(bag, tmp_path / "t.geojson")
    tiles = json.loads((tmp_path / "t.geojson").read_text())["features"]
    assert len(tiles) == n
    last = tiles[-1]["geometry"]["coordinates"][0]
    assert last[0] == coords[-1].tolist()
    assert last[2] == (coords[-1] + 447.5).tolist()
    first = [tile["properties"]["measurements"]["component 1"] for tile in tiles]
    if n == 40:
        along = np.abs(np.corrcoef(first, features[:, 0])[0, 1])
        assert along > 0.99
        red = [tile["properties"]["color"][0] for tile in tiles]
        assert np.argsort(red)[-1] in np.argsort(first)[-3:]
        assert min(red) == 0
        assert max(red) == 255
    unknown = Bag(features=bag.features, coords=coords, info=BagInfo(slide_id="s", encoder="e"))
    with pytest.raises(SlideError, match="how large its tiles are"):
        save_bag_geojson(unknown, tmp_path / "u.geojson")


@pytest.mark.parametrize("n", [1, 3, 30])
def test_a_sheet_shows_the_highest_and_the_lowest(tmp_path: Path, n: int) -> None:
    # each tile has a grey of its own, the higher its score the lighter
    score = np.random.default_rng(0).permutation(n).astype(np.float64)
    tiles = map_of(score, side=64.0)
    image = np.full((tiles.height_l0, tiles.width_l0, 3), 128, np.uint8)
    for (x, y), value in zip(tiles.coords.tolist(), score.tolist(), strict=True):
        image[y : y + 64, x : x + 64] = 40 + round(200 * value / n)
    save_image(image, tmp_path / "s.svs", mpp=0.5)
    with open_slide(tmp_path / "s.svs") as slide:
        save_tile_sheet(slide, tiles, tmp_path / "s.png", scale="score")
    with Image.open(tmp_path / "s.png") as sheet:
        pixels = np.asarray(sheet.convert("L")).astype(int)
    centres = [pixels[30 + 75, 6 + 156 * k + 75] for k in range(min(8, -(-n // 2)))]
    assert centres == sorted(centres, reverse=True)
    assert abs(centres[0] - (40 + round(200 * (n - 1) / n))) < 8
    if n > 1:
        assert abs(pixels[208 + 30 + 75, 6 + 75] - 40) < 8
