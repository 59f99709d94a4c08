"""``gigassl inductive``: slide encoders that saw the training slides of their fold only."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from gigassl.bags.bag import save_bag
from gigassl.evaluate.contamination import PRETRAINED_ON
from gigassl.evaluate.predictions import open_predictions
from gigassl.vectors.slide_model import load_slide_model
from tests.end_to_end.conftest import Run
from tests.vectors.stores import grid_bag

N = 16
QUICK = (
    "--epochs", 2, "--batch-size", 8, "--slide-encoder", "mlp", "--folds", 2, "--views", 4,
    "--device", "cpu",
)  # fmt: skip


@pytest.fixture
def bags(tmp_path: Path) -> Path:
    """Slides of two kinds, two of each patient; the kind shows in the first feature."""
    folder = tmp_path / "bags"
    folder.mkdir()
    rows = [("slide_id", "patient_id", "subtype", "path")]
    for number in range(N):
        kind = (number // 2) % 2
        bag = grid_bag(f"s{number:02}", dim=6)
        bag.features[:, 0] += 3 * kind
        save_bag(bag, folder / f"s{number:02}.h5")
        rows.append((f"s{number:02}", f"p{number // 2}", f"k{kind}", f"s{number:02}.h5"))
    with (folder / "cohort.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    return folder / "cohort.csv"


def test_each_fold_has_a_slide_encoder_that_did_not_see_its_test_slides(
    run: Run, bags: Path, tmp_path: Path
) -> None:
    out = tmp_path / "p.parquet"
    asked = ("--labels", bags, "--target", "subtype", "--train-sizes", "full,k=3")
    done = run("inductive", bags, "-o", out, *asked, *QUICK)
    assert done.code == 0, done.err
    assert "no test slide was seen by the slide encoder of its fold" in done.out
    assert "2 slide encoders were pretrained" in done.out
    found = open_predictions(out)
    methods = set(found.data["method"].to_pylist())
    name = "mlp, pretrained in each fold"
    assert methods == {
        f"{name} · logistic", f"{name}, mean · logistic", f"{name}, mean+std · logistic",
        f"{name}, mean+mlp · mlp",
    }  # fmt: skip
    rows = found.data.to_pylist()
    own = [row for row in rows if row["control"] == ""]
    assert [row["seen"] for row in own] == [False] * len(own)
    assert {row["control_of"] for row in rows if row["control"]} == {name}
    for size in ("full", "k=3"):
        assert sum(row["train_size"] == size for row in own) == N

    right = [row["p_k1" if row["y_true"] == "k1" else "p_k0"] > 0.5 for row in own]
    assert np.mean(right) > 0.9

    # what each slide encoder says of itself agrees with the splits
    tested = [
        {row["slide_id"] for row in own if (row["fold"], row["train_size"]) == (fold, "full")}
        for fold in (0, 1)
    ]
    files = sorted((tmp_path / "p.parquet.parts").glob("*.safetensors"))
    saw = [
        set(load_slide_model(file).record.training[PRETRAINED_ON]["slide_encoder"]["slides"])
        for file in files
    ]
    everything = {f"s{number:02}" for number in range(N)}
    assert sorted(map(sorted, saw)) == sorted(sorted(everything - each) for each in tested)

    # again: nothing is trained anew, and the bytes are the same
    before, ages = out.read_bytes(), [file.stat().st_mtime_ns for file in files]
    again = run("inductive", bags, "-o", out, *asked, *QUICK, "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["trained"] == 2
    assert out.read_bytes() == before
    assert [file.stat().st_mtime_ns for file in files] == ages


@pytest.mark.slow
def test_an_interrupted_evaluation_goes_on_where_it_was(
    run: Run, bags: Path, tmp_path: Path
) -> None:
    asked = ("--labels", bags, "--target", "subtype", *QUICK)
    whole, broken = tmp_path / "whole.parquet", tmp_path / "broken.parquet"
    assert run("inductive", bags, "-o", whole, *asked).code == 0
    assert run("inductive", bags, "-o", broken, *asked).code == 0
    parts = tmp_path / "broken.parquet.parts"
    before = broken.read_bytes()
    lost = sorted(parts.glob("*.safetensors"))[0]
    kept = sorted(parts.glob("*.safetensors"))[1]
    age = kept.stat().st_mtime_ns
    lost.unlink()
    broken.unlink()
    assert run("inductive", bags, "-o", broken, *asked).code == 0
    assert broken.read_bytes() == before == whole.read_bytes()
    assert kept.stat().st_mtime_ns == age
    same = tmp_path / "same.parquet"
    splits = ("--splits", tmp_path / "whole.parquet.splits")
    assert run("inductive", bags, "-o", same, *asked, *splits).code == 0
    assert open_predictions(same).data["slide_id"] == open_predictions(whole).data["slide_id"]


def test_sets_too_small_are_refused_before_training(run: Run, bags: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.parquet"
    done = run(
        "inductive", bags, "-o", out, "--labels", bags, "--target", "subtype", "--train-sizes",
        "full,k=1", "--pretrain-on", "split", *QUICK,
    )  # fmt: skip
    assert done.code == 2
    assert "--pretrain-on fold" in done.err
    assert not list((tmp_path / "p.parquet.parts").glob("*"))
