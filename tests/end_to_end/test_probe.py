"""``gigassl probe`` as a user runs it: scores, controls, splits for the next method, bad input."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gigassl.evaluate.predictions import open_predictions
from gigassl.evaluate.split_files import read_split_lists
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.table import SlideTable, save_table, table_from_rows
from tests.end_to_end.conftest import Run
from tests.vectors.test_table import PROVENANCE, make_row

N, DIM = 60, 8


def cohort(*, seed: int = 0, strength: float = 2.0) -> SlideTable:
    """Sixty slides of thirty patients; grade and age lie in the first two columns."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(N):
        vector = rng.standard_normal(DIM)
        vector[:2] += strength * np.array([(i // 2) % 2, (i // 2) / N])
        row = make_row(f"s{i:02}", embedding=l2_normalised(vector), n_tiles=50 + i)
        rows.append(replace(row, patient_id=f"p{i // 2:02}"))
    return table_from_rows(rows, provenance=PROVENANCE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_table(cohort(), tmp_path / "ours.parquet")
    save_table(cohort(seed=1, strength=0.2), tmp_path / "theirs.parquet")
    lines = ["slide_id,patient_id,grade,stage,age,months,dead"]
    for i in range(N):
        p = i // 2
        months, dead = 5 + 40 / (1 + p) + i / 100, int(i % 3 > 0)
        lines.append(f"s{i:02},p{p:02},{'ab'[p % 2]},{'xyz'[p % 3]},{40 + p},{months},{dead}")
    (tmp_path / "clinical.csv").write_text("\n".join(lines))
    return tmp_path


def test_methods_controls_and_splits(folder: Path, run: Run) -> None:
    out = folder / "p.parquet"
    common = ("--labels", folder / "clinical.csv", "--target", "grade", "--folds", 3)
    done = run(
        "probe", folder / "ours.parquet", folder / "theirs.parquet", *common, "-o", out,
        "--probe", "logistic", "--probe", "prototype",
    )  # fmt: skip
    assert done.code == 0, done.err
    for words in ("task 'grade': 60 slides of 30 patients", "leaks of grade", "ours · logistic",
                  "theirs · prototype", "tile-count", "splits"):  # fmt: skip
        assert words in done.out, words
    found = open_predictions(out)
    assert len(found) == N * 2 * 3  # each slide once, by two probes on three tables
    assert len(read_split_lists(folder / "p.parquet.splits")) == 3
    again = run("probe", folder / "ours.parquet", *common[:4], "--splits",
                folder / "p.parquet.splits", "-o", folder / "q.parquet", "--json")  # fmt: skip
    summary = json.loads(again.out)
    assert summary["rows"] == N * 2
    repeated = open_predictions(folder / "q.parquet").data.to_pandas()
    first = found.data.to_pandas()
    columns = ["slide_id", "fold", "p_b"]
    left = first[first["method"] == "ours · logistic"][columns].reset_index(drop=True)
    right = repeated[repeated["method"] == "ours · logistic"][columns].reset_index(drop=True)
    assert left.merge(right, on=["slide_id", "fold"]).eval("p_b_x == p_b_y").all()


def test_equal_runs_give_equal_bytes(folder: Path, run: Run) -> None:
    for name in ("a", "b"):
        run("probe", folder / "ours.parquet", "--labels", folder / "clinical.csv",
            "--target", "grade", "-o", folder / f"{name}.parquet")  # fmt: skip
    assert (folder / "a.parquet").read_bytes() == (folder / "b.parquet").read_bytes()


def test_several_targets_at_several_training_sizes(folder: Path, run: Run) -> None:
    out = folder / "p.parquet"
    done = run(
        "probe", folder / "ours.parquet", "--labels", folder / "clinical.csv", "--target",
        "grade,stage", "--train-sizes", "20,full", "--folds", 3, "--preset", "giga-ssl", "-o", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    data = open_predictions(out).data
    assert set(data["task"].to_pylist()) == {"grade", "stage"}
    assert set(data["train_size"].to_pylist()) == {"20", "full"}
    assert (folder / "p.parquet.splits" / "stage").is_dir()


@pytest.mark.parametrize(
    ("arguments", "method"),
    [(["--target", "age"], "ridge"), (["--time", "months", "--event", "dead"], "cox")],
)
def test_values_and_survival(folder: Path, run: Run, arguments: list[str], method: str) -> None:
    out = folder / "p.parquet"
    done = run("probe", folder / "ours.parquet", "--labels", folder / "clinical.csv", *arguments,
               "--folds", 3, "-o", out)  # fmt: skip
    assert done.code == 0, done.err
    assert f"ours · {method}" in set(open_predictions(out).data["method"].to_pylist())


@pytest.mark.parametrize("level", ["vectors", "predictions"])
def test_slides_of_a_patient_made_one(folder: Path, run: Run, level: str) -> None:
    out = folder / "p.parquet"
    done = run("probe", folder / "ours.parquet", "--labels", folder / "clinical.csv", "--target",
               "grade", "--patients", level, "-o", out)  # fmt: skip
    assert done.code == 0, done.err
    assert len(open_predictions(out)) == 2 * N // 2


def test_mistakes_are_one_sentence_before_any_training(folder: Path, run: Run) -> None:
    def said(*arguments: object) -> str:
        done = run("probe", *arguments, "-o", folder / "p.parquet")
        assert done.code == 2
        assert done.err.count("\n") == 1
        return done.err

    ours, labels = folder / "ours.parquet", ("--labels", folder / "clinical.csv")
    assert "is given twice" in said(ours, ours, *labels, "--target", "grade")
    assert "has no column 'grad'" in said(ours, *labels, "--target", "grad")
    assert "one kind" in said(ours, *labels, "--target", "grade,age")
    assert "cannot predict a classification" in said(
        ours, *labels, "--target", "grade", "--probe", "cox"
    )
    assert "leave out --probe" in said(
        ours, *labels, "--target", "grade", "--preset", "giga-ssl", "--strength", 3
    )
    assert "need the tiles" in said(
        ours, *labels, "--target", "grade", "--slide-encoder", "x.safetensors"
    )
    assert not (folder / "p.parquet").exists()
    kept = (folder / "theirs.parquet").read_bytes()
    done = run("probe", ours, *labels, "--target", "grade", "-o", folder / "theirs.parquet")
    assert done.code == 2
    assert "choose another -o" in done.err
    assert (folder / "theirs.parquet").read_bytes() == kept
