"""``gigassl fewshot`` as a user runs it: the same draws for vectors, controls and MIL."""

import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from gigassl.bags.bag import Bag, save_bag
from gigassl.bags.info import BagInfo
from gigassl.evaluate.predictions import Predictions, open_predictions
from gigassl.evaluate.split_files import SplitList, read_split_lists
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.row import SlideRow
from gigassl.vectors.table import save_table, table_from_rows
from tests.end_to_end.conftest import Run

N, DIM = 60, 6


def tiles(number: int) -> np.ndarray:
    """Twelve tiles of a slide; those of every second patient lie further along the first axis."""
    rng = np.random.default_rng(number)
    shift = np.eye(DIM)[0] * (number // 2 % 2)
    found: np.ndarray = (rng.standard_normal((12, DIM)) + 1.5 * shift).astype(np.float32)
    return found


def bag_of(name: str, features: np.ndarray, coords: np.ndarray) -> Bag:
    info = BagInfo(
        slide_id=name, encoder="some", mpp_l0=0.5, tile_px=224, side_l0=224.0, target_mpp=0.5,
        effective_mpp=0.5,
    )  # fmt: skip
    return Bag(features=features, coords=coords, info=info)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty slides of thirty patients: vectors, bags of all but the last patient, labels."""
    (tmp_path / "bags").mkdir()
    rows, lines = [], ["slide_id,patient_id,grade,size"]
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(3)), axis=-1).reshape(-1, 2) * 224
    for k in range(N):
        name, patient = f"s{k:02}", f"p{k // 2:02}"
        features = tiles(k)
        rows.append(
            SlideRow(
                slide_id=name, patient_id=patient, file=f"{name}.h5", n_tiles=12,
                embedding=l2_normalised(features.mean(axis=0)), settings_digest="seeded",
            )
        )  # fmt: skip
        lines.append(f"{name},{patient},{'ab'[k // 2 % 2]},{k // 2}")
        if k < N - 2:
            save_bag(bag_of(name, features, grid), tmp_path / "bags" / f"{name}.h5")
    save_table(table_from_rows(rows, provenance={}), tmp_path / "ours.parquet")
    (tmp_path / "clinical.csv").write_text("\n".join(lines))
    return tmp_path


def common(folder: Path) -> tuple[object, ...]:
    return (
        "fewshot", folder / "ours.parquet", "--labels", folder / "clinical.csv", "--target",
        "grade", "--scheme", "holdout", "--draws", 2, "--seed", 5,
    )  # fmt: skip


def test_vectors_controls_and_mil_learn_from_the_same_draws(folder: Path, run: Run) -> None:
    out = folder / "out"
    with_mil = ("--train-sizes", "4,k=3,500", "--bags", folder / "bags", "--mil", "mean")
    done = run(*common(folder), *with_mil, "-o", out)
    assert done.code == 0, done.err
    for words in (
        "2 slides with a vector have no bag and are left out", "left out training size 500",
        "ours · giga-ssl", "ours, mean · giga-ssl (control)", "ETA",
    ):  # fmt: skip
        assert words in done.out + done.err, words
    found = open_predictions(out / "predictions.parquet")
    draws = read_split_lists(out / "splits")
    check_draws(draws)
    methods = set(found.data["method"].to_pylist())
    assert {"ours · logistic", "ours · knn", "ours, tile-count · prototype", "mean"} <= methods
    for method in methods:
        check_predicted(found, draws, method=method)
    for name in ("comparison.md", "folds.csv", "learning_curve.png", "learning_curve.svg"):
        assert (out / name).stat().st_size > 0
    drawn = (out / "learning_curve.svg").read_text()
    assert "ours, tile-count · giga-ssl" in drawn
    assert "ours, tile-count · knn" not in drawn


def check_draws(draws: tuple[SplitList, ...]) -> None:
    sizes = [draw.train_size for draw in draws]
    assert {size: sizes.count(size) for size in set(sizes)} == {"4": 2, "k=3": 2}
    assert len({draw.test for draw in draws}) == 1
    patients = {int(name[1:]) // 2 for name in draws[0].test}
    for draw in draws:
        assert not patients & {int(name[1:]) // 2 for name in draw.train}
        if draw.train_size == "4":
            larger = next(d for d in draws if (d.draw, d.train_size) == (draw.draw, "k=3"))
            assert len(draw.train) == 4
            assert set(draw.train) < set(larger.train)


def check_predicted(found: Predictions, draws: tuple[SplitList, ...], *, method: str) -> None:
    rows = found.data.filter(pc.equal(found.data["method"], method))
    assert len(rows) == sum(len(draw.test) for draw in draws)
    for draw in draws:
        here = pc.and_(pc.equal(rows["draw"], draw.draw), pc.equal(rows["fold"], draw.fold))
        part = rows.filter(pc.and_(here, pc.equal(rows["train_size"], draw.train_size)))
        assert sorted(part["slide_id"].to_pylist()) == sorted(draw.test)
        assert set(part["n_train"].to_pylist()) == {len(draw.train)}


def test_a_second_run_trains_no_model_again_and_gives_the_same_bytes(
    folder: Path, run: Run
) -> None:
    out = folder / "out"
    command = (*common(folder), "--train-sizes", "4", "--bags", folder / "bags",
               "--mil", "mean", "--probes", "giga-ssl", "-o", out)  # fmt: skip
    assert run(*command).code == 0
    first = {p.name: p.read_bytes() for p in out.glob("[!.]*") if p.is_file()}
    again = run(*command, "--json")
    assert again.code == 0, again.err
    assert {name: (out / name).read_bytes() for name in first} == first
    assert json.loads(again.out)["interrupted"] is False


def test_published_lists_keep_their_test_sets(folder: Path, run: Run) -> None:
    lists = folder / "lists"
    lists.mkdir()
    names = [f"s{k:02}" for k in range(N)]
    test, train = names[:11], names[11:]  # slides 10 and 11 are of one patient
    rows = [f"{a},{test[k] if k < len(test) else ''}" for k, a in enumerate(train)]
    (lists / "split_0.csv").write_text("\n".join(["train,test", *rows]))
    done = run(*common(folder), "--splits", lists, "--train-sizes", "8,full", "--probes",
               "giga-ssl", "-o", folder / "out")  # fmt: skip
    assert done.code == 0, done.err
    assert "left out 1 training slides" in done.out
    for draw in read_split_lists(folder / "out" / "splits"):
        assert sorted(draw.test) == test
        assert "s11" not in draw.train


def test_a_probe_that_cannot_choose_from_one_slide_a_class_is_named(folder: Path, run: Run) -> None:
    done = run(*common(folder), "--train-sizes", "k=1,k=5", "-o", folder / "out")
    assert done.code == 0, done.err
    assert "left out logistic at training size k=1" in done.out
    found = open_predictions(folder / "out" / "predictions.parquet").data
    learned = found.filter(pc.equal(found["method"], "ours · logistic"))
    assert set(learned["train_size"].to_pylist()) == {"k=5"}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (("--probes", "svm"), "unknown probe 'svm'"),
        (("--probes", "cox"), "cannot predict a classification"),
        (("--mil", "abmil"), "give them with --bags"),
        (("--train-sizes", "1000"), "1000 slides are wanted"),
        (("--train-sizes", "many"), "unknown training size 'many'"),
    ],
)
def test_wrong_settings_are_one_sentence(
    folder: Path, run: Run, wrong: tuple[str, ...], sentence: str
) -> None:
    done = run(*common(folder), *wrong, "-o", folder / "out")
    assert done.code == 2
    assert sentence in done.err
    assert not (folder / "out" / "predictions.parquet").exists()
