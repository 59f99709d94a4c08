"""Slides that differ in arrangement only: a spatial slide encoder beside its controls."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.quality_cohorts import CohortSettings, arrangement_cohort
from gigassl.bags.bag import Bag, save_bag
from gigassl.bags.info import BagInfo
from tests.end_to_end.conftest import Run

PAIRS = 60
TRAINING = (
    "--slide-encoder", "spatial", "--epochs", 20, "--batch-size", 32, "--tiles", 60,
    "--device", "cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of slides that hold the very same tiles, laid in small or in large patches."""
    folder = tmp_path_factory.mktemp("arranged")
    chosen = CohortSettings(pairs=PAIRS, dim=32, lengths=(0.4, 2.0), tiles=(60, 90), nuisance=1.0)
    found = arrangement_cohort(chosen, seed=0)
    rows = [("slide_id", "patient_id", "arranged", "path")]
    for number, (features, coords) in enumerate(zip(found.features, found.coords, strict=True)):
        name = f"s{number:03}"
        info = BagInfo(
            slide_id=name, encoder="types", encoder_digest="t1", mpp_l0=1.0, tile_px=1,
            side_l0=1.0, target_mpp=1.0, effective_mpp=1.0,
        )  # fmt: skip
        bag = Bag(features=features.astype(np.float16), coords=coords, info=info)
        save_bag(bag, folder / f"{name}.h5")
        rows.append((name, f"p{found.pairs[number]}", f"k{found.labels[number]}", f"{name}.h5"))
    with (folder / "cohort.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    return folder / "cohort.csv"


def scores(text: str) -> dict[str, dict[str, Any]]:
    """Rows of the table of scores, by the control's name ("" for the method)."""
    found = json.loads(text)
    records = found.get("comparison", found)["scores"]
    return {row["control"]: row for row in records}


@pytest.mark.slow
def test_a_spatial_slide_encoder_beats_its_controls_where_only_arrangement_differs(
    run: Run, cohort: Path, tmp_path: Path
) -> None:
    # five folds: an interval from three has two degrees of freedom and is three times as wide
    model, vectors = tmp_path / "m.safetensors", tmp_path / "v.parquet"
    assert run("pretrain", cohort, "-o", model, *TRAINING).code == 0
    assert run("embed", cohort, "-o", vectors, "--slide-encoder", model).code == 0
    done = run(
        "probe", vectors, "--labels", cohort, "--target", "arranged", "--bags", cohort,
        "--slide-encoder", model, "--folds", 5, "-o", tmp_path / "p.parquet", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = scores(done.out)
    assert set(found) == {
        "", "tile-count", "mean", "mean+std", "mean+mlp", "random-weights",
        "shuffled-coordinates",
    }  # fmt: skip
    # both slides of a pair hold the same tiles, so nothing that is blind to position can rank them
    for blind in ("tile-count", "mean", "mean+std", "mean+mlp"):
        assert found[blind]["auc_fold_mean"] == pytest.approx(0.5, abs=0.02)
    own = found[""]
    assert own["auc_fold_mean"] > 0.8
    assert own["minus_shuffled-coordinates_low"] > 0.2
    assert own["minus_random-weights_low"] > 0.1
    assert (own["seen"], found["random-weights"]["seen"]) == (1.0, None)
    notes = "\n".join(json.loads(done.out)["notes"])
    assert f"{2 * PAIRS} of {2 * PAIRS} test slides were seen, without labels" in notes


@pytest.mark.slow
def test_it_does_so_on_slides_that_it_has_not_seen_too(
    run: Run, cohort: Path, tmp_path: Path
) -> None:
    done = run(
        "inductive", cohort, "-o", tmp_path / "p.parquet", "--labels", cohort, "--target",
        "arranged", "--folds", 3, *TRAINING, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = scores(done.out)
    assert found[""]["auc_fold_mean"] > 0.8
    assert found["mean"]["auc_fold_mean"] == pytest.approx(0.5, abs=0.02)
    assert found[""]["seen"] == 0.0
