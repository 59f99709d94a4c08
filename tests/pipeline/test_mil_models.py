"""Models kept of a MIL run, named methods, and nic-cnn on bags: whole runs on files."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gigassl.bags.bag import Bag, save_bag
from gigassl.errors import SettingsError
from gigassl.evaluate.mil.saved import load_mil_model
from gigassl.evaluate.mil.training import EpochLoss, Quiet
from gigassl.evaluate.predictions import open_predictions
from gigassl.evaluate.splits import SplitSettings
from gigassl.pipeline.evaluation import TaskOptions
from gigassl.pipeline.mil import MilOptions, mil, open_bags
from gigassl.pipeline.mil_models import models_beside
from gigassl.pipeline.mil_result import MilResult
from gigassl.pipeline.pretrain_data import training_data
from tests.vectors.stores import grid_bag

N = 12
CHANGES: Mapping[str, Any] = {"epochs": 1, "batch_size": 4, "device": "cpu"}
KEPT = MilOptions(models=("mean",), changes=CHANGES, keep_models=True)
GRID = MilOptions(models=("nic-cnn",), changes=CHANGES, keep_models=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Bags of 12 patients, whose tiles say their grade, and turned variants of half the number."""
    lines = ["slide_id,patient_id,grade"]
    for name in ("bags", "turned"):
        (tmp_path / name).mkdir()
    for number in range(N):
        bag = grid_bag(f"s{number:02}", cols=4, rows=3)
        features = (bag.features + 2 * (number % 2)).astype(np.float16)
        plain = Bag(features=features, coords=bag.coords, info=bag.info)
        save_bag(plain, tmp_path / "bags" / f"s{number:02}.h5")
        turned = replace(plain, variants=np.stack([features / 2] * 7).astype(np.float16))
        save_bag(turned, tmp_path / "turned" / f"s{number:02}.h5")
        lines.append(f"s{number:02},p{number:02},{'ab'[number % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path


class Killed(Quiet):
    """Interrupts after so many models."""

    def __init__(self, after: int) -> None:
        self.left = after

    def epoch_done(self, loss: EpochLoss, *, epochs: int) -> None:
        if self.left == 0:
            raise KeyboardInterrupt

    def fitted(self, title: str) -> None:
        self.left -= 1


def run(
    folder: Path, models: MilOptions = KEPT, *, bags: str = "bags", out: str = "p.parquet",
    after: int = -1,
) -> MilResult:  # fmt: skip
    options = TaskOptions(
        labels=folder / "labels.csv", target="grade", split=SplitSettings(folds=2)
    )
    return mil(
        folder / bags, folder / out, options=options, models=models, monitor=Killed(after)
    )  # fmt: skip


def test_each_split_leaves_a_model_that_says_what_the_table_says(folder: Path) -> None:
    result = run(folder)
    kept = models_beside(folder / "p.parquet")
    assert result.models == kept
    assert str(kept) in result.sentence()
    assert sorted(path.name for path in kept.iterdir()) == [
        f"mean-patient-kfold-full-draw0-fold{fold}.safetensors" for fold in (0, 1)
    ]
    table, store = (
        open_predictions(folder / "p.parquet").data.to_pylist(),
        open_bags(folder / "bags"),
    )
    for path in kept.iterdir():
        loaded = load_mil_model(path)
        mine = [row for row in table if row["fold"] == loaded.split["fold"]]
        assert {row["slide_id"] for row in mine} == set(loaded.tested)
        assert not loaded.learned & loaded.tested
        slides = np.array([store.slide_ids.index(row["slide_id"]) for row in mine])
        said = loaded.predict(loaded.reader(store), slides)
        assert [row["p_b"] for row in mine] == said[:, 1].tolist()
        assert loaded.tiles["encoder"] == "some"
        assert loaded.made["epochs"] == 1


def test_a_killed_run_goes_on_and_keeps_the_same_bytes(folder: Path) -> None:
    run(folder, out="whole.parquet")
    assert run(folder, after=1).interrupted
    second = run(folder)
    assert (second.n_new, second.n_reused) == (1, 1)
    whole, mine = (models_beside(folder / out) for out in ("whole.parquet", "p.parquet"))
    for path in whole.iterdir():
        assert path.read_bytes() == (mine / path.name).read_bytes()


@pytest.mark.parametrize("how", ["missing", "damaged", "of another run"])
def test_models_that_are_not_there_are_trained_for(folder: Path, how: str) -> None:
    if how == "missing":
        run(folder, replace(KEPT, keep_models=False))
    else:
        run(folder)
    kept = models_beside(folder / "p.parquet")
    first = kept / "mean-patient-kfold-full-draw0-fold0.safetensors"
    if how == "damaged":
        first.write_bytes(b"nothing")
    elif how == "of another run":
        run(folder, replace(KEPT, changes={**CHANGES, "lr": 1e-3}), out="q.parquet")
        other = models_beside(folder / "q.parquet") / first.name
        first.write_bytes(other.read_bytes())
    before = (folder / "p.parquet").read_bytes()
    assert run(folder).n_new == 2
    assert load_mil_model(first).settings.lr == KEPT.changes.get("lr", 2e-4)
    assert (folder / "p.parquet").read_bytes() == before
    assert run(folder).n_new == 0


def test_a_name_for_one_model_and_before_the_names_of_several(folder: Path) -> None:
    run(folder, replace(KEPT, name="multitask"))
    assert set(open_predictions(folder / "p.parquet").data["method"].to_pylist()) == {"multitask"}
    both = replace(KEPT, name="vae", models=("mean", "max"), restart=True, keep_models=False)
    run(folder, both)
    named = set(open_predictions(folder / "p.parquet").data["method"].to_pylist())
    assert named == {"vae mean", "vae max"}
    run(folder, replace(both, restart=False))
    with pytest.raises(SettingsError, match="was made with other"):
        run(folder, replace(both, restart=False, name="bigan"))


def test_the_slide_cnn_trains_on_turned_variants_and_is_kept_whole(folder: Path) -> None:
    result = run(folder, GRID, bags="turned")
    assert result.predictions is not None
    store = training_data(folder / "turned", on_grid=True).store
    rows = result.predictions.data.to_pylist()
    assert len(rows) == N
    for path in models_beside(folder / "p.parquet").iterdir():
        loaded = load_mil_model(path)
        assert loaded.settings.options == {"crop": 17}
        mine = [row for row in rows if row["fold"] == loaded.split["fold"]]
        slides = np.array([store.slide_ids.index(row["slide_id"]) for row in mine])
        reader = loaded.reader(store)
        assert [reader.n_views(slide) for slide in slides.tolist()] == [80] * len(mine)
        said = loaded.predict(reader, slides)
        assert [row["p_b"] for row in mine] == said[:, 1].tolist()
        with pytest.raises(SettingsError, match="wants bags whose tiles lie on a grid"):
            loaded.predict(loaded.reader(open_bags(folder / "turned")), slides)


def test_other_models_do_not_see_the_variants(folder: Path) -> None:
    beside = replace(GRID, models=("mean", "nic-cnn"), keep_models=False)
    run(folder, beside, bags="turned")
    run(folder, out="q.parquet")
    tables = [open_predictions(folder / out).data.to_pylist() for out in ("p.parquet", "q.parquet")]
    mine = [row for row in tables[0] if row["method"] == "mean"]
    assert [row["p_b"] for row in mine] == [row["p_b"] for row in tables[1]]


def test_crops_are_only_for_models_that_see_them(folder: Path) -> None:
    with pytest.raises(SettingsError, match="only nic-cnn sees crops; got a crop of 40 for mean"):
        run(folder, replace(KEPT, crop=40))
    run(folder, replace(GRID, crop=40))
    path = next(models_beside(folder / "p.parquet").iterdir())
    assert load_mil_model(path).settings.options == {"crop": 40}
    for wrong, match in ((12, "at least 17 cells"), (None, "a batch of 1 leaves nothing")):
        changes = {**CHANGES, "batch_size": 1} if wrong is None else CHANGES
        with pytest.raises(SettingsError, match=match):
            run(folder, replace(GRID, crop=wrong, changes=changes), out="r.parquet")
