"""``gigassl mil`` as a user runs it: scores, splits for the next method, bad input."""

import json
from pathlib import Path

import pytest

from gigassl.bags.bag import Bag, save_bag
from gigassl.evaluate.predictions import open_predictions
from tests.end_to_end.conftest import Run
from tests.vectors.stores import grid_bag, small_bank

N = 30
FAST = ("--epochs", 3, "--batch-size", 8, "--folds", 3, "--device", "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Bags of 30 slides of 15 patients, whose first tiles say their grade; and a table."""
    lines = ["slide_id,patient_id,grade,stage,age,months,dead"]
    (tmp_path / "bags").mkdir()
    for number in range(N):
        patient, bag = number // 2, grid_bag(f"s{number:02}", cols=4, rows=3, dim=8)
        features = bag.features.copy()
        features[:2, 0] += 8 * (patient % 2)
        save_bag(
            Bag(features=features, coords=bag.coords, info=bag.info),
            tmp_path / "bags" / f"s{number:02}.h5",
        )
        months, dead = 5 + 40 / (1 + patient) + number / 100, int(number % 3 > 0)
        lines.append(
            f"s{number:02},p{patient:02},{'ab'[patient % 2]},{'xyz'[patient % 3]},"
            f"{40 + patient},{months},{dead}"
        )
    (tmp_path / "clinical.csv").write_text("\n".join(lines))
    return tmp_path


def test_all_models_on_the_same_folds(folder: Path, run: Run) -> None:
    out = folder / "mil.parquet"
    common = (folder / "bags", "--labels", folder / "clinical.csv", "--target", "grade")
    done = run("mil", *common, "--model", "all", *FAST, "-o", out)
    assert done.code == 0, done.err
    for words in ("task 'grade': 30 slides of 15 patients", "leaks of grade", "gated-abmil",
                  "clam-sb", "dsmil", "transmil", "24 models", "24/24 models"):  # fmt: skip
        assert words in done.out + done.err, words
    assert len(open_predictions(out)) == 8 * N
    again = run("mil", *common, "--model", "abmil,max", *FAST[:4], "--device", "cpu", "--splits",
                folder / "mil.parquet.splits", "-o", folder / "q.parquet", "--json")  # fmt: skip
    said = json.loads(again.out)
    assert (said["models_new"], said["failed"]) == (6, 0)
    tables = [open_predictions(path).data for path in (out, folder / "q.parquet")]
    mine = [t.filter([m == "abmil" for m in t["method"].to_pylist()]) for t in tables]
    assert mine[0].drop(["split"]).equals(mine[1].drop(["split"]))


@pytest.mark.parametrize(
    ("target", "word"),
    [(("--target", "age"), "Spearman"), (("--time", "months", "--event", "dead"), "C-index"),
     (("--target", "stage"), "x 10, y 10, z 10")],
)  # fmt: skip
def test_values_survival_and_several_classes(
    folder: Path, run: Run, target: tuple[str, ...], word: str
) -> None:
    done = run(
        "mil", folder / "bags", "--labels", folder / "clinical.csv", *target, *FAST[:2], *FAST[4:],
        "--model", "gated-abmil", "--standardise", "-o", folder / "p.parquet",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert word in done.out


def test_a_bank(tmp_path: Path, run: Run) -> None:
    small_bank(tmp_path / "bank", augmentations=2)
    (tmp_path / "labels.csv").write_text("slide_id,label\ns0,a\ns2,b\n")
    done = run("mil", tmp_path / "bank", "--labels", tmp_path / "labels.csv", *FAST, "-o",
               tmp_path / "p.parquet")  # fmt: skip
    assert done.code == 2  # two slides are a task of one patient a class
    assert "class 'a' has 1 patient" in done.err


def test_bad_bags_and_options_are_one_sentence(folder: Path, run: Run) -> None:
    common = (folder / "bags", "--labels", folder / "clinical.csv", "--target", "grade", "-o",
              folder / "p.parquet")  # fmt: skip
    for wrong, words in (
        (("--model", "abml"), "unknown MIL model 'abml'"),
        (("--lr", 0), "learning rate must be positive"),
        (("--patients", "vectors"), "bags have no mean vector"),
        (("--device", "cuda:9"), "CUDA"),
        (("--splits", folder / "nowhere"), "nowhere"),
    ):
        done = run("mil", *common, *wrong)
        assert done.code == 2, done.out
        assert words in done.err
        assert "Traceback" not in done.err
    (folder / "bags" / "s07.h5").write_bytes(b"nothing")
    done = run("mil", *common, *FAST)
    assert done.code == 1
    assert "1 bags failed" in done.out
    assert "s07" in (folder / "p.failures.csv").read_text()


def test_the_slide_cnn_and_kept_models(folder: Path, run: Run) -> None:
    common = (folder / "bags", "--labels", folder / "clinical.csv", "--target", "grade", *FAST)
    out = folder / "vae.parquet"
    done = run("mil", *common, "--model", "nic-cnn", "--name", "vae codes", "--keep-models",
               "-o", out)  # fmt: skip
    assert done.code == 0, done.err
    assert "vae codes" in done.out
    assert f"the models: {out}.models" in done.out
    names = sorted(path.name for path in (folder / "vae.parquet.models").iterdir())
    assert names == [f"vae-codes-patient-kfold-full-draw0-fold{k}.safetensors" for k in range(3)]
    other = folder / "other.parquet"
    run("mil", *common, "--model", "nic-cnn", "--name", "other codes", "--crop", 20, "--splits",
        f"{out}.splits", "-o", other)  # fmt: skip
    both = run("compare", out, other)
    assert both.code == 0, both.err
    assert "vae codes" in both.out
    assert "other codes" in both.out
    small_bank(folder / "bank", augmentations=2)
    wrong = run("mil", folder / "bank", *common[1:], "--model", "nic-cnn", "-o", folder / "x")
    assert wrong.code == 2
    assert "Traceback" not in wrong.err
