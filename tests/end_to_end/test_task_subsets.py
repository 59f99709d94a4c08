"""A study of task subsets as a recipe: trained, judged, drawn, and nothing done twice."""

from pathlib import Path

import pytest

from gigassl.errors import SettingsError
from gigassl.pipeline.task_subsets import TaskSubsetsSettings, task_subsets
from tests.end_to_end.conftest import Run
from tests.tiles.labelled_folders import class_folders

RECIPE = """
title = "Two tasks"

[[steps]]
run = "task_subsets"
out = "."
tasks = ["{folder}/lymph", "{folder}/tissue"]
target = "{folder}/target"

[steps.settings]
steps = 4
tile_px = 16
architecture = "nic:bigan?filters=8,convolutions=2,code=6,pool=1"
group_pattern = 'g\\d'
device = "cpu"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for seed, (name, classes) in enumerate(
        {"lymph": {"a": 40, "b": 40}, "tissue": {"c": 30, "d": 30, "e": 30},
         "target": {"f": 20, "g": 20}}.items()
    ):  # fmt: skip
        class_folders(tmp_path / name, classes, side=16, n_groups=5, seed=seed)
    path = tmp_path / "two.toml"
    path.write_text(RECIPE.format(folder=tmp_path))
    return path


@pytest.mark.slow
def test_every_subset_is_trained_once_and_judged(run: Run, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    done = run("run", recipe, "-o", out)
    assert done.code == 0, done.err
    assert "lymph + tissue" in done.out
    encoders = sorted(path.name for path in (out / "encoders").glob("*.safetensors"))
    assert encoders == [f"tasks-{n}-seed-0.safetensors" for n in ("1-2", "1", "2")]
    assert (out / "task_subsets.png").read_bytes().startswith(b"\x89PNG")
    table = (out / "task_subsets.md").read_text()
    again = run("run", recipe, "-o", out)
    assert again.code == 0, again.err
    assert "round 1/" not in again.err
    assert (out / "task_subsets.md").read_text() == table


def test_one_task_or_a_seed_twice_is_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="subsets of 2 to 6 tasks are studied; got 1"):
        task_subsets(tmp_path / "x", tasks=[tmp_path / "lymph"], target=tmp_path / "target")
    with pytest.raises(SettingsError, match="seeds are one or more different numbers"):
        TaskSubsetsSettings(seeds=(1, 1))
