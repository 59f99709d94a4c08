"""The first look at images: order, digest, what is left out."""

from pathlib import Path

import pytest
from PIL import Image

from gigassl.errors import SettingsError
from gigassl.pipeline.image_survey import Survey, read_ahead, survey
from gigassl.pipeline.progress import Silent
from gigassl.tiles.image_tiles import ImageCut
from gigassl.tiles.labelled_images import read_labelled
from tests.tiles.tissue_images import write_class_folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_class_folders(tmp_path / "set", patients=2, per_patient=2, side_px=32)
    return tmp_path / "set"


def looked(folder: Path, *cuts: ImageCut, workers: int = 2) -> Survey:
    return survey(read_labelled(folder), cuts, workers=workers, progress=Silent())


def test_reading_ahead_keeps_the_order_and_stays_near() -> None:
    begun: list[int] = []

    def read(item: int) -> int:
        begun.append(item)
        return item * item

    reading = read_ahead(read, range(100), workers=3)
    assert next(reading) == 0
    assert len(begun) <= 8
    assert list(reading) == [k * k for k in range(1, 100)]


def test_reading_ahead_stops_at_an_error() -> None:
    begun: list[int] = []

    def read(item: int) -> int:
        begun.append(item)
        return 1 // (item - 5)

    with pytest.raises(ZeroDivisionError):
        list(read_ahead(read, range(1000), workers=2))
    assert len(begun) < 20


def test_the_digest_is_of_names_and_pixels(folder: Path) -> None:
    first = looked(folder)
    assert looked(folder, workers=1).digest == first.digest
    image = folder / "tumour" / "p0_0.png"
    pixels = Image.open(image).copy()
    pixels.save(image, compress_level=0)  # other bytes, the same pixels
    assert looked(folder).digest == first.digest
    pixels.putpixel((0, 0), (1, 2, 3))
    pixels.save(image)
    changed = looked(folder)
    assert changed.digest != first.digest
    image.rename(image.with_name("q.png"))
    assert looked(folder).digest not in {first.digest, changed.digest}


def test_too_small_for_one_encoder_is_left_out_for_all(folder: Path) -> None:
    Image.new("RGB", (64, 64)).save(folder / "tumour" / "large.png")
    fits, large = (ImageCut(tile_px=side, mpp=1.0, image_mpp=1.0) for side in (32, 48))
    assert len(looked(folder, fits).rows) == 9
    both = looked(folder, fits, large)
    assert len(both.rows) == 1
    assert {each.stage for each in both.failures} == {"grid"}
    with pytest.raises(SettingsError, match="not one of 9 images can be used"):
        looked(folder, ImageCut(tile_px=65, mpp=1.0, image_mpp=1.0))
