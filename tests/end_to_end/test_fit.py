"""``fit`` and ``predict`` through the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gigassl.evaluate.frozen import load_frozen
from gigassl.evaluate.predictions import open_predictions
from tests.end_to_end.cohorts import by_patient, save_labels, save_vectors
from tests.end_to_end.conftest import Run

KINDS = {
    "classes": (["--target", "msi"], "logistic"),
    "several": (["--target", "grade"], "logistic"),
    "values": (["--target", "expr"], "ridge"),
    "survival": (["--time", "time", "--event", "event"], "cox"),
}


def make_cohort(folder: Path, n: int, *, seed: int, encoder: str = "e") -> Path:
    folder.mkdir()
    prefix = folder.name
    vectors = save_vectors(folder / "v.parquet", n, seed=seed, prefix=prefix, encoder=encoder)
    rng = np.random.default_rng(seed + 1)
    x = by_patient(vectors[:, 0]) * 10 + by_patient(rng.normal(size=n))
    save_labels(
        folder / "labels.csv",
        {
            "msi": np.where(x > 0, "yes", "no").tolist(),
            "grade": [f"g{k}" for k in np.digitize(x, [-0.7, 0.7])],
            "expr": x.tolist(),
            "time": np.exp(-x + 0.3 * by_patient(rng.normal(size=n))).tolist(),
            "event": (by_patient(rng.random(n)) > 0.3).astype(int).tolist(),
            "other": np.where(x > 0, "MSI-H", "MSS").tolist(),
        },
        prefix=prefix,
    )
    return folder


@pytest.fixture
def cohorts(tmp_path: Path) -> tuple[Path, Path]:
    one, other = make_cohort(tmp_path / "a", 120, seed=0), make_cohort(tmp_path / "b", 80, seed=7)
    return one, other


@pytest.mark.parametrize("kind", KINDS)
def test_train_here_and_test_there_is_one_command(
    run: Run, cohorts: tuple[Path, Path], kind: str
) -> None:
    (one, other), (which, method) = cohorts, KINDS[kind]
    out = one / "p.safetensors"
    done = run("fit", one / "v.parquet", "--labels", one / "labels.csv", *which, "-o", out,
               "--test", other / "v.parquet", "--test-labels", other / "labels.csv")  # fmt: skip
    assert done.code == 0, done.err
    assert f"{method} probe of" in done.out
    assert "80 slides tested of 40 patients" in done.out
    assert ("At the frozen threshold, 'yes' from" in done.out) == (kind == "classes")
    again = one / "again.parquet"
    named = [] if kind != "survival" else which
    done = run("predict", out, other / "v.parquet", "-o", again, "--labels",
               other / "labels.csv", *named, "--json")  # fmt: skip
    assert done.code == 0, done.err
    assert again.read_bytes() == (one / "p.test.parquet").read_bytes()
    score = json.loads(done.out)["scores"][0]
    assert max(v for v in score.values() if isinstance(v, float)) > 0.6


def test_a_frozen_probe_says_what_its_file_says(run: Run, cohorts: tuple[Path, Path]) -> None:
    one, other = cohorts
    out, said = one / "p.safetensors", other / "said.parquet"
    done = run("fit", one / "v.parquet", "--labels", one / "labels.csv", "--target", "msi",
               "-o", out, "--threshold", "sensitivity=0.9", "--json")  # fmt: skip
    assert json.loads(done.out)["patients"] == 60
    frozen = load_frozen(out)
    assert (frozen.classes, frozen.rule) == (("no", "yes"), "sensitivity=0.9")
    assert (len(frozen.slides), len(frozen.made["out_of_fold"])) == (120, 1)
    assert run("predict", out, other / "v.parquet", "-o", said).code == 0
    data = open_predictions(said).data
    assert data["y_true"].null_count == data.num_rows == 160
    calibrated = data.filter(np.array(["not" not in m for m in data["method"].to_pylist()]))
    p = calibrated["p_yes"].to_numpy()
    assert frozen.threshold is not None
    decided = np.where(p >= frozen.threshold, "yes", "no").tolist()
    assert data["decision"].to_pylist() == decided * 2
    assert set(data["n_train"].to_pylist()) == {120}
    # the threshold was chosen on calibrated out-of-fold predictions
    oof = open_predictions(one / "p.out-of-fold.parquet").data
    before = np.stack([oof["p_no"].to_numpy(), oof["p_yes"].to_numpy()], axis=1)
    positive = np.array(oof["y_true"].to_pylist()) == "yes"
    assert (frozen.calibrated(before)[positive, 1] >= frozen.threshold).mean() >= 0.9
    assert roc_auc_score(positive, before[:, 1]) > 0.65
    assert json.loads(run("inspect", out, "--json").out)["card"]["kind"] == "probe"


def test_inspect_says_what_probes_and_predictions_are(run: Run, cohorts: tuple[Path, Path]) -> None:
    one, _ = cohorts
    out = one / "p.safetensors"
    run("fit", one / "v.parquet", "--labels", one / "labels.csv", "--target", "msi", "-o", out)
    probe = json.loads(run("inspect", out, "--json").out)
    assert probe["kind"] == "probe"
    assert probe["card"]["training"] == {"n_slides": 120, "n_patients": 60}
    assert 0.5 < probe["card"]["made"]["out_of_fold"]["auc_fold_mean"] <= 1
    said = json.loads(run("inspect", one / "p.out-of-fold.parquet", "--json").out)
    assert said["kind"] == "predictions (classification)"
    assert (said["rows"], said["slides"], said["patients"]) == (120, 120, 60)


def test_equal_runs_give_equal_bytes(run: Run, cohorts: tuple[Path, Path]) -> None:
    one, _ = cohorts
    for name in ("p", "q"):
        run("fit", one / "v.parquet", "--labels", one / "labels.csv", "--target", "msi",
            "-o", one / f"{name}.safetensors")  # fmt: skip
    assert (one / "p.safetensors").read_bytes() == (one / "q.safetensors").read_bytes()


def test_patients_of_training_are_left_out_and_named(
    run: Run, cohorts: tuple[Path, Path], tmp_path: Path
) -> None:
    one, _ = cohorts
    out = one / "p.safetensors"
    run("fit", one / "v.parquet", "--labels", one / "labels.csv", "--target", "msi", "-o", out)
    larger = make_cohort(tmp_path / "larger", 10, seed=3)
    save_vectors(larger / "v.parquet", 160, prefix="a")
    done = run("predict", out, larger / "v.parquet", "-o", larger / "said.parquet")
    assert "120 of 160 slides are of patients that the probe learned from, and are left" in done.out
    assert open_predictions(larger / "said.parquet").data.num_rows == 2 * 40
    done = run("predict", out, one / "v.parquet", "-o", one / "said.parquet")
    assert (done.code, "all 120 slides are of patients" in done.err) == (2, True)
    done = run("predict", out, one / "v.parquet", "-o", one / "x.parquet", "--include-training")
    assert (done.code, "the scores are too good" in done.out) == (0, True)


def test_other_vectors_are_refused_unless_allowed(
    run: Run, cohorts: tuple[Path, Path], tmp_path: Path
) -> None:
    one, _ = cohorts
    out, said = one / "p.safetensors", tmp_path / "said.parquet"
    run("fit", one / "v.parquet", "--labels", one / "labels.csv", "--target", "msi", "-o", out)
    other = make_cohort(tmp_path / "c", 40, seed=3, encoder="f")
    done = run("predict", out, other / "v.parquet", "-o", said)
    assert done.code == 2
    assert "digest-e, these have digest-f; they differ in: tile_encoder (e and f)" in done.err
    done = run("predict", out, other / "v.parquet", "-o", said, "--allow-other-vectors")
    assert (done.code, "they differ in: tile_encoder" in done.out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--target", "other"], "name 'MSI-H', 'MSS'; the probe learned the classes no, yes"),
        (["--target", "absent"], "no column 'absent'"),
        (["-o", "x.csv"], "ends in .parquet"),
    ],
)
def test_what_cannot_be_predicted_is_one_sentence(
    run: Run, cohorts: tuple[Path, Path], arguments: list[str], reason: str
) -> None:
    one, other = cohorts
    out = one / "p.safetensors"
    run("fit", one / "v.parquet", "--labels", one / "labels.csv", "--target", "msi", "-o", out)
    done = run("predict", out, other / "v.parquet", "--labels", other / "labels.csv",
               "-o", other / "s.parquet", *arguments)  # fmt: skip
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert reason in done.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--threshold", "best"], "the rule of the threshold"),
        (["--scheme", "holdout"], "one a slide"),
        (["--probe", "ridge"], "cannot predict a classification"),
        (["--strength", "3"], "name it with --probe"),
        (["--test-labels", "x.csv"], "give both"),
        (["-o", "p.pkl"], "frozen probes are .safetensors"),
    ],
)
def test_what_cannot_be_learned_is_one_sentence(
    run: Run, cohorts: tuple[Path, Path], arguments: list[str], reason: str
) -> None:
    one, _ = cohorts
    done = run("fit", one / "v.parquet", "--labels", one / "labels.csv", "--target", "msi",
               "-o", one / "p.safetensors", *arguments)  # fmt: skip
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert reason in done.err
    assert not (one / "p.safetensors").exists()


def test_another_file_is_no_probe(run: Run, cohorts: tuple[Path, Path]) -> None:
    one, _ = cohorts
    done = run("predict", one / "labels.csv", one / "v.parquet", "-o", one / "s.parquet")
    assert done.code == 2
    done = run("predict", one / "absent.safetensors", one / "v.parquet", "-o", one / "s.parquet")
    assert (done.code, "no checkpoint at" in done.err) == (2, True)
