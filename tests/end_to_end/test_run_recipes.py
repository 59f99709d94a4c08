"""Our recipes through the command line: found by name, planned, and run small."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gigassl.bags.bag import Bag, save_bag
from gigassl.evaluate.predictions import open_predictions
from gigassl.pipeline.recipe_file import our_recipes, read_file
from gigassl.slides.synthetic import make_cohort
from gigassl.vectors.table import open_table
from tests.end_to_end.conftest import Run
from tests.tiles.labelled_folders import class_folders
from tests.vectors.stores import grid_bag

EIGHT = {
    "demo", "fewshot_50", "multitask_nic", "needles", "nic", "own_cohort", "tcga_from_trident",
    "tcga_giga_ssl",
}  # fmt: skip
N = 24
TINY_MIL = ("changes.epochs=2", "changes.device=cpu")


def given(*texts: str) -> list[str]:
    return [part for text in texts for part in ("--set", text)]


def tiny_mil(*steps: str) -> list[str]:
    return given(*(f"{step}.models.{text}" for step in steps for text in TINY_MIL))


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of twelve painted slides of eight patients."""
    return make_cohort(tmp_path_factory.mktemp("painted"), n_slides=12, side_px=512)


@pytest.fixture
def bags(tmp_path: Path) -> Path:
    """Bags of 24 slides of twelve patients, whose first tiles say their label."""
    lines = ["slide_id,patient_id,label"]
    (tmp_path / "bags").mkdir()
    for number in range(N):
        bag = grid_bag(f"s{number:04}", cols=4, rows=3, dim=8)
        features = bag.features.copy()
        features[:2, 0] += 8 * (number // 2 % 2)
        save_bag(
            Bag(features=features, coords=bag.coords, info=bag.info),
            tmp_path / "bags" / f"s{number:04}.h5",
        )
        lines.append(f"s{number:04},p{number // 2},{'ab'[number // 2 % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path / "bags"


def test_our_recipes_are_found_by_name_and_say_what_they_need(run: Run, tmp_path: Path) -> None:
    said = run("run", "--list")
    assert said.code == 0
    found = {path.stem for path in our_recipes()}
    assert found >= EIGHT
    assert all(f"{name} " in said.out for name in found)
    assert "--set slides=…  folder of slides" in said.out
    more = run("run", "--list", "own_cohort")
    assert "Without labels: leave --set labels away" in more.out
    known = json.loads(run("run", "--list", "--json").out)
    assert {each["name"] for each in known} == found
    missing = run("run", "own_cohort", "-o", tmp_path / "out")
    assert missing.code == 2
    assert "own_cohort.toml needs slides (folder of slides" in missing.err
    assert "did you mean 'own_cohort'" in run("run", "own_cohrt").err
    assert "no such recipe: x/y.toml; ours are demo" in run("run", "x/y.toml").err
    assert "--set wants NAME=VALUE" in run("run", "nic", "--set", "slides").err


@pytest.mark.parametrize("name", sorted(EIGHT | {"task_subsets"}))
def test_every_recipe_has_a_plan(run: Run, tmp_path: Path, name: str) -> None:
    (path,) = (path for path in our_recipes() if path.stem == name)
    inputs = tmp_path / "inputs"
    (inputs / "tables").mkdir(parents=True)
    for task in ("lung", "brca", "kidney", "mhrd", "thrd", "tnbc"):
        (inputs / "tables" / f"{task}.csv").write_text("ID,label\n")
        (inputs / "splitdirs" / task).mkdir(parents=True)
    variables = read_file(path).variables
    options = given(*(f"{name}={inputs}" for name, each in variables.items() if each.path))
    done = run("run", name, "-o", tmp_path / "out", *options, "--dry-run", "--json")
    assert done.code == 0, done.err
    steps = json.loads(done.out)["steps"]
    assert [step["state"] for step in steps] == ["due"] * len(steps)
    assert not (tmp_path / "out").exists()


def own_cohort(table: Path, out: Path) -> list[str]:
    """The recipe ``own_cohort`` as small as it gets."""
    return [
        "run", "own_cohort", "-o", str(out),
        *given(
            f"slides={table}", f"labels={table}", "target=composition", "augmentations=2",
            "tile_encoder=nic:mean-rgb", "target_mpp=1.0", "epochs=2",
            "embed-mean.settings.tiles.grid.tile_px=32", "bank.settings.tiles.grid.tile_px=32",
            "bank.settings.draws.tiles=8", "pretrain.network.architecture=mlp",
            "probe.tasks.0.split.folds=2", 'probe.settings=[{ preset = "giga-ssl" }]',
            "probe.options.compare.draws=100", "compare.settings.draws=100",
            "report.options.umap=false",
        ),
        *tiny_mil("mil"),
    ]  # fmt: skip


def test_own_slides_to_a_report(run: Run, painted: Path, tmp_path: Path) -> None:
    command = own_cohort(painted, tmp_path / "out")
    done = run(*command)
    assert done.code == 0, done.err
    assert "step 8 of 8, report: runs" in done.err
    out = tmp_path / "out"
    methods = set(open_predictions(out / "probe.parquet").data["method"].to_pylist())
    assert {"vectors · logistic", "vectors-mean · logistic"} <= {
        method.replace(" · giga-ssl", " · logistic") for method in methods
    }
    assert len(open_table(out / "vectors.parquet")) == 12
    assert "abmil" in (out / "comparison" / "comparison.md").read_text()
    assert "<html" in (out / "report.html").read_text(encoding="utf-8")
    again = run(*command, "--json")
    assert {step["state"] for step in json.loads(again.out)["steps"]} == {"up to date"}


@pytest.mark.slow
def test_demo_is_the_recipe(run: Run, tmp_path: Path) -> None:
    demo, recipe = tmp_path / "demo", tmp_path / "recipe"
    assert run("demo", "-o", demo).code == 0
    done = run("run", "demo", "-o", recipe)
    assert done.code == 0, done.err
    for name in ("vectors.parquet", "vectors-mean.parquet"):
        assert (recipe / name).read_bytes() == (demo / name).read_bytes()
    tables = [open_predictions(each / "worth" / "predictions.parquet") for each in (demo, recipe)]
    assert tables[0].data.equals(tables[1].data)


@pytest.mark.slow
def test_fifty_labels(run: Run, bags: Path, tmp_path: Path) -> None:
    assert run("embed", bags, "-o", tmp_path / "vectors.parquet").code == 0
    done = run(
        "run", "fewshot_50", "-o", tmp_path / "out",
        *given(f"vectors={tmp_path / 'vectors.parquet'}", f"bags={bags}",
               f"labels={tmp_path / 'labels.csv'}", "fewshot.task.split.folds=2",
               'fewshot.task.split.train_sizes=["k=2"]', "fewshot.task.split.draws=1",
               "fewshot.options.device=cpu"),
    )  # fmt: skip
    assert done.code == 0, done.err
    methods = set(
        open_predictions(tmp_path / "out" / "fewshot" / "predictions.parquet")
        .data["method"].to_pylist()
    )  # fmt: skip
    assert {"abmil", "clam-sb"} <= methods


@pytest.mark.slow
def test_features_of_another_tool(run: Run, bags: Path, tmp_path: Path) -> None:
    done = run(
        "run", "tcga_from_trident", "-o", tmp_path / "out",
        *given(f"features={bags}", f"labels={tmp_path / 'labels.csv'}", "epochs=2",
               "pretrain.settings.views.tiles=4", "probe.tasks.0.split.folds=2",
               'probe.settings=[{ preset = "giga-ssl" }]', "report.options.umap=false"),
        *tiny_mil("mil"),
    )  # fmt: skip
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "report.html").is_file()


def nic(painted: Path, *, steps: Sequence[str]) -> list[str]:
    """What both recipes of neural image compression are given."""
    task = ("target=composition", "nic.options.split.folds=2", "report.options.umap=false")
    return [*given(f"slides={painted}", f"labels={painted}", *task), *tiny_mil(*steps)]


@pytest.mark.slow
def test_neural_image_compression(run: Run, painted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(
        "run", "nic", "-o", out, *nic(painted, steps=("nic", "colour", "mil")),
        *given("steps=2", "pretrain-tiles.settings.training.batch_size=4",
               "pretrain-tiles.options.device=cpu"),
    )  # fmt: skip
    assert done.code == 0, done.err
    tables = (out / "comparison" / "comparison.md").read_text()
    for method in ("vae nic-cnn", "mean colour nic-cnn", "vae abmil"):
        assert method in tables
    assert len(list((out / "why").glob("*/heatmap.png"))) == 12
    assert (out / "report.html").is_file()


@pytest.mark.slow
def test_multitask_neural_image_compression(run: Run, painted: Path, tmp_path: Path) -> None:
    tasks = [
        class_folders(tmp_path / name, {"x": 24, "y": 24}, side=64, seed=seed)
        for seed, name in enumerate(("lymph", "colon"))
    ]
    out = tmp_path / "out"
    done = run(
        "run", "multitask_nic", "-o", out, *nic(painted, steps=("nic", "mil")),
        *given(f"tasks={tasks[0]},{tasks[1]}", "steps=2", "mpp=1.0",
               "pretrain-tiles.source.group_pattern=g\\d",
               "pretrain-tiles.settings.training.batch_size=8",
               "pretrain-tiles.options.device=cpu"),
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "multitask nic-cnn" in (out / "comparison" / "comparison.md").read_text()


@pytest.mark.slow
def test_a_killed_recipe_goes_on(run: Run, painted: Path, tmp_path: Path) -> None:
    command = own_cohort(painted, tmp_path / "out")
    program = [sys.executable, "-c", "from gigassl.cli.main import run; run()", *command]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 2 of 8"):
                os.kill(process.pid, signal.SIGKILL)
                break
    plan = json.loads(run(*command, "--dry-run", "--json").out)["steps"]
    assert (plan[0]["state"], plan[1]["state"]) == ("up to date", "due")
    done = run(*command)
    assert done.code == 0, done.err
    whole = tmp_path / "whole"
    assert run(*own_cohort(painted, whole)).code == 0
    for name in ("vectors.parquet", "vectors-mean.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (whole / name).read_bytes()
