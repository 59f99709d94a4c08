"""``gigassl pretrain-tiles`` as a user runs it: slides, images, resumed, refused, and used."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gigassl.bags.bank import open_bank
from gigassl.evaluate.contamination import seen_slides, slides_record
from gigassl.slides.synthetic import make_cohort
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.weights import load_checkpoint
from gigassl.vectors.layer4 import layer4_of
from gigassl.vectors.slide_model import load_slide_model
from gigassl.vectors.table import open_table
from tests.end_to_end.conftest import Run

NAMES = ["alpha", "beta", "gamma"]
TILES = ("--tile-px", 32, "--target-mpp", 1.0)
QUICK = ("--arch", "timm:test_resnet", *TILES, "--batch-size", 16, "--device", "cpu")
SHORT = (*QUICK, "--steps", 4)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled images of two classes and four patients, which differ in colour."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(16):
        kind = "ab"[number % 2]
        (folder / kind).mkdir(exist_ok=True)
        pixels = np.add(rng.integers(0, 120, (40, 48, 3)), [100, 20, 100 * (number % 2)])
        name = f"p{number % 4}_{number}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / name)
    return folder


def rounds_of(out: Path) -> list[dict[str, str]]:
    with (out.with_suffix(".log") / "rounds.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_slides_become_a_tile_encoder_that_embeds(run: Run, slides: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "made" / "mine.safetensors", tmp_path / "v.parquet"
    done = run("pretrain-tiles", slides, "-o", out, *SHORT)
    assert done.code == 0, done.err
    assert re.search(r"moco: \d+ tiles of 3 files of 3 patients, batches of 16: 4 steps", done.err)
    assert re.search(r"round \d+/\d+, loss [\d.]+, rank [\d.]+, collapse", done.err)
    assert f"{out}: 4 steps" in done.out
    record = load_encoder(str(out), batch_size=1).record
    assert (record.name, record.architecture, record.dim) == ("mine", "test_resnet", 96)
    assert (record.input_px, record.mpp, record.mpp_basis) == (32, 1.0, "stated")
    assert record.mean == (0.5, 0.5, 0.5)
    assert record.licence == "own"
    assert record.pretrained_on == slides_record(NAMES, NAMES)
    training = load_checkpoint(out).card["training"]
    assert (training["method"], training["step"], training["tiles_seen"]) == ("moco", 4, 64)
    assert training["source"]["kind"] == "slides"
    folder = out.with_suffix(".log")
    assert [row["step"] for row in rounds_of(out)][-1] == "4"
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((folder / "tensorboard").glob("events.*"))
    assert json.loads((folder / "run.json").read_text())["sessions"][0]["ended_at_step"] == 4
    assert not (folder / "state.safetensors").exists()  # of use to a training under way only
    assert load_encoder(str(folder / "best.safetensors"), batch_size=1).dim == 96

    shown = run("inspect", out)
    assert "method: moco" in shown.out
    assert "count: 3" in shown.out
    assert "alpha" not in shown.out
    done = run("embed", slides, "-o", table, "--tile-encoder", out)
    assert done.code == 0, done.err
    vectors = open_table(table)
    assert vectors.embeddings.shape == (3, 96)
    assert seen_slides(vectors.provenance) == set(NAMES)
    grid = vectors.provenance["settings"]["tiles"]["grid"]
    assert (grid["tile_px"], grid["target_mpp"]) == (32, 1.0)


def test_the_same_again_is_done_already_and_another_is_refused(
    run: Run, slides: Path, tmp_path: Path
) -> None:
    out, twin = tmp_path / "enc.safetensors", tmp_path / "elsewhere" / "enc.safetensors"
    first = run("--quiet", "pretrain-tiles", slides, "-o", out, *SHORT, "--json")
    assert first.code == 0
    assert json.loads(first.out)["trained"]["steps"] == 4
    before = out.read_bytes()
    again = run("pretrain-tiles", slides, "-o", out, *SHORT)
    assert again.code == 0
    assert "is trained already" in again.out
    other = run("pretrain-tiles", slides, "-o", out, *SHORT, "--seed", 1)
    assert other.code == 2
    assert "--restart" in other.err
    assert out.read_bytes() == before
    run("pretrain-tiles", slides, "-o", twin, *SHORT)
    assert twin.read_bytes() == before
    anew = run("pretrain-tiles", slides, "-o", out, *SHORT, "--seed", 1, "--restart")
    assert anew.code == 0
    assert out.read_bytes() != before


def test_a_folder_of_images_and_an_exam(run: Run, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "enc.safetensors"
    (tmp_path / "images").mkdir()
    for number, path in enumerate(sorted(images.rglob("*.png"))):
        shutil.copy(path, tmp_path / "images" / f"i{number}.png")
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    exam = ("--labelled", images, "--group-pattern", r"p\d", "--keep", "best")
    done = run("pretrain-tiles", tmp_path / "images", "-o", out, *SHORT, *exam)
    assert done.code == 1
    assert "holds no slides but images" in done.err
    assert "kNN" in done.err
    assert "1 files failed" in done.out
    assert "broken.png" in (out.with_suffix(".log") / "failures.csv").read_text()
    assert all(0 <= float(row["knn_accuracy"]) <= 1 for row in rounds_of(out))
    card = load_checkpoint(out).card
    assert card["training"]["kept"] == "best"
    assert card["record"]["pretrained_on"]["count"] == 16
    assert (out.with_suffix(".log") / "last.safetensors").is_file()


def test_a_transformer_learns_from_small_views_too(run: Run, slides: Path, tmp_path: Path) -> None:
    out = tmp_path / "vit.safetensors"
    options = (
        "--method", "dinov2", "--arch", "test_vit", "--small-views", 1, "--tile-px", 64,
        "--target-mpp", 1.0, "--batch-size", 4, "--steps", 1, "--device", "cpu",
        "--method-option", "prototypes=64", "--method-option", "hidden=64",
    )  # fmt: skip
    done = run("pretrain-tiles", slides, "-o", out, *options)
    assert done.code == 0, done.err
    record = load_encoder(str(out), batch_size=1).record
    assert (record.architecture, record.dim, record.input_px) == ("test_vit", 64, 64)
    views = load_checkpoint(out).card["training"]["settings"]["views"]
    assert (views["side_px"], views["n_small"], views["small_px"]) == (64, 1, 32)


def test_tiles_to_probe(run: Run, tmp_path: Path) -> None:
    """A tile encoder trained here goes through bank, slide encoder, vectors and probe."""
    cohort = make_cohort(tmp_path / "slides", n_slides=8, side_px=512)
    encoder, bank, slide_encoder, vectors = (
        tmp_path / name for name in ("mine.safetensors", "bank", "scm.safetensors", "v.parquet")
    )
    tiles = ("--arch", "resnet18", *TILES, "--batch-size", 8, "--steps", 2, "--device", "cpu")
    cut = f"{encoder}@layer3"
    for arguments in (
        ("pretrain-tiles", cohort, "-o", encoder, *tiles),
        ("encode", cohort, "-o", bank, "--tile-encoder", cut, "--augmentations", 2, "--tiles", 8),
        (
            "pretrain", bank, "-o", slide_encoder, "--slide-encoder", "scm", "--epochs", 1,
            "--init-from", encoder, "--device", "cpu", "--lr", 1e-12,
        ),
        (
            "embed", cohort, "-o", vectors, "--slide-encoder", slide_encoder, "--tile-encoder", cut,
            "--views", 2, "--allow-collapsed",
        ),
    ):  # fmt: skip
        done = run(*arguments)
        assert done.code == 0, done.err
    unsaid = run("embed", cohort, "-o", vectors, "--slide-encoder", slide_encoder)
    assert unsaid.code == 2
    assert "'mine@layer3', whose weights have no name here" in unsaid.err
    begun = layer4_of(cut)["blocks.1.conv2.weight"]
    assert torch.allclose(
        load_slide_model(slide_encoder).network.state_dict()["blocks.1.conv2.weight"], begun
    )
    assert open_bank(bank).info.encoder_dim == 256
    assert open_bank(bank).info.encoder == "mine@layer3"
    table = open_table(vectors)
    assert table.embeddings.shape == (8, 512)
    assert seen_slides(table.provenance) == set(table.slide_ids)
    task = ("--labels", cohort, "--target", "composition", "--folds", 2, "--strength", 1)
    done = run("probe", vectors, "-o", tmp_path / "probed", *task)
    assert done.code == 0, done.err
    assert (
        "8 of 8 test slides were seen, without labels, by the tile encoder" in done.out + done.err
    )


def test_a_preview_trains_nothing(run: Run, slides: Path, tmp_path: Path) -> None:
    out, sheet = tmp_path / "enc.safetensors", tmp_path / "sheet.png"
    done = run("pretrain-tiles", slides, "-o", out, *SHORT, "--preview", sheet, "--neighbours")
    assert done.code == 0, done.err
    assert "nothing was trained" in done.out
    assert not out.exists()
    with Image.open(sheet) as picture:
        assert picture.size[0] > 4 * 32  # tile, partner and two views
    named = run("pretrain-tiles", slides, "-o", out, *SHORT, "--preview", tmp_path / "sheet.jpg")
    assert (named.code, ".png files" in named.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--method", "mocco"), "did you mean 'moco'"),
        (("--arch", "timm:resnet81"), "did you mean 'resnet18'"),
        (("--arch", "resnet18@layer3"), "whole networks are trained"),
        (("--method", "dinov2"), "transformer"),
        (("--init-from", "random:resnet18"), "not of test_resnet"),
        (("--method-option", "temperature"), "NAME=NUMBER"),
        (("--method-option", "heat=1"), "heat"),
        (("--small-views", 2), "moco has no use for small views"),
        (("--batch-size", 5000), "a batch needs 5000"),
        (("--batch-size", 1), "at least 2 tiles"),
        (("--lr", -1), "learning rate must be positive"),
        (("--steps", 0), "at least 1"),
        (("--images",), "no images found"),
        (("--labelled", "nowhere"), "no such folder or table of images"),
        (("--masks", "nowhere"), "no such folder of tissue masks"),
    ],
)
def test_mistakes_are_one_sentence(
    run: Run, slides: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "enc.safetensors"
    done = run("pretrain-tiles", slides, "-o", out, *SHORT, *options)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not out.exists()


def test_odd_sources_and_names_are_refused(
    run: Run, slides: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bags").mkdir()
    (tmp_path / "bags" / "a.h5").write_bytes(b"")
    one = tmp_path / "one"
    shutil.copytree(images / "a", one / "a")
    out = tmp_path / "enc.safetensors"
    for source, options, said in (
        (tmp_path / "empty", (), "neither slides"),
        (tmp_path / "bags", (), "neither slides"),
        (tmp_path / "bags" / "a.h5", (), "holds bags"),
        (images, ("--second-mpp", 2.0), "leave out --second-mpp"),
        (images, ("--labelled", one), "two classes"),
        (images, ("--batch-size", 64), "a batch needs 64"),
    ):
        done = run("pretrain-tiles", source, "-o", out, *SHORT, *options)
        assert done.code == 2
        assert said in done.err
    named = run("pretrain-tiles", slides, "-o", tmp_path / "enc.pth", *SHORT)
    assert (named.code, ".safetensors files" in named.err) == (2, True)


def test_a_damaged_slide_is_listed_and_left_out(run: Run, slides: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "slides", tmp_path / "enc.safetensors"
    shutil.copytree(slides, folder)
    (folder / "beta.svs").write_bytes(b"no slide")
    for _ in range(2):  # also where it was trained before
        done = run("pretrain-tiles", folder, "-o", out, *SHORT)
        assert done.code == 1, done.err
        assert "1 files failed" in done.out
        assert "beta" in (out.with_suffix(".log") / "failures.csv").read_text()
    assert load_checkpoint(out).card["record"]["pretrained_on"]["slides"] == ["alpha", "gamma"]


def test_a_slide_that_breaks_in_the_middle_is_skipped_and_named(
    run: Run, slides: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "slides", tmp_path / "enc.safetensors"
    shutil.copytree(slides, folder)
    run("pretrain-tiles", folder, "-o", out, *SHORT, "--preview", tmp_path / "sheet.png")
    broken = folder / "gamma.svs"  # after its tiles were laid
    broken.write_bytes(bytes(broken.stat().st_size))
    done = run("pretrain-tiles", folder, "-o", out, *SHORT)
    assert done.code == 1, done.err
    assert "skipped from here on" in done.err
    listed = (out.with_suffix(".log") / "failures.csv").read_text()
    assert re.search(r"gamma,.*gamma\.svs,read,", listed)
    assert load_encoder(str(out), batch_size=1).dim == 96


def test_a_collapse_is_an_alarm_and_leaves_no_tile_encoder(run: Run, tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "enc.safetensors"
    folder.mkdir()
    for number in range(16):  # tiles that cannot be told apart
        Image.new("RGB", (32, 32), "white").save(folder / f"{number}.png")
    done = run("pretrain-tiles", folder, "-o", out, *SHORT, "--stain", 0)
    assert done.code == 1
    assert "the vectors have collapsed" in done.err
    assert "saved as enc.collapsed.safetensors" in done.err
    assert not out.exists()
    assert (tmp_path / "enc.collapsed.safetensors").is_file()


def test_a_loss_that_is_no_number_stops_the_training(
    run: Run, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "enc.safetensors"
    options = (*QUICK, "--steps", 30, "--checkpoint-minutes", 0, "--lr", 1e20, "--warmup", 0.5)
    done = run("pretrain-tiles", images, "-o", out, *options)
    assert done.code == 1
    assert re.search(r"no number any more at step \d+ of 30", done.err)
    assert re.search(r"the state of step \d+ is kept in .*state\.safetensors", done.err)
    assert "no tile encoder was written" in done.out
    assert not out.exists()
    other = run("pretrain-tiles", images, "-o", out, *SHORT)  # from that state, another training
    assert (other.code, "--restart" in other.err) == (2, True)


def command(source: Path, out: Path, *options: object) -> list[str]:
    code = "from gigassl.cli.main import run; run()"
    return [sys.executable, "-c", code, *map(str, ["pretrain-tiles", source, "-o", out, *options])]


LONG = (*QUICK, "--steps", 60, "--checkpoint-minutes", 0)


@pytest.fixture(scope="module")
def undisturbed(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nothing stopped, by two worker processes."""
    out = tmp_path_factory.mktemp("undisturbed") / "enc.safetensors"
    subprocess.run(command(slides, out, *LONG, "--workers", 2), capture_output=True, check=True)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_at_any_moment_it_ends_with_the_same_bytes(
    slides: Path, tmp_path: Path, undisturbed: Path, number: signal.Signals
) -> None:
    out = tmp_path / "enc.safetensors"
    state = out.with_suffix(".log") / "state.safetensors"
    process = subprocess.Popen(
        command(slides, out, *LONG), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not state.exists():
        assert process.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(number)
    said, wrong = process.communicate()
    assert not out.exists()
    if number != signal.SIGKILL:
        assert process.returncode == 130, wrong
        assert f"stopped by {number.name}" in said
        assert "run the same command again to go on" in said
        assert "Traceback" not in wrong
    last = subprocess.run(command(slides, out, *LONG), capture_output=True, text=True, check=True)
    assert re.search(r"going on after step \d+ of 60", last.stderr)
    best = Path("enc.log", "best.safetensors")
    for made in (Path("enc.safetensors"), best):
        assert (tmp_path / made).read_bytes() == (undisturbed.parent / made).read_bytes()
    assert rounds_of(out)[-1]["step"] == "60"


@pytest.mark.slow
def test_two_devices_share_each_batch(slides: Path, tmp_path: Path) -> None:
    out = tmp_path / "enc.safetensors"
    # a program of its own: each further device runs the same command again
    program = tmp_path / "program.py"
    program.write_text("from gigassl.cli.main import run\nrun()\n")
    given = ["pretrain-tiles", slides, "-o", out, *SHORT, "--devices", 2]
    done = subprocess.run(
        [sys.executable, program, *map(str, given)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "on 2 × cpu" in done.stderr
    assert done.stdout.count("4 steps") == 1
    assert rounds_of(out)[-1]["step"] == "4"
    assert load_encoder(str(out), batch_size=1).dim == 96
    odd = ("--batch-size", 15)
    refused = subprocess.run(
        [sys.executable, program, *map(str, [*given, *odd])], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "cannot be shared by 2 devices" in refused.stderr
