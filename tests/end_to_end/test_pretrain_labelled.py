"""``pretrain-tiles --method multitask`` and ``supervised`` as a user runs them."""

import csv
import json
from pathlib import Path

import pytest

from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.weights import load_checkpoint
from tests.end_to_end.conftest import Run
from tests.tiles.labelled_folders import class_folders

NETWORK = ("--arch", "nic:bigan?filters=8,convolutions=2,code=6,pool=1")
QUICK = (*NETWORK, "--tile-px", 16, "--batch-size", 16, "--device", "cpu", "--steps", 8)
GROUPS = ("--group-pattern", r"g\d")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("tasks")
    return [
        class_folders(folder / "lymph", {"normal": 12, "tumour": 8}, side=16, seed=1),
        class_folders(folder / "tissue", {"fat": 8, "mucus": 8, "muscle": 8}, side=16, seed=2),
    ]


def test_several_labelled_folders_become_one_encoder(
    run: Run, tasks: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "mtl.safetensors"
    done = run("pretrain-tiles", *tasks, "-o", out, "--method", "multitask", *QUICK, *GROUPS)
    assert done.code == 0, done.err
    assert "held-out accuracy lymph" in done.err
    assert "3 patients, 1 more held out" in done.err
    record = load_encoder(str(out), batch_size=1).record
    assert (record.architecture, record.dim, record.input_px) == ("nic:bigan", 6, 16)
    assert record.pretrained_on["labelled"] is True
    training = load_checkpoint(out).card["training"]
    assert training["kept"] == "best"
    assert set(training["held_out"]) == {"wrong", "loss", "accuracy lymph", "accuracy tissue"}
    assert training["source"]["tasks"] == {
        "lymph": ["normal", "tumour"], "tissue": ["fat", "mucus", "muscle"],
    }  # fmt: skip
    with (tmp_path / "mtl.log" / "rounds.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert 0.0 <= float(rows[-1]["held-out accuracy tissue"]) <= 1.0
    assert rows[-1]["validation"] != ""
    again = run(
        "pretrain-tiles", *tasks, "-o", out, "--method", "multitask", *QUICK, *GROUPS, "--json"
    )
    assert json.loads(again.out)["trained"] is None


def test_equal_runs_give_equal_files(run: Run, tasks: list[Path], tmp_path: Path) -> None:
    for name in "ab":
        out = tmp_path / name / "mtl.safetensors"
        done = run("pretrain-tiles", *tasks, "-o", out, "--method", "multitask", *QUICK, *GROUPS,
                   "--json")  # fmt: skip
        assert done.code == 0, done.err
        assert set(json.loads(done.out)["trained"]["measured"]) >= {"wrong", "accuracy lymph"}
    first, second = [(tmp_path / name / "mtl.safetensors").read_bytes() for name in "ab"]
    assert first == second


def test_one_labelled_folder_is_supervised(run: Run, tasks: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "sup.safetensors"
    network = ("--arch", "nic:vae?first=4,convolutions=2,code=6,dense=8")
    done = run("pretrain-tiles", tasks[0], "-o", out, "--method", "supervised", *QUICK, *network,
               *GROUPS, "--batch-size", 12)  # fmt: skip
    assert done.code == 0, done.err
    assert load_encoder(str(out), batch_size=1).record.architecture == "nic:vae"


def test_a_preview_shows_labelled_tiles(run: Run, tasks: list[Path], tmp_path: Path) -> None:
    picture = tmp_path / "tiles.png"
    done = run("pretrain-tiles", *tasks, "-o", tmp_path / "x.safetensors", "--method", "multitask",
               *QUICK, *GROUPS, "--preview", picture)  # fmt: skip
    assert done.code == 0, done.err
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("method", "n_sources", "more", "said"),
    [
        ("supervised", 2, (), "method 'supervised' learns one task"),
        ("vae", 2, (), "one folder or CSV is expected, got 2"),
        ("multitask", 2, ("--validation", "0"), "the schedule 'plateau' follows"),
        ("multitask", 2, ("--batch-size", "3"), "no room for two of each of 2 tasks"),
        ("multitask", 2, ("--label-column", "x"), "columns belong to a table"),
    ],
)
def test_what_does_not_fit_is_a_sentence(
    run: Run, tasks: list[Path], tmp_path: Path, method: str, n_sources: int,
    more: tuple[str, ...], said: str,
) -> None:  # fmt: skip
    done = run("pretrain-tiles", *tasks[:n_sources], "-o", tmp_path / "x.safetensors",
               "--method", method, *QUICK, *GROUPS, *more)  # fmt: skip
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "x.safetensors").exists()


def test_a_class_of_one_group_and_a_folder_without_labels_are_sentences(
    run: Run, tasks: list[Path], tmp_path: Path
) -> None:
    alone = class_folders(tmp_path / "alone", {"a": 6, "b": 1}, side=16)
    done = run("pretrain-tiles", tasks[0], alone, "-o", tmp_path / "x.safetensors", "--method",
               "multitask", *QUICK, *GROUPS)  # fmt: skip
    assert done.code == 2
    assert "class 'b' of 'alone' is in the images of one group only" in done.err
    done = run("pretrain-tiles", alone / "a", "-o", tmp_path / "x.safetensors", "--method",
               "multitask", *QUICK)  # fmt: skip
    assert done.code == 2
    assert "neither class folders" in done.err
