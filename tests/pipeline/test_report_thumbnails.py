"""Thumbnails of a report: small enough, kept, and named where there is none."""

import os
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gigassl.errors import SettingsError
from gigassl.pipeline.progress import Silent
from gigassl.pipeline.report_thumbnails import Shown, inside_budget, small_jpeg, thumbnails
from gigassl.vectors.table import SlideTable
from tests.vectors.test_table import make_table


def shown(slides: Path, table: SlideTable, out: Path, *, most_inside: int = 10) -> Shown:
    return thumbnails(
        table, slides, out=out, most_inside=most_inside, workers=2, progress=Silent()
    )  # fmt: skip


def test_a_picture_is_made_smaller_until_it_fits() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (600, 900, 3), dtype=np.uint8)
    sizes = []
    for budget in (30_000, 6_750, 3_000):
        data = small_jpeg(noise, budget=budget)
        assert len(data) <= budget
        sizes.append(Image.open(BytesIO(data)).size)
    assert sizes == sorted(sizes, reverse=True)
    plain = small_jpeg(np.full((600, 900, 3), 200, dtype=np.uint8), budget=6_750)
    assert Image.open(BytesIO(plain)).size == (320, 213)


def test_thumbnails_of_a_thousand_slides_leave_room_in_15_mb() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    assert len(small_jpeg(noise, budget=inside_budget(1000))) * 4 / 3 * 1000 < 9_000_000


def test_they_show_the_slides(slides: Path, tmp_path: Path) -> None:
    found = shown(slides, make_table("alpha", "beta"), tmp_path / "r.html")
    pictures = [Image.open(BytesIO(b64decode(p))) for p in found.pictures.inside]
    assert [p.size for p in pictures] == [(320, 267)] * 2
    assert found.notes == (f"1 slides of {slides.name} have no vector and are not shown",)
    assert not found.failures


def test_a_slide_without_file_and_a_damaged_one_are_named(slides: Path, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "alpha.svs").write_bytes((slides / "alpha.svs").read_bytes())
    (folder / "beta.svs").write_bytes(b"II*\0 nothing of a slide")
    found = shown(folder, make_table("alpha", "beta", "gamma"), tmp_path / "r.html")
    assert {f.slide_id: f.stage for f in found.failures} == {"beta": "open", "gamma": "open"}
    assert [bool(p) for p in found.pictures.inside] == [True, False, False]
    assert found.pictures.count == 1


def test_an_earlier_runs_files_are_kept(slides: Path, tmp_path: Path) -> None:
    table, out = make_table("alpha", "beta"), tmp_path / "r.html"
    first = shown(slides, table, out, most_inside=1)
    assert first.pictures.folder == "r.thumbnails/"
    kept = tmp_path / "r.thumbnails" / first.pictures.files[0]
    os.utime(kept, (1, 1))
    (tmp_path / "r.thumbnails" / first.pictures.files[1]).unlink()
    again = shown(slides, table, out, most_inside=1)
    assert again.pictures == first.pictures
    assert kept.stat().st_mtime == 1
    assert len(list((tmp_path / "r.thumbnails").iterdir())) == 2


def test_other_slides_and_bags_are_refused(slides: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="none of the 1 slides of the vectors"):
        shown(slides, make_table("delta"), tmp_path / "r.html")
    bags = tmp_path / "bags"
    bags.mkdir()
    (bags / "alpha.h5").write_bytes(b"x")
    with pytest.raises(SettingsError, match="holds bags"):
        shown(bags, make_table("alpha"), tmp_path / "r.html")
