import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gigassl.bags.prepare import TileSettings, look_at
from gigassl.errors import SettingsError
from gigassl.pipeline.tile_index import IndexOptions, tile_index
from gigassl.slides.cohort import Cohort, CohortSlide, read_cohort
from gigassl.slides.grid import GridSettings, make_grid
from gigassl.slides.slide_files import save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.tiles.pretrain.index import load_index
from gigassl.tiles.pretrain.settings import SamplingSettings
from gigassl.tiles.pretrain.slide_source import SlideTiles
from gigassl.tiles.pretrain.source import BatchPlan
from tests.shared_data import SHARED, needs_shared

SETTINGS = TileSettings(grid=GridSettings(tile_px=96))


class Counting:
    """Notes which slides were laid."""

    def __init__(self) -> None:
        self.done: list[tuple[str, bool]] = []
        self.tiles = 0

    def started(self, n_slides: int) -> None:
        self.n_slides = n_slides

    def tiles_done(self, n_tiles: int) -> None:
        self.tiles += n_tiles

    def slide_done(self, slide_id: str, *, failed: bool) -> None:
        self.done.append((slide_id, failed))


@pytest.fixture
def folder(slides: Path, tmp_path: Path) -> Path:
    """The three slides in files that a test may harm."""
    return Path(shutil.copytree(slides, tmp_path / "slides"))


def test_the_index_holds_the_grids_of_all_slides(slides: Path, tmp_path: Path) -> None:
    progress, out = Counting(), tmp_path / "i.npz"
    index, failures = tile_index(read_cohort(slides), settings=SETTINGS, out=out, progress=progress)
    assert failures == []
    assert index.slide_ids == ("alpha", "beta", "gamma")
    assert (progress.n_slides, progress.tiles) == (3, len(index.coords))
    for number, source in enumerate(read_cohort(slides).slides):
        seen = look_at(source, SETTINGS)
        with seen.slide as slide:
            grid = make_grid(slide.info, SETTINGS.grid, tissue=seen.tissue)
            levels = len(slide.level_sizes)
        first, count = index.first[number], index.count[number]
        np.testing.assert_array_equal(index.coords[first : first + count], grid.coords)
        np.testing.assert_allclose(index.tissue[first : first + count], grid.tissue, atol=1e-6)
        assert (index.side_l0[number], index.step_l0[number]) == (grid.side_l0, grid.side_l0)
        assert index.slide_digests[number] == slide.digest
        assert index.jpeg_levels[number] == (1 << levels) - 1
        assert index.paths[number] == source.path
    assert load_index(out).digest == index.digest
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")) == ["i.npz"]


def test_what_was_laid_is_not_laid_again_unless_it_changed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "i.npz"
    first, _ = tile_index(read_cohort(folder), settings=SETTINGS, out=out)
    written = out.read_bytes()
    progress = Counting()
    again, _ = tile_index(read_cohort(folder), settings=SETTINGS, out=out, progress=progress)
    assert (progress.n_slides, again.digest, out.read_bytes()) == (0, first.digest, written)

    (folder / "beta.svs").write_bytes((folder / "beta.svs").read_bytes() + b"longer")
    (folder / "gamma.svs").unlink()
    progress = Counting()
    changed, _ = tile_index(read_cohort(folder), settings=SETTINGS, out=out, progress=progress)
    assert progress.done == [("beta", False)]
    assert changed.slide_ids == ("alpha", "beta")

    progress, coarser = Counting(), replace(SETTINGS, grid=GridSettings(tile_px=80))
    tile_index(read_cohort(folder), settings=coarser, out=out, progress=progress)
    assert progress.n_slides == 2


def test_any_number_of_threads_writes_the_same_bytes(slides: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        tile_index(
            read_cohort(slides), settings=SETTINGS, out=tmp_path / f"{workers}.npz",
            options=IndexOptions(workers=workers),
        )  # fmt: skip
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "3.npz").read_bytes()


def test_bad_slides_are_named_and_the_rest_is_used(folder: Path, tmp_path: Path) -> None:
    (folder / "empty.svs").write_bytes(b"")
    blank = np.full((600, 600, 3), 255, np.uint8)
    save_image(blank, folder / "blank.svs", mpp=0.5)
    cohort = read_cohort(folder)
    gone = CohortSlide(
        slide_id="zeta", path=folder / "zeta.svs", patient_id="z", patient_rule="column"
    )
    progress = Counting()
    index, failures = tile_index(
        Cohort(slides=cohort.slides, missing=(gone,)), settings=SETTINGS, out=tmp_path / "i.npz",
        progress=progress,
    )  # fmt: skip
    assert index.slide_ids == ("alpha", "beta", "gamma")
    assert [(f.slide_id, f.stage) for f in failures] == [
        ("blank", "tissue"), ("empty", "open"), ("zeta", "open"),
    ]  # fmt: skip
    assert progress.done[1:3] == [("beta", False), ("blank", True)]


def test_too_few_tiles_say_how_many_there_are(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"3 slides hold \d+ tiles, and a batch needs 9999"):
        tile_index(read_cohort(folder), settings=SETTINGS, out=tmp_path / "i.npz", fewest=9999)
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(SettingsError, match=r"not one of 3 slides.*alpha: the file is empty"):
        tile_index(read_cohort(folder), settings=SETTINGS, out=tmp_path / "other.npz")


def test_bags_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"x")
    with pytest.raises(SettingsError, match="these are bags"):
        tile_index(read_cohort(tmp_path), settings=SETTINGS, out=tmp_path / "i.npz")


PASS = """
import sys
from pathlib import Path
from gigassl.bags.prepare import TileSettings
from gigassl.pipeline.tile_index import IndexOptions, tile_index
from gigassl.slides.cohort import read_cohort
from gigassl.slides.grid import GridSettings
tile_index(read_cohort(Path(sys.argv[1])), settings=TileSettings(grid=GridSettings(tile_px=96)),
           out=Path(sys.argv[2]), options=IndexOptions(workers=1))
"""


@pytest.mark.slow
def test_a_killed_pass_goes_on_where_it_was(tmp_path: Path) -> None:
    many = tmp_path / "slides"
    many.mkdir()
    painted = paint_slide(SyntheticSettings(width_px=4480, height_px=4480, seed=0))
    save_image(painted.image, many / "s00.svs", mpp=0.5)
    for number in range(1, 30):
        shutil.copy(many / "s00.svs", many / f"s{number:02d}.svs")
    out, parts = tmp_path / "i.npz", tmp_path / "i.npz.parts"
    process = subprocess.Popen([sys.executable, "-c", PASS, str(many), str(out)])
    while len(list(parts.glob("[!.]*.npz"))) < 3:
        assert process.poll() is None, "the pass ended before it could be killed"
        time.sleep(0.005)
    process.kill()
    process.wait()
    done = len(list(parts.glob("[!.]*.npz")))
    assert 3 <= done < 30
    assert not out.exists()
    # power failure: a part that is not whole is laid again
    next(iter(parts.glob("[!.]*.npz"))).write_bytes(b"half")
    progress = Counting()
    tile_index(read_cohort(many), settings=SETTINGS, out=out, progress=progress)
    assert progress.n_slides == 30 - done + 1
    tile_index(read_cohort(many), settings=SETTINGS, out=tmp_path / "undisturbed.npz")
    assert out.read_bytes() == (tmp_path / "undisturbed.npz").read_bytes()
    assert not parts.exists()


@needs_shared
def test_tiles_are_drawn_from_an_index_of_real_slides(tmp_path: Path) -> None:
    for name in ("CMU-1-Small-Region.svs", "broken.svs", "unreadable.svs"):
        shutil.copy(SHARED / "data" / "wsi" / name, tmp_path)
    index, failures = tile_index(
        read_cohort(tmp_path), settings=TileSettings(), out=tmp_path / "i.npz", fewest=32
    )
    assert [failure.slide_id for failure in failures] == ["broken", "unreadable"]
    assert index.slide_ids == ("CMU-1-Small-Region",)
    source = SlideTiles(index, tile_px=224, target_mpp=0.5, settings=SamplingSettings())
    (batch,) = source.batches(BatchPlan(last=1, size=32))
    assert batch.unreadable == ()
    assert batch.tiles.shape == (32, 224, 224, 3)
    # H&E: less green than red
    assert batch.tiles[..., 1].float().mean() < batch.tiles[..., 0].float().mean() - 20
