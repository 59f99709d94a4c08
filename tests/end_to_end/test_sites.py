"""``gigassl sites`` as a user runs it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gigassl.evaluate.predictions import open_predictions
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.table import save_table, table_from_rows
from tests.end_to_end.conftest import Run
from tests.vectors.test_table import PROVENANCE, make_row

N, DIM, N_SITES = 120, 8, 6


def written(folder: Path, *, grade: float, site: float) -> Path:
    """Slides whose vectors hold the grade and the site, each so strongly; sites lean to a grade."""
    rng = np.random.default_rng(0)
    rows, lines = [], ["slide_id,grade,hospital,age"]
    for i in range(N):
        k = i // 2 % N_SITES
        high = int(rng.random() < (0.8 if k < N_SITES / 2 else 0.2))
        vector = rng.standard_normal(DIM)
        vector[0] += grade * high
        vector[1 + k] += site
        row = make_row(f"s{i:03}", embedding=l2_normalised(vector))
        rows.append(replace(row, patient_id=f"p{i // 2:03}"))
        lines.append(f"s{i:03},{('low', 'high')[high]},h{k},{40 + i % 31}")
    (folder / "clinical.csv").write_text("\n".join(lines))
    path = folder / "vectors.parquet"
    save_table(table_from_rows(rows, provenance=PROVENANCE), path)
    return path


def test_vectors_of_the_site_lose_on_whole_sites(tmp_path: Path, run: Run) -> None:
    common = ("--labels", tmp_path / "clinical.csv", "--site-column", "hospital", "--folds", 3)
    out = tmp_path / "p.parquet"
    done = run("sites", written(tmp_path, grade=0, site=5), *common, "--target", "grade",
               "--json", "-o", out)  # fmt: skip
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["site"]["balanced_accuracy"]["low"] > said["site"]["chance"] == 1 / N_SITES
    assert said["site"]["auc"]["value"] > 0.9
    assert said["robustness"]["index"] < said["robustness"]["index_by_chance"]
    assert said["target"]["drop"]["low"] > 0
    assert set(open_predictions(out).data["split"].to_pylist()) == {
        "patient-kfold", "site-preserved",
    }  # fmt: skip
    plain = run("sites", tmp_path / "vectors.parquet", *common, "--target", "grade")
    for words in ("telling 6 sites of 120 slides", "robustness index", "folds of whole sites; drop",
                  "leaks of grade", "site-preserved"):  # fmt: skip
        assert words in plain.out, words
    assert "sites: column 'hospital'" in plain.out


def test_vectors_of_the_target_do_not(tmp_path: Path, run: Run) -> None:
    common = ("--labels", tmp_path / "clinical.csv", "--site-column", "hospital", "--folds", 3)
    done = run("sites", written(tmp_path, grade=5, site=0), *common, "--target", "grade", "--json")
    said = json.loads(done.out)
    assert said["robustness"]["index"] > 0.8
    assert said["target"]["drop"]["low"] < 0.02
    assert said["site"]["auc"]["value"] < 0.8


def test_targets_without_classes_have_no_robustness_index(tmp_path: Path, run: Run) -> None:
    done = run("sites", written(tmp_path, grade=0, site=1), "--labels", tmp_path / "clinical.csv",
               "--site-column", "hospital", "--folds", 3, "--target", "age")  # fmt: skip
    assert done.code == 0, done.err
    assert "robustness index: only for targets with classes" in done.out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--target", "grade"), "no slide of task 'grade' has a site"),
        (("--target", "grade", "--site-column", "ward"), "has no column 'ward'"),
        (("--target", "grade", "--site-column", "hospital", "--folds", 11),
         "0 of 6 sites have at least 11 patients"),
        (("--target", "grade", "--site-column", "hospital", "--folds", 7),
         "7 folds need at least 7 patients (or sites); there are 6"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(
    tmp_path: Path, run: Run, options: tuple[str | int, ...], sentence: str
) -> None:
    done = run("sites", written(tmp_path, grade=1, site=1), "--labels",
               tmp_path / "clinical.csv", *options)  # fmt: skip
    assert done.code == 2
    assert sentence in done.err
