import multiprocessing
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gigassl.errors import SettingsError, SlideError
from gigassl.files import MachineError
from gigassl.slides.reader import open_slide
from gigassl.slides.region_reader import RegionReader, verified_jpeg_levels
from gigassl.tiles.pretrain.index import TileIndex, joined
from gigassl.tiles.pretrain.sampling import draw_tiles
from gigassl.tiles.pretrain.settings import SamplingSettings
from gigassl.tiles.pretrain.slide_source import SlideFiles, SlideTiles
from gigassl.tiles.pretrain.source import BatchPlan, TileBatch, TileSource
from tests.shared_data import REPO_ROOT, SHARED, needs_shared
from tests.slides.jpeg_tiff import JpegKind, encode, halved, painting, write_jpeg_tiff
from tests.tiles.pretrain.index_of import one_slide

SIDE = 48
SAMPLING = SamplingSettings(slides_per_batch=4, neighbours=True)


def indexed(path: Path, *, side_l0: float = SIDE) -> TileIndex:
    """Every tile of a slide's lattice at 0.5 µm/px."""
    with open_slide(path) as slide:
        info, digest = slide.info, slide.digest
        levels = sum(1 << level for level in verified_jpeg_levels(slide))
    rows, columns = int(info.height_l0 / side_l0), int(info.width_l0 / side_l0)
    index = one_slide(
        path.stem, kept=np.ones((rows, columns), bool), side_l0=side_l0, mpp_l0=info.mpp
    )
    return replace(
        index, paths=(path,), slide_digests=(digest,), jpeg_levels=np.array([levels]),
        size_l0=np.array([[info.width_l0, info.height_l0]]), tile_px=SIDE, target_mpp=0.5,
    )  # fmt: skip


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> TileIndex:
    folder = tmp_path_factory.mktemp("three")
    paths = []
    for number, (width, height) in enumerate(((600, 400), (300, 700), (500, 500))):
        image = painting(width, height, seed=number)
        path = write_jpeg_tiff(folder / f"s{number}.svs", [image, halved(image)], tile_px=128)
        paths.append(path)
    return joined([indexed(path) for path in paths])


def moved(index: TileIndex, folder: Path) -> TileIndex:
    """The same slides in files that a test may harm."""
    paths = tuple(Path(shutil.copy(path, folder)) for path in index.paths)
    return replace(index, paths=paths)


def source_of(index: TileIndex, settings: SamplingSettings = SAMPLING) -> SlideTiles:
    return SlideTiles(index, tile_px=SIDE, target_mpp=0.5, settings=settings)


def assert_same(one: TileBatch, other: TileBatch) -> None:
    assert torch.equal(one.tiles, other.tiles)
    assert torch.equal(one.file, other.file)
    assert (one.partners is None) == (other.partners is None)
    if one.partners is not None and other.partners is not None:
        assert torch.equal(one.partners, other.partners)


def test_it_is_a_tile_source(three: TileIndex) -> None:
    source = source_of(three)
    assert isinstance(source, TileSource)
    assert (list(source.names), source.n_tiles) == (["s0", "s1", "s2"], int(three.count.sum()))
    digests = {
        source.digest,
        source_of(three, replace(SAMPLING, jitter_px=0.1)).digest,
        source_of(replace(three, slide_digests=("a", "b", "c"))).digest,
        SlideTiles(three, tile_px=SIDE + 1, target_mpp=0.5, settings=SAMPLING).digest,
        SlideTiles(three, tile_px=SIDE, target_mpp=0.6, settings=SAMPLING).digest,
    }
    assert len(digests) == 5


def test_batches_hold_the_pixels_of_what_was_drawn(three: TileIndex) -> None:
    sampling = replace(SAMPLING, second_mpp=1.0)
    batches = list(source_of(three, sampling).batches(BatchPlan(last=3, size=20, seed=4)))
    assert len(batches) == 3
    for step, batch in enumerate(batches):
        drawn = draw_tiles(three, sampling, seed=4, step=step, size=20)
        assert batch.unreadable == ()
        assert batch.file.tolist() == drawn.slide.tolist()
        assert batch.partners is not None
        assert drawn.partner is not None
        for place, number in enumerate(drawn.slide.tolist()):
            with open_slide(three.paths[number]) as slide:
                reader, out = RegionReader(slide, jpeg_levels=[]), np.empty((SIDE, SIDE, 3), "u1")
                for tiles, corner in ((batch.tiles, drawn.corner), (batch.partners, drawn.partner)):
                    x, y = corner[place].tolist()
                    reader.read_into(out, x_l0=x, y_l0=y, mpp=float(drawn.mpp[place]))
                    # elsewhere OpenSlide blends where it is asked between two pixels of a level
                    assert np.abs(tiles[place].numpy().astype(float) - out).mean() < 6


def test_a_resumed_run_and_any_process_see_the_batches_of_an_undisturbed_one(
    three: TileIndex,
) -> None:
    source = source_of(three)
    plan = BatchPlan(last=5, size=12, seed=1)
    whole = list(source.batches(plan))
    for resumed, batch in zip(source.batches(replace(plan, first=3)), whole[3:], strict=True):
        assert_same(resumed, batch)
    parts = [list(source.batches(replace(plan, rank=rank, world=3))) for rank in range(3)]
    for step, batch in enumerate(whole):
        for rank in range(3):
            assert torch.equal(parts[rank][step].tiles, batch.tiles[rank::3])
            assert torch.equal(parts[rank][step].file, batch.file[rank::3])


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_worker_processes_give_the_same_batches_in_order(
    three: TileIndex, tmp_path: Path, workers: int
) -> None:
    index = moved(three, tmp_path)
    index.paths[1].unlink()
    source, plan = source_of(index), BatchPlan(last=7, size=12, seed=2)
    before = torch.get_rng_state()
    there = list(source.batches(replace(plan, workers=workers)))
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(there, source.batches(plan), strict=True):
        assert_same(one, other)
    assert [u.name for batch in there for u in batch.unreadable] == ["s1"]


@pytest.mark.slow
def test_workers_answer_no_signal_but_a_kill_and_end_with_their_batches(three: TileIndex) -> None:
    batches = source_of(three).batches(BatchPlan(last=10**6, size=12, workers=2))
    next(batches)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        for name in ("TERM", "INT"):
            subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    for _ in range(20):
        assert len(next(batches).tiles) == 12
    batches.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()

    batches = source_of(three).batches(BatchPlan(last=10**6, size=12, workers=1))
    next(batches)
    multiprocessing.active_children()[0].kill()
    with pytest.raises(MachineError, match="a process that reads tiles died"):
        list(batches)


LEFT_OPEN = """
import sys
from pathlib import Path
from gigassl.tiles.pretrain.image_source import ImageTiles
from gigassl.tiles.pretrain.settings import SamplingSettings
from gigassl.tiles.pretrain.source import BatchPlan

if __name__ == "__main__":
    source = ImageTiles(Path(sys.argv[1]), tile_px=32, settings=SamplingSettings())
    batches = source.batches(BatchPlan(last=10**6, size=4, workers=2))
    next(batches)
    raise ValueError("with batches left open")
"""


@pytest.mark.slow
def test_a_program_that_fails_does_not_wait_for_its_workers(tmp_path: Path) -> None:
    Image.fromarray(painting(100, 100)).save(tmp_path / "a.png")
    (tmp_path / "program.py").write_text(LEFT_OPEN)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), str(tmp_path)],
        capture_output=True, text=True, timeout=120, check=False, cwd=REPO_ROOT,
        env={**os.environ, "PYTHONPATH": str(REPO_ROOT)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "with batches left open" in done.stderr


def test_leaving_early_leaves_no_thread_and_no_open_slide(three: TileIndex) -> None:
    batches = source_of(three).batches(BatchPlan(last=10**9, size=12))
    assert len(next(iter(batches)).tiles) == 12
    batches.close()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(batches)


def test_no_more_slides_are_open_than_asked_for(three: TileIndex) -> None:
    files, out = SlideFiles(three, SAMPLING, keep_open=2), np.empty((SIDE, SIDE, 3), np.uint8)
    for number in (0, 1, 0, 2, 0, 1):
        files.read_into(out, file=number, corner=(0, 0), mpp=0.5)
        assert len(files._open) <= 2
    # the one used longest ago was closed
    assert list(files._open) == [0, 1]
    files.close()
    assert not files._open


def test_a_slide_that_vanishes_in_the_middle_is_named_once_and_replaced(
    three: TileIndex, tmp_path: Path
) -> None:
    index = moved(three, tmp_path)
    plan = BatchPlan(last=4, size=12, seed=3)
    undisturbed = list(source_of(three).batches(plan))
    index.paths[0].unlink()
    batches = list(source_of(index).batches(plan))
    named = [unreadable for batch in batches for unreadable in batch.unreadable]
    assert [(u.name, u.path) for u in named] == [("s0", str(index.paths[0]))]
    assert "does not exist" in named[0].reason
    for batch, good in zip(batches, undisturbed, strict=True):
        assert 0 not in batch.file.tolist()
        still = good.file != 0
        assert still.any()
        assert torch.equal(batch.tiles[still], good.tiles[still])
        # what took the places is drawn, not repeated
        assert len({tile.numpy().tobytes() for tile in batch.tiles}) == len(batch.tiles)


def test_a_truncated_slide_is_told_from_the_one_that_was_indexed(
    three: TileIndex, tmp_path: Path
) -> None:
    index = moved(three, tmp_path)
    content = index.paths[2].read_bytes()
    index.paths[2].write_bytes(content[:-2000])
    batches = list(source_of(index).batches(BatchPlan(last=2, size=12)))
    assert [u.name for batch in batches for u in batch.unreadable] == ["s2"]
    assert all(2 not in batch.file.tolist() for batch in batches)
    index.paths[2].write_bytes(content + b"more")
    batches = list(source_of(index).batches(BatchPlan(last=1, size=12)))
    assert "has changed" in batches[0].unreadable[0].reason


@pytest.mark.parametrize("jpeg_levels", [0, 1], ids=["openslide", "jpeg"])
def test_a_damaged_stored_tile_costs_only_the_tiles_over_it(
    tmp_path: Path, jpeg_levels: int
) -> None:
    image = painting(640, 640)
    good = encode(image[:128, :128], JpegKind())
    path = write_jpeg_tiff(tmp_path / "a.svs", [image], tile_px=128, replace={12: good[:200]})
    index = replace(indexed(path), jpeg_levels=np.array([jpeg_levels]))
    sampling = replace(SAMPLING, jitter_mpp=0.0, neighbours=False)
    source = source_of(index, sampling)
    batches = list(source.batches(BatchPlan(last=6, size=32)))
    assert [u.name for batch in batches for u in batch.unreadable] == ["a"]
    # whether a square can be read depends on nothing read before: in any order, the same tiles
    again = list(source.batches(BatchPlan(first=5, last=6, size=32)))
    assert torch.equal(again[0].tiles, batches[5].tiles)
    bad = total = 0
    for step, batch in enumerate(batches):
        drawn = draw_tiles(index, sampling, seed=0, step=step, size=32)
        over = np.all((drawn.corner + SIDE > 256) & (drawn.corner < 384), axis=1, keepdims=True)[
            :, 0
        ]
        bad, total = bad + int(over.sum()), total + len(over)
        expected = image[drawn.corner[~over][0, 1] :, drawn.corner[~over][0, 0] :][:SIDE, :SIDE]
        tile = batch.tiles[int(np.flatnonzero(~over)[0])].numpy()
        assert np.abs(tile.astype(float) - expected).mean() < 8  # JPEG's loss
    assert 0 < bad < total / 4


def test_when_no_slide_can_be_read_any_more_the_training_is_told(
    three: TileIndex, tmp_path: Path
) -> None:
    index = moved(three, tmp_path)
    for path in index.paths:
        path.unlink()
    batches = source_of(index).batches(BatchPlan(last=2, size=12))
    with pytest.raises(
        SettingsError, match=r"3 of 3 files cannot be read any more.*does not exist"
    ):
        next(batches)


def test_what_cannot_work_is_refused_before_anything_is_read(three: TileIndex) -> None:
    with pytest.raises(SettingsError, match=r"hold \d+ tiles, and a batch needs 5000"):
        source_of(three).batches(BatchPlan(last=1, size=5000))
    with pytest.raises(SettingsError, match="cannot be shared by 8"):
        source_of(three).batches(BatchPlan(last=1, size=4, world=8))
    with pytest.raises(SettingsError, match=r"3 of 3 slides are coarser than 0.25 µm/px"):
        source_of(three, SamplingSettings(second_mpp=0.25))


def test_what_cannot_be_read_is_an_error_of_the_slide(three: TileIndex) -> None:
    files, out = SlideFiles(three, SAMPLING), np.empty((SIDE, SIDE, 3), np.uint8)
    with pytest.raises(SlideError, match="does not lie in the slide"):
        files.read_into(out, file=0, corner=(590, 0), mpp=0.5)


@needs_shared
def test_tiles_of_a_real_slide_hold_tissue() -> None:
    index = indexed(SHARED / "data" / "wsi" / "CMU-1-Small-Region.svs", side_l0=96)
    source = SlideTiles(replace(index, tile_px=96), tile_px=96, target_mpp=0.5, settings=SAMPLING)
    (batch,) = source.batches(BatchPlan(last=1, size=64))
    assert batch.tiles.float().std(dim=(1, 2)).mean() > 10
