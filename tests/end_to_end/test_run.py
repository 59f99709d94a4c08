"""``gigassl run`` on a tiny needle recipe: files, numbers, going on, equal bytes."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gigassl.evaluate.needles.curve import NeedleCurveSettings
from gigassl.evaluate.needles.training import score_needles
from gigassl.pipeline.needle_parts import load_needle_network
from gigassl.pipeline.synth_needles import needle_digits
from gigassl.slides.digits import read_digits
from gigassl.slides.needles import NeedleSettings, draw_needles
from tests.end_to_end.conftest import Run

RECIPE = """
title = "A tiny curve"

[[steps]]
run = "needle_curve"
out = "curve"

[steps.settings]
train_sizes = [8, 16]
validation = 8
test = 12
seeds = {seeds}
sweep = [{{ canvas_px = 16 }}, {{ canvas_px = 32 }}]
training = {{ updates = 4, batch_size = 4, checks = 2 }}

[[steps.settings.variants]]
name = "max"
network = {{ pooling = "max", width = 4 }}

[[steps.settings.variants]]
name = "mean"
network = {{ pooling = "mean", width = 4 }}
"""


def recipe(folder: Path, *, seeds: list[int]) -> Path:
    path = folder / "tiny.toml"
    path.write_text(RECIPE.format(seeds=seeds), encoding="utf-8")
    return path


def test_a_recipe_trains_draws_and_goes_on(tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    done = run("run", recipe(tmp_path, seeds=[0]), "-o", out)
    assert done.code == 0, done.err
    assert "A tiny curve" in done.out
    assert "8 of 8 trainings" in done.out
    with (out / "curve" / "curve.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 8
    for name in ("curve.png", "saliency.png"):
        with Image.open(out / "curve" / name) as picture:
            assert np.asarray(picture).std() > 5
    first = {path.name: path.read_bytes() for path in (out / "curve" / "cells").glob("*.json")}
    assert len(first) == 8
    # as after a stop: two trainings are lost, and a second seed is asked for
    for path in sorted((out / "curve" / "cells").glob("*.json"))[:2]:
        path.unlink()
    more = run("run", recipe(tmp_path, seeds=[0, 1]), "-o", out, "--json")
    said = json.loads(more.out)
    assert said["steps"][0]["trainings_new"] == 10
    again = {path.name: path.read_bytes() for path in (out / "curve" / "cells").glob("*.json")}
    assert len(again) == 16
    assert first.items() <= again.items()


def test_kept_networks_are_those_that_were_scored(tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    assert run("run", recipe(tmp_path, seeds=[3]), "-o", out).code == 0
    test = draw_needles(
        NeedleSettings(canvas_px=32), needle_digits(read_digits())["test"], n=12, seed=3, first=24
    )
    seen = 0
    for path in (out / "curve" / "cells").glob("*.json"):
        point = json.loads(path.read_text())["point"]
        if point["canvas_px"] == 32:
            score = score_needles(load_needle_network(path.with_suffix(".safetensors")), test)
            assert score.accuracy == pytest.approx(point["test"]["accuracy"])
            assert score.loss == pytest.approx(point["test"]["loss"], rel=1e-5)
            seen += 1
    assert seen == 4


def test_a_recipe_that_cannot_run_makes_nothing(tmp_path: Path, run: Run) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(
        RECIPE.format(seeds=[0]).replace('"mean", width', '"mean", wdth'), encoding="utf-8"
    )
    done = run("run", wrong, "-o", tmp_path / "out")
    assert done.code == 2
    assert "did you mean 'width'" in done.err
    assert not (tmp_path / "out").exists()


def test_a_grid_names_each_of_its_parts_once() -> None:
    cells = list(NeedleCurveSettings().cells())
    assert len(cells) == 1 * 3 * 2 * 3
    assert len({cell.title for cell in cells}) == len(cells)
