"""``explain`` through the command line: three systems on slides whose marked regions are known."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from gigassl.bags.bag import Bag, BagInfo, save_bag
from gigassl.slides.paint import TISSUE_TYPES
from gigassl.slides.slide_files import save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide, save_slide
from tests.end_to_end.conftest import Run

COLS, ROWS, DIM, SIDE = 8, 7, 6, 64
N_SLIDES = 20


def region(number: int) -> np.ndarray:
    """Tiles of the marked region: a large one in every second slide, a single tile in others."""
    rng = np.random.default_rng(number)
    height, width = (4, 4) if number % 2 else (1, 1)
    top, left = rng.integers(0, ROWS - height + 1), rng.integers(0, COLS - width + 1)
    marked = np.zeros((ROWS, COLS), dtype=bool)
    marked[top : top + height, left : left + width] = True
    return marked


def some_bag(number: int) -> Bag:
    rng = np.random.default_rng(1000 + number)
    row, col = np.mgrid[:ROWS, :COLS].reshape(2, -1)
    features = rng.normal(size=(ROWS * COLS, DIM))
    features[:, 0] += 4.0 * region(number).ravel()
    features[:, 1] += 3.0  # what all tiles have in common
    features[:, 2:] += rng.normal(size=DIM - 2)  # and what all tiles of a slide have
    info = BagInfo(
        slide_id=f"s{number:02d}", encoder="some", encoder_digest="e1", settings_digest="d1",
        inputs_digest=f"i{number}", width_l0=COLS * SIDE + 20, height_l0=ROWS * SIDE + 9,
        mpp_l0=0.5, tile_px=SIDE, side_l0=float(SIDE), target_mpp=0.5, effective_mpp=0.5,
        overlap_px=0,
    )  # fmt: skip
    coords = np.stack([col, row], axis=1).astype(np.int64) * SIDE
    return Bag(features=features.astype(np.float16), coords=coords, info=info)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bags, masks of their regions, labels, and the file of two of the slides."""
    folder = tmp_path_factory.mktemp("cohort")
    for name in ("bags", "masks", "slides"):
        (folder / name).mkdir()
    with (folder / "labels.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["slide_id", "patient_id", "tumour"])
        for number in range(N_SLIDES):
            name = f"s{number:02d}"
            save_bag(some_bag(number), folder / "bags" / f"{name}.h5")
            writer.writerow([name, f"p{number:02d}", "yes" if number % 2 else "no"])
            mask = np.zeros((ROWS * 16 + 2, COLS * 16 + 5), np.uint8)
            mask[: ROWS * 16, : COLS * 16] = np.kron(region(number), np.ones((16, 16))) * 255
            Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    for number in (0, 1):
        image = np.full((ROWS * SIDE + 9, COLS * SIDE + 20, 3), 230, np.uint8)
        tissue = np.kron(region(number), np.ones((SIDE, SIDE)))[..., None] * [30, 110, 40]
        image[: ROWS * SIDE, : COLS * SIDE] -= tissue.astype(np.uint8)
        save_image(image, folder / "slides" / f"s{number:02d}.svs", mpp=0.5)
    return folder


@pytest.fixture
def probe(run: Run, cohort: Path, tmp_path: Path) -> Path:
    """A probe on the mean of the tiles, and those of its folds."""
    out = tmp_path / "p.safetensors"
    assert run("embed", cohort / "bags", "-o", tmp_path / "v.parquet",
               "--slide-encoder", "mean").code == 0  # fmt: skip
    done = run("fit", tmp_path / "v.parquet", "--labels", cohort / "labels.csv",
               "--target", "tumour", "--folds", 4, "--keep-folds", "-o", out)  # fmt: skip
    assert done.code == 0, done.err
    return out


def explained(run: Run, cohort: Path, out: Path, *arguments: object) -> dict[str, Any]:
    done = run("explain", cohort / "bags", "-o", out, "--json", *arguments)
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_a_probe_finds_the_regions_and_each_slide_its_fold(
    run: Run, cohort: Path, probe: Path, tmp_path: Path
) -> None:
    out, folds = tmp_path / "why", probe.with_suffix(".folds")
    asked = ["--model", folds, "--masks", cohort / "masks", "--class", "yes"]
    found = explained(run, cohort, out, *asked, "--slides", cohort / "slides")
    assert (found["new"], len(found["slides"])) == (N_SLIDES, N_SLIDES)
    agreement = found["agreement"]
    assert agreement["auc"]["mean"] > 0.9
    assert agreement["auc"]["shuffled"] < 0.6
    (differences,) = found["differences"].values()
    assert all(each["low"] > 0 for each in differences)
    assert {slide["model"] for slide in found["slides"]} == {f"fold-{k}" for k in range(4)}
    for slide in found["slides"]:
        assert not slide["learned_from"]
        assert slide["completeness_error"] < 1e-5
        assert slide["in_tiles"] == pytest.approx(1, abs=0.03)
    # what a table says of the slide is the sum of what it says of the tiles
    one = found["slides"][1]
    with (out / "s01" / "scores.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    total = sum(float(row["score"]) for row in rows)
    assert total == pytest.approx(one["output"] - one["offset"], abs=1e-5)
    assert 1 / (1 + np.exp(-one["output"])) == pytest.approx(one["answer"]["yes"], abs=1e-5)
    names = {path.name for path in (out / "s01").iterdir()}
    assert names == {"heatmap.png", "tiles.png", "tiles.geojson", "overlay.ome.tiff", "scores.csv",
                     "slide.jpg", "explanation.json"}  # fmt: skip
    assert "tiles.png" not in {path.name for path in (out / "s07").iterdir()}
    assert any("have no file under --slides" in note for note in found["notes"])
    with tifffile.TiffFile(out / "s01" / "overlay.ome.tiff") as file:
        assert np.nansum(file.asarray()) == pytest.approx(16 * total, abs=1e-3)
    # the same again: nothing is done; elsewhere and anew: the same bytes
    again = explained(run, cohort, out, *asked, "--slides", cohort / "slides")
    assert (again["new"], again["reused"]) == (0, N_SLIDES)
    explained(run, cohort, tmp_path / "anew", *asked, "--slides", cohort / "slides")
    for path in sorted((out / "s01").iterdir()):
        assert path.read_bytes() == (tmp_path / "anew" / "s01" / path.name).read_bytes()


def test_what_all_models_learned_from_is_refused_unless_said(
    run: Run, cohort: Path, probe: Path, tmp_path: Path
) -> None:
    arguments = ["explain", cohort / "bags", "--model", probe, "-o", tmp_path / "why"]
    done = run(*arguments)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "the model learned from this slide or its patient" in done.err
    done = run(*arguments, "--include-training", "--slide", "s03")
    assert done.code == 0, done.err
    assert "do not trust these: 's03'" in done.out
    record = json.loads((tmp_path / "why" / "s03" / "explanation.json").read_text())
    assert record["learned_from"]


def test_slides_that_fail_are_listed(run: Run, cohort: Path, probe: Path, tmp_path: Path) -> None:
    with (tmp_path / "bags.csv").open("w") as handle:
        handle.write(f"slide_id,path\ns01,{cohort}/bags/s01.h5\nlost,{tmp_path}/lost.h5\n")
    done = run("explain", tmp_path / "bags.csv", "--model", probe.with_suffix(".folds"),
               "-o", tmp_path / "why")  # fmt: skip
    assert done.code == 1
    assert "1 slides explained" in done.out
    assert "lost" in (tmp_path / "why" / "failures.csv").read_text()


@pytest.mark.parametrize(("model", "meaning"), [("abmil", "attention"), ("mean", "contribution")])
def test_mil_models_on_the_same_slides_and_compared(
    run: Run, cohort: Path, probe: Path, tmp_path: Path, model: str, meaning: str
) -> None:
    table = tmp_path / "mil.parquet"
    done = run("mil", cohort / "bags", "--labels", cohort / "labels.csv", "--target", "tumour",
               "--model", model, "--folds", 2, "--epochs", 12, "--lr", 0.002, "--keep-models",
               "-o", table)  # fmt: skip
    assert done.code == 0, done.err
    masks = ["--masks", cohort / "masks"]
    explained(run, cohort, tmp_path / "probe", "--model", probe.with_suffix(".folds"), *masks)
    found = explained(run, cohort, tmp_path / "why", "--model", table, "--predictions", table,
                      "--class", "true", *masks, "--against", tmp_path / "probe")  # fmt: skip
    assert {slide["meaning"] for slide in found["slides"]} == {meaning}
    assert [slide["explained"] for slide in found["slides"]] == ["no", "yes"] * (N_SLIDES // 2)
    assert len(found["differences"]) == 2
    assert {each["n"] for each in found["differences"][str(tmp_path / "probe")]} == {N_SLIDES}
    if meaning == "attention":
        assert sum(float(row["score"]) for row in scores_of(tmp_path / "why" / "s05")) == (
            pytest.approx(1, abs=1e-5)
        )


def scores_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open() as handle:
        return list(csv.DictReader(handle))


def test_the_slide_cnn_has_heat(run: Run, cohort: Path, tmp_path: Path) -> None:
    table = tmp_path / "mil.parquet"
    done = run("mil", cohort / "bags", "--labels", cohort / "labels.csv", "--target", "tumour",
               "--model", "nic-cnn", "--folds", 2, "--epochs", 2, "--keep-models",
               "-o", table)  # fmt: skip
    assert done.code == 0, done.err
    found = explained(run, cohort, tmp_path / "why", "--model", table, "--slide", "s01")
    (slide,) = found["slides"]
    assert (slide["meaning"], slide["n_unseen"]) == ("grad-cam", 0)
    assert slide["how"].startswith("Grad-CAM of layer 1")
    heat = [float(row["score"]) for row in scores_of(tmp_path / "why" / "s01")]
    assert min(heat) >= 0
    assert max(heat) in {0.0, 1.0}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--class", "maybe"], "unknown class 'maybe'; "),
        (["--class", "true"], "the true classes are not known"),
        (["--slide", "s99"], "unknown slide 's99'; did you mean"),
        (["--masks", "absent"], "no such folder of masks"),
        (["--against", "absent"], "give them with --masks"),
        (["--method", "knn"], "unknown method 'knn'"),
    ],
)
def test_what_cannot_be_explained_is_one_sentence(
    run: Run, cohort: Path, probe: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    done = run("explain", cohort / "bags", "--model", probe.with_suffix(".folds"),
               "-o", tmp_path / "why", *arguments)  # fmt: skip
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert reason in done.err
    assert not (tmp_path / "why").exists()


def test_other_files_are_no_models(run: Run, cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, reason in (("labels.csv", "no models at"), ("bags", "holds no models")):
        done = run("explain", cohort / "bags", "--model", cohort / name, "-o", tmp_path / "why")
        assert (done.code, reason in done.err) == (2, True)


# of the types of TISSUE_TYPES; tumour is all that a probe may go by
WITHOUT = (0.55, 0.0, 0.19, 0.12, 0.14, 0.0)
WITH_TUMOUR = (0.33, 0.40, 0.11, 0.08, 0.08, 0.0)


@pytest.mark.slow
def test_a_probe_finds_the_tumour_of_painted_slides(run: Run, tmp_path: Path) -> None:
    for name in ("slides", "masks"):
        (tmp_path / name).mkdir()
    with (tmp_path / "labels.csv").open("w") as handle:
        handle.write("slide_id,patient_id,tumour\n")
        for number in range(24):
            painted = paint_slide(
                SyntheticSettings(
                    width_px=2016, height_px=1792, seed=100 + number, arrangement="clustered",
                    composition=WITH_TUMOUR if number % 2 else WITHOUT,
                )
            )  # fmt: skip
            name = f"s{number:02d}"
            save_slide(painted, tmp_path / "slides" / f"{name}.svs")
            tumour = painted.types == TISSUE_TYPES.index("tumour")
            mask = np.kron(tumour, np.ones((28, 28))) * 255  # squares of 224 px, 8 times smaller
            Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "masks" / f"{name}.png")
            handle.write(f"{name},p{number},{('no', 'yes')[number % 2]}\n")
    assert run("encode", tmp_path / "slides", "-o", tmp_path / "bags").code == 0
    assert run("embed", tmp_path / "bags", "-o", tmp_path / "v.parquet").code == 0
    done = run("fit", tmp_path / "v.parquet", "--labels", tmp_path / "labels.csv", "--target",
               "tumour", "--folds", 4, "--keep-folds",
               "-o", tmp_path / "p.safetensors")  # fmt: skip
    assert done.code == 0, done.err
    done = run("explain", tmp_path / "bags", "--model", tmp_path / "p.folds", "--class",
               "yes", "--masks", tmp_path / "masks", "--slides", tmp_path / "slides",
               "-o", tmp_path / "why", "--json")  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)
    print(found["agreement"], found["differences"])
    (differences,) = found["differences"].values()
    lows = {each["measure"]: each["low"] for each in differences}
    assert lows["auc"] > 0.05
    assert lows["iou"] > 0
    assert lows["auprc"] > 0
