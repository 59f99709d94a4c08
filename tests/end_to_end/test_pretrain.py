"""``gigassl pretrain`` as a user runs it: on bags and a bank, resumed, refused, collapsed."""

import csv
import json
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gigassl.bags.bag import Bag, save_bag
from gigassl.tiles.weights import load_checkpoint
from gigassl.vectors.slide_model import load_slide_model
from tests.end_to_end.conftest import Run
from tests.vectors.stores import grid_bag

N_SLIDES, DIM = 10, 8
QUICK = (
    "--slide-encoder", "mlp", "--epochs", "4", "--tiles", "3", "--lr", "0.1", "--device", "cpu"
)  # fmt: skip


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bags whose slides differ in the mean of their features, and a table of labels."""
    folder = tmp_path_factory.mktemp("bags")
    generator = np.random.default_rng(0)
    lines = ["slide_id,subtype,number,site"]
    for number in range(N_SLIDES):
        bag = grid_bag(f"s{number:02d}", dim=DIM)
        shift = generator.normal(size=DIM) * 2 + 3 * (number % 2)
        features = (bag.features + shift).astype(np.float16)
        save_bag(
            Bag(features=features, coords=bag.coords, info=bag.info), folder / f"s{number:02d}.h5"
        )
        lines.append(f"s{number:02d},{'ab'[number % 2]},{number},one")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def epochs_of(out: Path) -> list[dict[str, str]]:
    with (out.with_suffix(".log") / "epochs.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_bags_become_a_slide_encoder_with_a_log(run: Run, bags: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "enc.safetensors"
    labels = ("--labels", bags / "labels.csv", "--label-column", "subtype")
    done = run("pretrain", bags, "-o", out, *QUICK, *labels)
    assert done.code == 0, done.err
    assert re.search(r"10 slides of 10 patients, batches of 10: 4 epochs × 1 = 4 steps", done.err)
    assert "do not fill a batch of 256" in done.err
    assert re.search(r"s for each epoch: about 0:00:\d\d to go", done.err)
    assert re.search(r"epoch 4/4, loss [\d.]+, rank [\d.]+, collapse .*, kNN [\d.]+, lr", done.err)
    assert f"{out}: 4 epochs, effective rank" in done.out
    model = load_slide_model(out)
    assert (model.record.architecture, model.record.dim, model.record.width) == ("mlp", DIM, 512)
    assert (model.record.tiles_per_view, model.record.window) == (3, "scatter")
    assert (model.record.tile_encoder, model.record.tile_encoder_digest) == ("some", "d1")
    assert (model.record.mpp, model.record.tile_um, model.record.cell) == (0.5, 112.0, 112.0)
    assert model.record.training["settings"]["lr"] == 0.1
    assert model.record.training["slides"] == 10
    rows = epochs_of(out)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert all(0 <= float(row["knn_accuracy"]) <= 1 for row in rows)
    folder = out.with_suffix(".log")
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((folder / "tensorboard").glob("events.*"))
    assert not (folder / "state.safetensors").exists()  # of use to a training under way only


def test_the_same_again_is_done_already_and_another_is_refused(
    run: Run, bags: Path, tmp_path: Path
) -> None:
    out = tmp_path / "enc.safetensors"
    first = run("--quiet", "pretrain", bags, "-o", out, *QUICK, "--json")
    assert first.code == 0
    found = json.loads(first.out)
    assert found["trained"]["epochs"] == 4
    assert found["failures"] == []
    before = out.read_bytes()
    again = run("pretrain", bags, "-o", out, *QUICK)
    assert again.code == 0
    assert "is trained already" in again.out
    other = run("pretrain", bags, "-o", out, *QUICK, "--seed", 1)
    assert other.code == 2
    assert "--restart" in other.err
    assert out.read_bytes() == before
    anew = run("pretrain", bags, "-o", out, *QUICK, "--seed", 1, "--restart")
    assert anew.code == 0
    assert out.read_bytes() != before
    assert len(epochs_of(out)) == 4


def test_equal_runs_give_equal_files_with_labels_or_without(
    run: Run, bags: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    labels = ("--labels", bags / "labels.csv", "--label-column", "subtype")
    run("pretrain", bags, "-o", one, *QUICK, *labels)
    run("pretrain", bags, "-o", two, *QUICK)
    assert one.read_bytes() == two.read_bytes()


def test_what_was_trained_embeds(run: Run, bags: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "enc.safetensors", tmp_path / "v.parquet"
    run("pretrain", bags, "-o", out, *QUICK)
    done = run("embed", bags, "-o", table, "--slide-encoder", out, "--views", 4)
    assert done.code == 0, done.err
    from gigassl.vectors.table import open_table

    assert open_table(table).embeddings.shape == (N_SLIDES, 512)


def test_the_spatial_slide_encoder_has_a_preset_of_its_own(
    run: Run, bags: Path, tmp_path: Path
) -> None:
    out, table = tmp_path / "spatial.safetensors", tmp_path / "v.parquet"
    done = run("pretrain", bags, "-o", out, "--slide-encoder", "spatial", "--epochs", 2)
    assert done.code == 0, done.err
    card = load_checkpoint(out).card["record"]
    assert (card["window"], card["tiles_per_view"]) == ("dense", 100)
    assert card["training"]["settings"]["objective"] == "neighbours"
    done = run("embed", bags, "-o", table, "--slide-encoder", out)
    assert done.code == 0, done.err


def test_a_bank_becomes_a_slide_encoder(run: Run, slides: Path, tmp_path: Path) -> None:
    bank, out = tmp_path / "bank", tmp_path / "enc.safetensors"
    # two slides of a patient would be too few: three slides are, so they are listed twice
    table = tmp_path / "cohort.csv"
    names = sorted(path.name for path in slides.glob("*.svs"))
    rows = [f"{n[:-4]}-{i},{slides / n},p{i}-{n},{'xy'[i]}" for n in names for i in range(2)]
    table.write_text("\n".join(["slide_id,path,patient_id,group", *rows]))
    encode = ("--tile-encoder", "random:resnet18@layer3", "--tile-px", 64, "--target-mpp", 1.0)
    made = run("encode", table, "-o", bank, *encode, "--augmentations", 3, "--tiles", 8)
    assert made.code == 0, made.err
    done = run(
        "pretrain", bank, "-o", out, "--slide-encoder", "scm", "--epochs", 2, "--device", "cpu",
        "--label-column", "group",
    )  # fmt: skip
    assert done.code == 0, done.err
    record = load_slide_model(out).record
    assert (record.architecture, record.dim, record.width) == ("scm", 256, 512)
    assert record.tile_encoder == "random:resnet18@layer3"
    assert record.tile_um == pytest.approx(64)
    assert "kNN" in done.err
    told = run(
        "pretrain", bank, "-o", tmp_path / "d.safetensors", "--slide-encoder", "mlp", "--epochs", 1,
        "--window", "dense",
    )  # fmt: skip
    assert "--draw window" in told.err


def test_scm_can_begin_as_the_last_stage_of_a_resnet(run: Run, bags: Path, tmp_path: Path) -> None:
    init = ("--slide-encoder", "scm", "--init-from", "random:resnet18", "--epochs", 1)
    refused = run("pretrain", bags, "-o", tmp_path / "a.safetensors", *init)
    assert refused.code == 2
    assert "takes 256 numbers a tile; these have 8" in refused.err
    wide = tmp_path / "wide"
    wide.mkdir()
    for number in range(4):
        save_bag(grid_bag(f"s{number}", dim=256), wide / f"s{number}.h5")
    done = run("pretrain", wide, "-o", tmp_path / "b.safetensors", *init, "--lr", 1e-12)
    assert done.code == 0, done.err
    from gigassl.vectors.layer4 import layer4_of

    trained = load_slide_model(tmp_path / "b.safetensors").network.state_dict()
    begun = layer4_of("random:resnet18")
    name = "blocks.1.conv2.weight"
    assert np.allclose(trained[name].numpy(), begun[name].numpy(), atol=1e-6)
    other = run("pretrain", wide, "-o", tmp_path / "c.safetensors", *init, "--slide-encoder", "mlp")
    assert other.code == 2
    assert "'mlp' has no such stage" in other.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--label-column", "grade"), "column 'grade' of the cohort's table names none of the 10"),
        (("--labels", "LABELS", "--label-column", "grade"), "has no column 'grade'; it has: slide"),
        (("--labels", "LABELS"), "--label-column NAME"),
        (("--labels", "LABELS", "--label-column", "number"), "10 different values for 10 slides"),
        (("--labels", "LABELS", "--label-column", "site"), "1 different values for 10 slides"),
        (("--labels", "absent.csv", "--label-column", "site"), "no such table of labels"),
        (("--slide-encoder", "mean"), "MeanOfTiles has no weights to learn"),
        (("--slide-encoder", "scmm"), "did you mean 'scm'"),
        (("--batch-size", "1"), "a batch needs at least 2 slides; got 1"),
        (("--epochs", "0"), "at least 1 epoch"),
        (("--lr", "-1"), "learning rate must be positive"),
        (("--tiles", "0"), "at least 1 tile"),
    ],
)
def test_mistakes_are_one_sentence(
    run: Run, bags: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    given = [str(bags / "labels.csv") if option == "LABELS" else option for option in options]
    out = tmp_path / "enc.safetensors"
    done = run("pretrain", bags, "-o", out, *QUICK, *given)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not out.exists()


def test_slides_and_odd_names_are_refused(run: Run, slides: Path, tmp_path: Path) -> None:
    done = run("pretrain", slides, "-o", tmp_path / "enc.safetensors")
    assert done.code == 2
    assert "encode them first" in done.err
    done = run("pretrain", slides, "-o", tmp_path / "enc.pth")
    assert done.code == 2
    assert ".safetensors" in done.err


def test_a_damaged_bag_is_listed_and_left_out(run: Run, bags: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bags"
    folder.mkdir()
    for path in bags.glob("*.h5"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "s03.h5").write_bytes(b"no bag")
    out = tmp_path / "enc.safetensors"
    done = run("pretrain", folder, "-o", out, *QUICK)
    assert done.code == 1
    assert "1 slides failed" in done.out
    assert "s03" in (out.with_suffix(".log") / "failures.csv").read_text()
    assert load_slide_model(out).record.training["slides"] == 9


def test_a_collapse_is_an_alarm_and_leaves_no_slide_encoder(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "bags"
    folder.mkdir()
    for number in range(N_SLIDES):
        bag = grid_bag(f"s{number}", dim=DIM)
        same = np.ones_like(bag.features)  # slides that cannot be told apart
        save_bag(Bag(features=same, coords=bag.coords, info=bag.info), folder / f"s{number}.h5")
    out = tmp_path / "enc.safetensors"
    done = run("pretrain", folder, "-o", out, *QUICK, "--epochs", 40)
    assert done.code == 1
    assert "the vectors have collapsed" in done.err
    assert "--lr" in done.err
    assert not out.exists()
    assert (tmp_path / "enc.collapsed.safetensors").exists()
    assert len(epochs_of(out)) == 20  # not 40


def command(bags: Path, out: Path, *options: object) -> list[str]:
    code = "from gigassl.cli.main import run; run()"
    given = ["pretrain", bags, "-o", out, *QUICK, *options]
    return [sys.executable, "-c", code, *map(str, given)]


LONG = ("--epochs", 150, "--checkpoint-every", 1)


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bytes(bags: Path, tmp_path: Path) -> None:
    out, undisturbed = tmp_path / "enc.safetensors", tmp_path / "undisturbed.safetensors"
    state = out.with_suffix(".log") / "state.safetensors"
    n_epochs = 0
    for _ in range(3):
        process = subprocess.Popen(command(bags, out, *LONG), stderr=subprocess.DEVNULL)
        seen = state.stat().st_mtime_ns if state.exists() else 0
        while not state.exists() or state.stat().st_mtime_ns == seen:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(epochs_of(out)) > n_epochs
        n_epochs = len(epochs_of(out))
        assert not out.exists()
    last = subprocess.run(command(bags, out, *LONG), capture_output=True, text=True, check=True)
    assert re.search(r"going on after epoch \d+ of 150", last.stderr)
    subprocess.run(command(bags, undisturbed, *LONG), capture_output=True, check=True)
    assert out.read_bytes() == undisturbed.read_bytes()
    assert [int(row["epoch"]) for row in epochs_of(out)] == list(range(1, 151))


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(bags: Path, tmp_path: Path) -> None:
    out = tmp_path / "enc.safetensors"
    process = subprocess.Popen(
        command(bags, out, "--epochs", 3000), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not (out.with_suffix(".log") / "state.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, wrong = process.communicate()
    assert process.returncode == 130, wrong
    assert b"run the same command again to go on" in said
    assert b"Traceback" not in wrong


def _no_more_than(n_bytes: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


@pytest.mark.slow
@pytest.mark.parametrize("n_bytes", [200, 100_000])
def test_a_full_disk_is_one_sentence(bags: Path, tmp_path: Path, n_bytes: int) -> None:
    out = tmp_path / "enc.safetensors"
    done = subprocess.run(
        command(bags, out), capture_output=True, text=True, check=False,
        preexec_fn=lambda: _no_more_than(n_bytes),
    )  # fmt: skip
    assert done.returncode == 2
    assert re.search(r"gigassl: cannot write .*: the file would exceed", done.stderr)
    assert "Traceback" not in done.stderr
    assert not out.exists()


@pytest.mark.slow
def test_two_machines_train_as_two_devices_of_one_do(
    bags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # torchrun's default; others round apart
    program = tmp_path / "program.py"
    program.write_text("from gigassl.cli.main import run\nrun()\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def started(rank: int) -> "subprocess.Popen[str]":
        given = ["pretrain", bags, "-o", tmp_path / "nodes.safetensors", *QUICK, "--nodes", 2]
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1",
             f"--node-rank={rank}", "--master-addr=127.0.0.1", f"--master-port={port}",
             str(program), *map(str, given)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    machines = [started(rank) for rank in (0, 1)]
    said = [machine.communicate(timeout=200)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    one = tmp_path / "devices.safetensors"
    given = ["pretrain", bags, "-o", one, *QUICK, "--devices", 2]
    subprocess.run([sys.executable, program, *map(str, given)], check=True, capture_output=True)
    assert load_slide_model(tmp_path / "nodes.safetensors").digest == load_slide_model(one).digest


@pytest.mark.slow
def test_two_devices_share_each_batch(bags: Path, tmp_path: Path) -> None:
    out = tmp_path / "enc.safetensors"
    # a program of its own: each further device runs the same command again
    program = tmp_path / "program.py"
    program.write_text("from gigassl.cli.main import run\nrun()\n")
    given = ["pretrain", bags, "-o", out, *QUICK, "--devices", 2]
    done = subprocess.run(
        [sys.executable, program, *map(str, given)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "on 2 × cpu" in done.stderr
    assert len(epochs_of(out)) == 4
    assert load_slide_model(out).record.training["epochs"] == 4
