"""``gigassl probe-tiles`` as a user runs it: table, figure, resume, further encoders, bad input."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gigassl.evaluate.predictions import open_predictions
from gigassl.pipeline.probe_tiles import probe_tiles
from gigassl.pipeline.probe_tiles_options import ProbeTilesOptions
from gigassl.tiles.encoders import create_network, encoder_record
from gigassl.tiles.image_files import read_rgb
from gigassl.tiles.networks import fill_randomly
from tests.end_to_end.conftest import Run
from tests.shared_data import SHARED, needs_shared
from tests.tiles.tissue_images import write_class_folders

NET, OTHER = "random:mobilenetv3_small_050", "random:mobilenetv3_small_050?seed=1"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe") / "patches"
    write_class_folders(folder, patients=6, per_patient=3)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the small network; other weights than its random twin's."""
    network = create_network(encoder_record(NET))
    fill_randomly(network, seed=7)
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save(network.state_dict(), path)
    return path


def test_encoders_controls_and_files(images: Path, trained: Path, tmp_path: Path, run: Run) -> None:
    out, mine = tmp_path / "probed", f"{trained}::mobilenetv3_small_050"
    asked = ("probe-tiles", images, "--group-pattern", r"p\d", "--folds", 3, "-o", out)
    done = run(*asked, "--encoder", mine, "--encoder", OTHER)
    assert done.code == 0, done.err
    for words in ("patches: 36 images of 6 groups, 2 classes, 3 test sets", "Δ random", "(control)",
                  "each image is one tile", "cpu, ", "stroma 18, tumour 18"):  # fmt: skip
        assert words in done.out, words
    with (out / "encoders.csv").open() as handle:
        rows = {row["name"]: row for row in csv.DictReader(handle)}
    assert list(rows) == [mine, OTHER, NET, "colour (mean + std of RGB)"]
    first, twin = rows[mine], rows[NET]
    assert twin["control"] == "random-weights"
    assert float(first["minus_random_difference"]) == pytest.approx(
        float(first["auc"]) - float(twin["auc"])
    )
    assert float(rows[OTHER]["minus_first_difference"]) == pytest.approx(
        float(rows[OTHER]["auc"]) - float(first["auc"])
    )
    assert float(first["tiles_per_s"]) > 0
    assert int(first["weight_bytes"]) == trained_bytes(trained)
    assert rows["colour (mean + std of RGB)"]["tiles_per_s"] == ""
    found = open_predictions(out / "predictions.parquet")
    assert len(found) == 36 * 4 * 2  # each image once, by two probes of four
    for name in ("encoders.md", "encoders.tex", "encoders.txt", "encoders.json"):
        assert "mobilenetv3" in (out / name).read_text()
    assert read_rgb(out / "accuracy_speed.png").shape[0] > 400
    assert (out / "accuracy_speed.svg").read_text().count("mobilenetv3_small_050") >= 3
    # groups are whole in every fold
    data = found.data.to_pandas()
    assert (data.groupby("patient_id")["fold"].nunique() == 1).all()
    # another tool's door: the predictions compare as they are
    compared = run("compare", out / "predictions.parquet")
    assert compared.code == 0
    assert "colour (mean + std of RGB) · knn" in compared.out


def trained_bytes(path: Path) -> int:
    return sum(t.nbytes for t in torch.load(path, weights_only=True).values())


def test_a_repeat_encodes_nothing_and_gives_the_same_bytes(
    images: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "probed"
    asked = ("probe-tiles", images, "--group-pattern", r"p\d", "--folds", 3, "-o", out, "--json")
    first = json.loads(run(*asked, "--encoder", NET).out)
    assert first["encoded"] == [NET]
    kept = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    again = json.loads(run(*asked, "--encoder", NET).out)
    assert (again["encoded"], again["reused"]) == ([], [NET])
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()} == kept
    more = json.loads(run(*asked, "--encoder", NET, "--encoder", OTHER).out)
    assert (more["encoded"], more["reused"]) == ([OTHER], [NET])
    # damaged features are made again
    file = sorted((out / "features").iterdir())[0]
    file.write_bytes(file.read_bytes()[:100])
    mended = json.loads(run(*asked, "--encoder", NET, "--encoder", OTHER).out)
    assert len(mended["encoded"]) == 1


def test_workers_and_batches_do_not_change_what_is_predicted(images: Path, tmp_path: Path) -> None:
    options = {"a": (1, 16), "b": (3, 16)}
    found = {}
    for name, (workers, batch) in options.items():
        result = probe_tiles(
            images, tmp_path / name, encoders=[NET],
            options=ProbeTilesOptions(
                group_pattern=r"p\d", workers=workers, batch_size=batch, controls=False
            ),
        )  # fmt: skip
        found[name] = (result.out / "predictions.parquet").read_bytes()
    assert found["a"] == found["b"]


def test_large_images_are_cut_at_the_encoders_resolution(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "large", patients=5, per_patient=1, side_px=300)
    # 224 px at 0.5 µm/px are 112 px of these: two by two tiles an image
    result = probe_tiles(
        tmp_path / "large", tmp_path / "out", encoders=[NET],
        options=ProbeTilesOptions(group_pattern=r"p\d", image_mpp=1.0),
    )  # fmt: skip
    encoder, colour = result.judged
    assert encoder.found is not None
    assert encoder.found.n_tiles == 10 * 4
    # the colour of an image is of all its pixels
    image = read_rgb(tmp_path / "large" / colour.vectors.slide_ids[0]) / 255
    np.testing.assert_allclose(
        colour.vectors.vectors[0],
        np.concatenate([image.mean(axis=(0, 1)), image.std(axis=(0, 1))]), atol=1e-9,
    )  # fmt: skip


def test_images_that_cannot_be_read_are_named_and_counted(
    images: Path, tmp_path: Path, run: Run
) -> None:
    folder = tmp_path / "patches"
    shutil.copytree(images, folder)
    cut = (folder / "tumour" / "p1_1.png").read_bytes()
    (folder / "tumour" / "p1_1.png").write_bytes(cut[: len(cut) // 2])
    (folder / "stroma" / "p2_0.png").write_text("no image")
    out = tmp_path / "probed"
    asked = ("probe-tiles", folder, "--group-pattern", r"p\d", "--encoder", NET, "-o", out)
    done = run(*asked, "--no-controls")
    assert done.code == 1
    assert "2 images were left out: 'stroma/p2_0.png', 'tumour/p1_1.png'" in done.out
    assert "34 images of 6 groups" in done.out
    with (out / "predictions.failures.csv").open() as handle:
        assert [row["slide_id"] for row in csv.DictReader(handle)] == [
            "stroma/p2_0.png", "tumour/p1_1.png",
        ]  # fmt: skip
    # too small for a tile of an encoder: the same road
    small = run(*asked, "--image-mpp", 0.5)
    assert small.code == 2
    assert "less than one tile of 224 px at 0.5 µm/px" in small.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--encoder", "unii"), "did you mean 'uni'?"),
        (("--encoder", NET, "--encoder", NET), "is named twice"),
        (("--encoder", NET, "--folds", 9), "9 folds need at least 9 patients"),
        (("--encoder", NET, "--image-mpp", -1), "must be above zero"),
        (("--encoder", NET, "--label-column", "x"), "columns belong to a table"),
        (("--encoder", NET, "--device", "tpu"), "unknown device 'tpu'"),
    ],
)
def test_mistakes_are_one_sentence(
    images: Path, tmp_path: Path, run: Run, arguments: tuple[object, ...], said: str
) -> None:
    done = run("probe-tiles", images, "--group-pattern", r"p\d", "-o", tmp_path / "o", *arguments)
    assert done.code == 2
    assert done.err.startswith("gigassl: ") or "\ngigassl: " in done.err
    assert said in done.err


def test_a_folder_that_cannot_be_written_to(images: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_text("")
    done = run("probe-tiles", images, "--encoder", NET, "-o", tmp_path / "file" / "probed")
    assert done.code == 2
    assert "cannot write to" in done.err


@pytest.mark.slow
@needs_shared
def test_glas_ranks_a_pretrained_encoder_above_random_weights_and_colour(tmp_path: Path) -> None:
    result = probe_tiles(
        SHARED / "data" / "glas", tmp_path, encoders=["efficientnet-lite0"],
        options=ProbeTilesOptions(label_column="grade (GlaS)", image_mpp=0.62),
    )  # fmt: skip
    pretrained, random, colour = result.rows
    assert pretrained.auc.mean > 0.95  # docs/quality.md: mean of tiles .991 at 128 px
    assert 0.5 < random.auc.mean < 0.9
    assert colour.auc.mean < 0.8
    assert pretrained.knn.mean > random.knn.mean
    assert pretrained.over_random is not None
    assert pretrained.over_random.low > 0
