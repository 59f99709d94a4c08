"""HRD from real slide vectors, through the program, on the fixed hold-out."""

import json
from pathlib import Path

import pytest

from benchmarks.hif_hrd import commands, write_inputs
from tests.end_to_end.conftest import Run
from tests.shared_data import SHARED, needs_shared

HRD = SHARED / "data" / "tcga_hif" / "hrd"


@needs_shared
def test_inputs_are_the_fixed_split(tmp_path: Path) -> None:
    write_inputs(HRD, "luad", out=tmp_path)
    labels = (tmp_path / "labels.csv").read_text().splitlines()
    assert len(labels) == 1 + 313 + 104
    assert sum(line.endswith(",1") for line in labels) == 82 + 20
    train, test = zip(
        *(line.split(",") for line in (tmp_path / "split" / "split_0.csv").read_text().split()),
        strict=True,
    )
    assert (len(set(train[1:])), len(set(filter(None, test[1:])))) == (313, 104)
    assert not set(train) & set(filter(None, test))


@needs_shared
@pytest.mark.parametrize(("cancer", "expected"), [("luad", 0.62), ("lusc", 0.48), ("stad", 0.67)])
def test_linear_probe_is_where_it_was_seen_elsewhere(
    tmp_path: Path, run: Run, cancer: str, expected: float
) -> None:
    write_inputs(HRD, cancer, out=tmp_path)
    imported, probed, _ = commands(cancer, tmp_path, draws=1)
    assert run(*imported).code == 0
    done = run(*probed, "--json")
    assert done.code == 0, done.err
    (score,) = [s for s in json.loads(done.out)["scores"] if not s["control"]]
    assert score["n_patients"] == {"luad": 104, "lusc": 96, "stad": 80}[cancer]
    assert score["auc_fold_mean"] == pytest.approx(expected, abs=0.05)
    assert score["auc_fold_mean_low"] < expected < score["auc_fold_mean_high"]
