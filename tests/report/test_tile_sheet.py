"""Tile sheets and tables of scores: what was written is read again."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gigassl.errors import GigasslError
from gigassl.report.tile_scores import read_scores, save_scores
from gigassl.report.tile_sheet import cut_tiles, highest_and_lowest, save_tile_sheet
from gigassl.slides.reader import open_slide
from gigassl.slides.slide_files import save_image
from tests.report.page.explained import record_of
from tests.report.test_tile_map import map_of


@given(scores=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, float("nan")]), max_size=30))
def test_no_tile_is_both_high_and_low(scores: list[float]) -> None:
    score = np.array(scores, dtype=np.float64)
    high, low = highest_and_lowest(score)
    both = [*high.tolist(), *low.tolist()]
    known = np.flatnonzero(np.isfinite(score))
    assert len(set(both)) == len(both) == min(len(known), 16)
    assert (np.diff(score[high]) <= 0).all()
    assert (np.diff(score[low]) >= 0).all()
    rest = np.setdiff1d(known, both)
    assert not len(rest) or score[high].min() >= score[rest].max()
    assert not len(rest) or score[low].max() <= score[rest].min()


def test_cut_tiles_are_the_pixels_of_the_slide(tmp_path: Path) -> None:
    score = np.linspace(-1, 1, 25)
    tiles = map_of(score)
    image = np.full((tiles.height_l0, tiles.width_l0, 3), 255, np.uint8)
    for number, (x, y) in enumerate(tiles.coords.tolist()):
        image[y : y + 100, x : x + 100] = [10 * number, 255 - 10 * number, 5 * number]
    save_image(image, tmp_path / "s.svs", mpp=0.5)
    with open_slide(tmp_path / "s.svs") as slide:
        save_tile_sheet(slide, tiles, tmp_path / "tiles.png", scale="score")
    cut = cut_tiles(tmp_path / "tiles.png", score)
    assert sorted(cut) == [*range(8), *range(17, 25)]
    for number, pixels in cut.items():
        middle = pixels[20:-20, 20:-20].reshape(-1, 3).mean(axis=0)
        assert middle == pytest.approx([10 * number, 255 - 10 * number, 5 * number], abs=4)


def test_a_sheet_of_other_scores_or_a_damaged_one_is_said(tmp_path: Path) -> None:
    Image.new("RGB", (50, 50)).save(tmp_path / "tiles.png")
    with pytest.raises(GigasslError, match="not a sheet of these scores"):
        cut_tiles(tmp_path / "tiles.png", np.arange(5.0))
    (tmp_path / "tiles.png").write_bytes(b"no picture")
    with pytest.raises(GigasslError, match="damaged"):
        cut_tiles(tmp_path / "tiles.png", np.arange(5.0))


def test_scores_are_read_as_they_were_written(tmp_path: Path) -> None:
    tiles = map_of(np.array([0.1, np.nan, -3e-9, 2.0]), side=33.3)
    save_scores(tiles, tmp_path / "scores.csv", share=np.zeros(4))
    record = record_of("a", meaning="contribution", size=(tiles.width_l0, tiles.height_l0))
    found = read_scores(tmp_path / "scores.csv", record)
    assert np.array_equal(found.score, tiles.score, equal_nan=True)
    assert np.array_equal(found.coords, tiles.coords)
    assert (found.side_l0, found.signed) == (33.3, True)
    assert (found.width_l0, found.height_l0) == (tiles.width_l0, tiles.height_l0)
    # a record of an earlier version does not know the slide's size
    older = read_scores(tmp_path / "scores.csv", record_of("a", size=(0, 0)))
    assert older.width_l0 == np.ceil(tiles.coords[:, 0].max() + 33.3)


@pytest.mark.parametrize("text", ["", "slide_id,x,y,side_l0,score\n", "x,y\n1,2\n", "a\x00b\n1\n"])
def test_other_tables_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(GigasslError, match="explain the slide again"):
        read_scores(tmp_path / "scores.csv", record_of("a"))
