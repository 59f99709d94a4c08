"""``gigassl synth`` as a user runs it: files that others open, equal bytes, resume, bad input."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gigassl.bags.bag import open_bag
from gigassl.errors import SettingsError
from gigassl.pipeline.synth_needles import SynthNeedlesSettings, needle_digits
from gigassl.pipeline.synth_nic import SynthNicSettings, synth_nic
from gigassl.slides.digit_layout import DigitSlideSettings
from gigassl.slides.digit_slides import draw_slides
from gigassl.slides.digits import read_digits
from gigassl.slides.needles import NeedleSettings, draw_needles
from gigassl.slides.reader import open_slide
from tests.end_to_end.conftest import Run

SMALL = ("--encoder", 3, "--train", 4, "--test", 2)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def rectangles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "rectangles"
    done = synth_nic(out, settings=SynthNicSettings(encoder=3, train=4, test=2))
    assert "9 images" in done.sentence()
    return out


def test_slides_are_the_drawn_arrays(rectangles: Path) -> None:
    rows = rows_of(rectangles)
    parts = ["encoder-train"] * 2 + ["encoder-validation"] + ["train"] * 4 + ["test"] * 2
    assert [row["part"] for row in rows] == parts
    sets = read_digits()
    for number, row in enumerate(rows):
        digits = sets.test if row["part"] == "test" else sets.train
        drawn = draw_slides(DigitSlideSettings(), digits, n=1, seed=0, first=number)
        assert row["label"] == f"digit-{drawn.labels[0]}"
        shares = [float(row[f"share_{digit}"]) for digit in range(10)]
        assert shares == pytest.approx(drawn.shares[0].tolist(), abs=1e-6)
        with open_slide(rectangles / row["path"]) as slide:
            assert slide.info.mpp == pytest.approx(0.5, rel=1e-6)
            seen = slide.read_region(0, 0, level=0, width=256, height=256)
        assert (seen == drawn.images[0][:, :, None]).all()
        with Image.open(rectangles / row["mask"]) as picture:
            mask = np.asarray(picture)
        assert mask.shape == (256, 256)
        # a centre lies between pixels; the one after it is of the same kind, but at edges
        assert (mask[4::8, 4::8] == drawn.masks[0]).mean() > 0.97


def test_encode_makes_a_tile_of_each_cell(rectangles: Path, tmp_path: Path, run: Run) -> None:
    done = run(
        "encode", rectangles / "labels.csv", "--tile-px", 8, "--target-mpp", 0.5, "--tissue",
        "none", "--tile-encoder", "mean-rgb", "-o", tmp_path / "bags",
    )  # fmt: skip
    assert done.code == 0, done.err
    bag = open_bag(tmp_path / "bags" / "nic-000000.h5")
    assert len(bag.coords) == 32 * 32
    drawn = draw_slides(DigitSlideSettings(), read_digits().train, n=1, seed=0)
    cells = drawn.images[0].reshape(32, 8, 32, 8).mean(axis=(1, 3)).ravel()
    order = np.lexsort((bag.coords[:, 0], bag.coords[:, 1]))
    features = np.asarray(bag.features)[order].astype(float)
    assert np.corrcoef(features[:, 0], cells)[0, 1] > 0.999


def test_bytes_are_equal_on_any_number_of_workers_and_after_a_stop(
    rectangles: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "again"
    assert run("synth", "nic", *SMALL, "--workers", 5, "-o", out).code == 0
    assert bytes_of(out) == bytes_of(rectangles)
    # as a killed run leaves it: no table yet, some images without their mask
    (out / "labels.csv").unlink()
    (out / "masks" / "nic-000004.png").unlink()
    (out / "slides" / "nic-000005.tiff").unlink()
    done = run("synth", "nic", *SMALL, "-o", out, "--json")
    assert json.loads(done.out)["images_new"] == 2
    assert bytes_of(out) == bytes_of(rectangles)
    other = run("synth", "nic", *SMALL, "--seed", 1, "-o", out)
    assert other.code == 2
    assert "made with other settings or digits" in other.err


def test_needles_are_the_drawn_arrays_in_class_folders(tmp_path: Path, run: Run) -> None:
    out = tmp_path / "needles"
    sizes = ("--canvas", "16,32", "--train", 6, "--validation", 4, "--test", 4)
    done = run("synth", "needles", *sizes, "-o", out)
    assert done.code == 0, done.err
    rows = rows_of(out)
    assert len(rows) == 28
    digits = needle_digits(read_digits())
    for number, row in enumerate(rows[14:]):
        drawn = draw_needles(
            NeedleSettings(canvas_px=32), digits[row["part"]], n=1, seed=1234, first=number
        )
        with Image.open(out / row["image"]) as picture:
            assert (np.asarray(picture) == drawn.images[0]).all()
        assert row["label"] == ("none", "needle")[drawn.labels[0]]
        assert row["image"].split("/")[:3] == ["canvas-0032", row["part"], row["label"]]
        assert float(row["o2i"]) == 0.0625
        if row["mask"]:
            with Image.open(out / row["mask"]) as picture:
                assert (np.asarray(picture) == drawn.masks[0]).all()
    again = tmp_path / "again"
    assert run("synth", "needles", *sizes, "--workers", 4, "-o", again).code == 0
    assert bytes_of(again) == bytes_of(out)


def test_validation_needles_are_of_their_own() -> None:
    parts = needle_digits(read_digits())
    train = {image.tobytes() for image in parts["train"].images}
    assert not train & {image.tobytes() for image in parts["validation"].images}
    assert (parts["validation"].labels == 3).sum() > 10


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (("nic", "--classes", "1,x"), "--classes wants whole numbers"),
        (("nic", "--long-side", "4"), "--long-side wants FROM,TO"),
        (("nic", "--train", 0, "--encoder", 0, "--test", 0), "at least one slide"),
        (("nic", "--fill", 2), "share of the cells"),
        (("needles", "--canvas", "16,16"), "canvases, each once"),
        (("needles", "--canvas", "50"), "multiple of the cell"),
        (("needles", "--test", 1), "two images or more"),
    ],
)
def test_bad_input_is_one_sentence(
    asked: tuple[object, ...], sentence: str, tmp_path: Path, run: Run
) -> None:
    done = run("synth", *asked, "-o", tmp_path / "none")
    assert done.code == 2
    assert sentence in done.err
    assert not (tmp_path / "none").exists()


def test_the_papers_preset_has_its_numbers() -> None:
    assert SynthNicSettings(encoder=2500, train=22_500, test=25_000).part(1749) == "encoder-train"
    settings = SynthNicSettings(encoder=2500, train=22_500, test=25_000)
    assert settings.n_slides == 50_000
    assert settings.part(1750) == "encoder-validation"
    assert settings.part(24_999) == "train"
    assert settings.part(25_000) == "test"
    with pytest.raises(SettingsError, match="two images"):
        SynthNeedlesSettings(train=0)
