import logging
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gigassl.errors import SettingsError
from gigassl.tiles.pretrain.image_source import ImageFiles, ImageIndex, ImageTiles, index_images
from gigassl.tiles.pretrain.settings import SamplingSettings
from gigassl.tiles.pretrain.source import BatchPlan, TileSource
from tests.shared_data import SHARED, needs_shared
from tests.slides.jpeg_tiff import painting

STILL = SamplingSettings(jitter_mpp=0.0)
SIDE = 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of every kind, some below others; one is smaller than a tile."""
    for number, name in enumerate(("a.png", "b/c.jpg", "b/d/e.tif", "f.bmp")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(painting(100 + 20 * number, 90, seed=number)).save(tmp_path / name)
    Image.fromarray(painting(20, 50, seed=9)).save(tmp_path / "g.png")
    return tmp_path


def test_it_is_a_tile_source_of_all_images_below(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="gigassl"):
        source = ImageTiles(folder, tile_px=SIDE, settings=STILL)
    assert isinstance(source, TileSource)
    assert list(source.names) == ["a.png", "b/c.jpg", "b/d/e.tif", "f.bmp", "g.png"]
    assert list(source.patient_ids) == ["a", "c", "e", "f", "g"]
    # tiles side by side: 3 × 2, 3 × 2, 4 × 2, 5 × 2, and the small one
    assert source.n_tiles == 6 + 6 + 8 + 10 + 1
    assert source.n_enlarged == 1
    assert "1 of 5 images are smaller than 32 px and are enlarged" in caplog.text


def test_without_jitter_tiles_are_pixels_of_their_images(folder: Path) -> None:
    (folder / "g.png").unlink()
    source = ImageTiles(folder, tile_px=SIDE, settings=replace(STILL, neighbours=True))
    (batch,) = source.batches(BatchPlan(last=1, size=24, seed=1))
    assert batch.partners is not None
    for tile, partner, number in zip(batch.tiles, batch.partners, batch.file, strict=True):
        with Image.open(folder / source.names[int(number)]) as image:
            whole = np.asarray(image.convert("RGB"))
        at, beside = found_in(whole, tile.numpy()), found_in(whole, partner.numpy())
        moved = np.abs(at - beside)
        assert sorted(moved.tolist()) in ([0, SIDE], [0, SIDE // 2])


def found_in(image: np.ndarray, tile: np.ndarray) -> np.ndarray:
    """Where a tile lies in an image, pixel for pixel."""
    difference = cv2.matchTemplate(image, tile, cv2.TM_SQDIFF)
    y, x = np.unravel_index(int(difference.argmin()), difference.shape)
    np.testing.assert_array_equal(image[y : y + SIDE, x : x + SIDE], tile)
    return np.array([int(x), int(y)])


@given(
    sizes=st.lists(st.tuples(st.integers(10, 200), st.integers(10, 200)), min_size=1, max_size=6),
    seed=st.integers(0, 99), jitter=st.floats(0, 0.5), tile_px=st.integers(8, 80),
    neighbours=st.booleans(),
)  # fmt: skip
@settings(max_examples=80)
def test_squares_lie_inside_their_images_and_are_the_tile_times_the_jitter(
    sizes: list[tuple[int, int]], seed: int, jitter: float, tile_px: int, neighbours: bool
) -> None:
    index = index_of(sizes)
    sampling = SamplingSettings(jitter_mpp=jitter, neighbours=neighbours)
    files = files_of(index, sampling, tile_px=tile_px)
    drawn = files.draw(BatchPlan(last=1, size=20, seed=seed), 0, attempt=0)
    side = np.rint(drawn.mpp * tile_px)
    size = index.size[drawn.slide]
    for corner in (drawn.corner, drawn.partner):
        if corner is not None:
            assert (corner >= 0).all()
            assert (corner + side[:, None] <= size).all()
    shortest = size.min(axis=1)
    assert (side <= np.minimum(shortest, np.rint(tile_px * np.exp(jitter)))).all()
    assert (side >= np.minimum(shortest, np.rint(tile_px * np.exp(-jitter)))).all()


def index_of(sizes: list[tuple[int, int]]) -> ImageIndex:
    names = [f"{number}.png" for number in range(len(sizes))]
    return ImageIndex(
        names=names, paths=[Path(name) for name in names], size=np.array(sizes, np.int64),
        n_bytes=np.ones(len(sizes), np.int64),
    )  # fmt: skip


def files_of(index: ImageIndex, sampling: SamplingSettings, *, tile_px: int) -> ImageFiles:
    room = np.maximum(index.size // tile_px, 1).prod(axis=1)
    return ImageFiles(index, sampling, room=room, tile_px=tile_px, in_memory=False)


def test_every_place_of_an_image_is_drawn_alike() -> None:
    files = files_of(index_of([(40, 33)]), STILL, tile_px=32)
    drawn = files.draw(BatchPlan(last=1, size=9000), 0, attempt=0)
    places, counts = np.unique(drawn.corner, axis=0, return_counts=True)
    assert sorted(map(tuple, places.tolist())) == [(x, y) for x in range(9) for y in range(2)]
    assert np.abs(counts / 9000 - 1 / 18).max() < 0.015


def test_tile_sized_images_are_drawn_once_before_any_is_drawn_twice() -> None:
    files = files_of(index_of([(32, 32)] * 50), STILL, tile_px=32)
    drawn = files.draw(BatchPlan(last=1, size=50), 0, attempt=0)
    assert sorted(drawn.slide.tolist()) == list(range(50))


def test_in_memory_or_not_in_workers_or_not_the_batches_are_the_same(folder: Path) -> None:
    sampling = SamplingSettings(neighbours=True)
    plan = BatchPlan(last=3, size=16, seed=5)
    kept = ImageTiles(folder, tile_px=SIDE, settings=sampling)
    read = ImageTiles(folder, tile_px=SIDE, settings=sampling, memory_bytes=0)
    assert kept.digest == read.digest
    here = list(kept.batches(plan))
    for others in (read.batches(plan), kept.batches(replace(plan, workers=1))):
        for one, other in zip(here, others, strict=True):
            assert torch.equal(one.tiles, other.tiles)
            assert one.partners is not None
            assert other.partners is not None
            assert torch.equal(one.partners, other.partners)


def test_the_digest_names_images_and_settings(folder: Path) -> None:
    digests = {
        ImageTiles(folder, tile_px=SIDE, settings=STILL).digest,
        ImageTiles(folder, tile_px=SIDE + 1, settings=STILL).digest,
        ImageTiles(folder, tile_px=SIDE, settings=replace(STILL, jitter_mpp=0.2)).digest,
    }
    (folder / "a.png").rename(folder / "z.png")
    digests.add(ImageTiles(folder, tile_px=SIDE, settings=STILL).digest)
    assert len(digests) == 4


@pytest.mark.parametrize("memory_bytes", [0, 1 << 30])
def test_damaged_images_are_named_and_replaced(folder: Path, memory_bytes: int) -> None:
    content = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(content[: len(content) // 2])
    (folder / "x.png").write_bytes(b"no image at all")
    source = ImageTiles(folder, tile_px=SIDE, settings=STILL, memory_bytes=memory_bytes)
    assert [u.name for u in source.unreadable] == ["x.png"]
    batches = list(source.batches(BatchPlan(last=3, size=20)))
    assert [u.name for batch in batches for u in batch.unreadable] == ["a.png"]
    assert all(0 not in batch.file.tolist() for batch in batches)


def test_an_image_exchanged_in_the_middle_is_not_read(folder: Path) -> None:
    source = ImageTiles(folder, tile_px=SIDE, settings=STILL, memory_bytes=0)
    Image.fromarray(painting(300, 300)).save(folder / "a.png")
    batches = list(source.batches(BatchPlan(last=3, size=20)))
    (unreadable,) = [u for batch in batches for u in batch.unreadable]
    assert (unreadable.name, "size has changed" in unreadable.reason) == ("a.png", True)


def test_one_image_gives_as_many_tiles_as_lie_in_it_side_by_side(tmp_path: Path) -> None:
    Image.fromarray(painting(100, 70)).save(tmp_path / "only.png")
    source = ImageTiles(tmp_path, tile_px=SIDE, settings=STILL)
    (batch,) = source.batches(BatchPlan(last=1, size=6))
    assert len({tile.numpy().tobytes() for tile in batch.tiles}) > 1
    with pytest.raises(SettingsError, match="1 images hold 6 tiles, and a batch needs 7"):
        source.batches(BatchPlan(last=1, size=7))


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such folder"):
        index_images(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(SettingsError, match=r"no images found in .*\.png"):
        index_images(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(SettingsError, match="not one of the 1 images"):
        index_images(tmp_path)


@needs_shared
def test_real_regions_are_read() -> None:
    source = ImageTiles(SHARED / "data" / "glas", tile_px=224, settings=SamplingSettings())
    assert len(source.names) == 165
    (batch,) = source.batches(BatchPlan(last=1, size=16))
    assert batch.tiles.float().std(dim=(1, 2)).mean() > 10


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_neighbours_are_told_from_tiles_moved_over_themselves(tmp_path: Path, workers: int) -> None:
    for name, width in (("beside", 200), ("over", 40), ("self", SIDE)):
        columns = np.arange(width, dtype=np.uint8)[None, :, None]
        Image.fromarray(np.tile(columns, (SIDE, 1, 3))).save(tmp_path / f"{name}.png")
    source = ImageTiles(tmp_path, tile_px=SIDE, settings=replace(STILL, neighbours=True))
    plan = BatchPlan(last=6, size=4, workers=workers)
    files = set()
    for batch in source.batches(plan):
        assert batch.partners is not None
        assert batch.beside is not None
        moved = batch.partners[:, 0, 0, 0].int() - batch.tiles[:, 0, 0, 0].int()
        assert batch.beside.tolist() == (moved.abs() >= SIDE).tolist()
        assert batch.beside.tolist() == (batch.file == 0).tolist()
        files |= set(batch.file.tolist())
    assert files == {0, 1, 2}
