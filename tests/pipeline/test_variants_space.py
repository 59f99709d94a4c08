"""What eight variants take on disk is said before they are made."""

import logging
from pathlib import Path

import pytest

from gigassl.bags.prepare import PreparedSlide, TileSettings, lay_tiles, look_at
from gigassl.pipeline.variants_space import say_space
from gigassl.slides.cohort import CohortSlide, read_cohort
from gigassl.slides.grid import GridSettings

SETTINGS = TileSettings(grid=GridSettings(tile_px=112))


def prepare(source: CohortSlide) -> PreparedSlide:
    return lay_tiles(look_at(source, SETTINGS), SETTINGS)


def test_it_is_the_size_of_the_features(
    slides: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    todo = read_cohort(slides).slides
    n_tiles = 0
    for source in todo:
        prepared = prepare(source)
        n_tiles += len(prepared.grid)
        prepared.close()
    with caplog.at_level(logging.INFO, logger="gigassl"):
        found = say_space(todo, tmp_path / "new", prepare=prepare, dim=100)
    assert found == n_tiles * 100 * 2 * 8
    assert "8 variants of 3 slides will take about" in caplog.text
    assert caplog.records[-1].levelno == logging.INFO


def test_too_little_room_is_a_warning(
    slides: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    say_space(read_cohort(slides).slides, tmp_path, prepare=prepare, dim=10**12)
    assert caplog.records[-1].levelno == logging.WARNING
    assert "what is done when the disk is full is kept" in caplog.text


def test_slides_that_cannot_be_read_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"no slide")
    sources = read_cohort(tmp_path / "a.svs").slides
    assert say_space(sources, tmp_path, prepare=prepare, dim=3) is None
    assert say_space([], tmp_path, prepare=prepare, dim=3) is None
