"""``gigassl compare`` from files to tables and figures."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gigassl.cli.main import app
from gigassl.evaluate.predictions import Method, Predictions, save_predictions
from tests.evaluate.prediction_tables import folds_of, predictions_of, task_of


def few_shot(name: str, strength: float, *, seed: int) -> Predictions:
    task = task_of([0, 1] * 24)
    splits = [split for size in ("10", "full") for split in folds_of(task, size=size)]
    return predictions_of(task, splits, [(Method(name=name), strength)], seed=seed)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two of ours, and a third tool's CSV."""
    save_predictions(few_shot("vectors · logistic", 1.5, seed=0), tmp_path / "a.parquet")
    save_predictions(few_shot("abmil", 0.7, seed=1), tmp_path / "b.parquet")
    with (tmp_path / "c.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["slide_id", "train_size", "prob"])
        for row in few_shot("x", 1.0, seed=2).data.to_pylist():
            writer.writerow([row["slide_id"], row["train_size"], row["p_b"]])
    return [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet"), f"titan={tmp_path}/c.csv"]


def test_compare_writes_tables_and_figures(files: list[str], tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    arguments = ["compare", *files, "-o", str(out), "--draws", "100", "--reference", "abmil"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert all(name in done.stdout for name in ("vectors · logistic", "abmil", "titan"))
    names = sorted(path.name for path in out.iterdir())
    assert names == [
        "comparison.csv", "comparison.md", "comparison.tex", "folds.csv", "learning_curve.png",
        "learning_curve.svg", "pairs.csv", "scores.png", "scores.svg",
    ]  # fmt: skip
    with (out / "pairs.csv").open() as handle:
        assert {row["reference"] for row in csv.DictReader(handle)} == {"abmil"}
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    CliRunner().invoke(app, arguments)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_compare_as_json(files: list[str]) -> None:
    done = CliRunner().invoke(app, ["compare", *files[:2], "--draws", "100", "--json"])
    found = json.loads(done.stdout)
    assert [row["method"] for row in found["scores"][:2]] == ["vectors · logistic", "abmil"]
    assert found["metric"] == "auc"


def test_a_name_before_the_file_renames_its_method(files: list[str]) -> None:
    done = CliRunner().invoke(app, ["compare", f"ours={files[0]}", files[1], "--draws", "100"])
    assert "vectors" not in done.stdout
    assert "ours" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.parquet"], "no such file of predictions: absent.parquet"),
        (["--metric", "acu"], "unknown metric of a classification 'acu'; did you mean 'auc'?"),
        (["--reference", "abmli"], "unknown reference 'abmli'; did you mean 'abmil'?"),
        (["--alpha", "2"], "an alpha between 0 and 0.5"),
    ],
)
def test_mistakes_are_one_sentence(files: list[str], arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["compare", *files, *arguments])
    assert done.exit_code == 2
    assert message in done.stderr
