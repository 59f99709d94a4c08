"""``screen`` through the command line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from gigassl.evaluate.predictions import open_predictions
from tests.end_to_end.cohorts import by_patient, save_labels, save_vectors
from tests.end_to_end.conftest import Run

N = 200


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    vectors, rng = save_vectors(tmp_path / "v.parquet", N), np.random.default_rng(1)
    chance = by_patient(rng.normal(size=N))
    columns: dict[str, list[object]] = {
        "mut_TP53": (by_patient(vectors[:, 0]) > 0).astype(int).tolist(),
        "expr_ER": (by_patient(vectors[:, 1]) + 0.01 * chance).tolist(),
        "mut_rare": [int(k < 6) for k in range(N)],
        "mut_none": [0] * N,
        "age": [50 + k // 2 if k % 10 else "" for k in range(N)],
        "subtype": [f"type{int(v)}" for v in np.digitize(by_patient(vectors[:, 2]), [-0.1, 0.1])],
    }
    for number in range(12):
        noise = by_patient(rng.normal(size=N))
        columns[f"null_{number}"] = (noise > 0).astype(int).tolist()
    save_labels(tmp_path / "labels.csv", columns)
    return tmp_path


def test_effects_are_found_and_chance_is_not(run: Run, cohort: Path) -> None:
    out = cohort / "screen"
    targets = "mut_*,expr_ER,subtype,null_*"
    done = run("screen", cohort / "v.parquet", "--labels", cohort / "labels.csv",
               "--targets", targets, "--clinical", "age", "-o", out)  # fmt: skip
    assert done.code == 0, done.err
    assert "of 15 targets with q < 0.05 (Benjamini–Hochberg); 2 left out" in done.out
    with (out / "screen.csv").open() as handle:
        rows = {row["target"]: row for row in csv.DictReader(handle)}
    found = {name for name, row in rows.items() if row["q"] and float(row["q"]) < 0.05}
    assert found == {"mut_TP53", "expr_ER", "subtype"}
    assert "class '1' has 3 patients; at least 10" in rows["mut_rare"]["skipped"]
    assert "same label" in rows["mut_none"]["skipped"]
    best = rows["mut_TP53"]
    assert best["n_patients"] == "100"
    assert float(best["low"]) < float(best["value"]) < float(best["high"])
    assert float(best["gain_low"]) > 0 > float(best["clinical"]) - float(best["both"])
    said = open_predictions(out / "predictions.classification.parquet")
    assert set(said.data["method"].to_pylist()) == {"v", "clinical", "v + clinical"}
    assert said.data.num_rows == 14 * 3 * N
    assert open_predictions(out / "predictions.regression.parquet").data.num_rows == 3 * N
    assert (out / "screen.png").stat().st_size > 10_000
    assert "mut_TP53" in (out / "screen.svg").read_text()


def test_equal_runs_give_equal_bytes(run: Run, cohort: Path) -> None:
    for out in ("one", "two"):
        run("screen", cohort / "v.parquet", "--labels", cohort / "labels.csv", "-o", cohort / out)
    names = sorted(path.name for path in (cohort / "one").iterdir())
    assert len(names) == 5
    for name in names:
        assert (cohort / "one" / name).read_bytes() == (cohort / "two" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--targets", "mut_XYZ"], "unknown target 'mut_XYZ'"),
        (["--clinical", "weight"], "no column 'weight'"),
        (["--targets", "mut_rare,mut_none"], "none of 2 targets can be tested"),
        (["--folds", "500"], "500 folds need at least 500 patients"),
    ],
)
def test_what_cannot_be_screened_is_one_sentence(
    run: Run, cohort: Path, arguments: list[str], reason: str
) -> None:
    done = run("screen", cohort / "v.parquet", "--labels", cohort / "labels.csv",
               "-o", cohort / "s", *arguments)  # fmt: skip
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert reason in done.err


def test_json_has_null_where_there_is_no_number(run: Run, cohort: Path) -> None:
    done = run("screen", cohort / "v.parquet", "--labels", cohort / "labels.csv",
               "--targets", "mut_TP53,mut_rare", "-o", cohort / "s", "--json")  # fmt: skip
    found = json.loads(done.out)
    assert (found["tested"], found["found"]) == (1, 1)
    assert found["findings"][0]["clinical"] is None
