"""Training MIL models on the splits of a task: what they learn, and what they never see."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from gigassl.errors import GigasslError, SettingsError
from gigassl.evaluate.mil.models import MIL_MODELS, OF_BAGS
from gigassl.evaluate.mil.run import predict_split, reader_of, run_mil, settings_for
from gigassl.evaluate.mil.settings import MIL_PRESETS, MilSettings
from gigassl.evaluate.mil.training import EpochLoss, fit_mil
from gigassl.evaluate.mil.validation import train_and_validation
from gigassl.evaluate.predictions import joined
from gigassl.evaluate.split import Split
from gigassl.evaluate.splits import SplitSettings, make_splits
from gigassl.evaluate.task import Task
from gigassl.vectors.tile_store import TileStore, store_of_bank
from tests.evaluate.mil.bags import some_task, store_for
from tests.vectors.stores import small_bank

FAST = MilSettings(
    model="abmil", options={"embed": (16,), "hidden": 8}, epochs=12, batch_size=8, lr=0.01,
    patience=5, least_epochs=5, device="cpu",
)  # fmt: skip


def halves(n: int = 40) -> Split:
    return Split(scheme="halves", train=np.arange(0, n - n // 4), test=np.arange(n - n // 4, n))


class Heard:
    """A monitor that remembers."""

    def __init__(self) -> None:
        self.plan, self.losses, self.titles = (0, 0), list[EpochLoss](), list[str]()

    def started(self, n_fits: int, *, n_done: int) -> None:
        self.plan = (n_fits, n_done)

    def epoch_done(self, loss: EpochLoss, *, epochs: int) -> None:
        assert loss.epoch <= epochs
        self.losses.append(loss)

    def fitted(self, title: str) -> None:
        self.titles.append(title)


@pytest.mark.parametrize("name", [name for name in OF_BAGS if name != "dsmil"])
def test_models_find_tiles_that_tell_classes_apart(name: str) -> None:
    task = some_task(60)
    options = {"width": 16} if name == "transmil" else {"embed": (16,)}
    n_epochs = 8 if name == "transmil" else 25
    settings = replace(FAST, model=name, options=options, epochs=n_epochs, least_epochs=n_epochs)
    table = run_mil(task, store_for(task, signal=12), [halves(60)], settings=settings)
    truth = np.array(table["y_true"].to_pylist()) == "b"
    assert roc_auc_score(truth, table["p_b"].to_numpy()) > 0.85


def test_dsmil_finds_the_critical_tile() -> None:
    task = some_task(80)
    settings = replace(FAST, model="dsmil", options={}, epochs=40, least_epochs=40)
    table = run_mil(task, store_for(task, signal=12), [halves(80)], settings=settings)
    truth = np.array(table["y_true"].to_pylist()) == "b"
    assert roc_auc_score(truth, table["p_b"].to_numpy()) > 0.85


def test_values_risks_and_several_classes_are_learned() -> None:
    task = some_task(60, classes=3)
    settings = replace(FAST, epochs=25, least_epochs=25)
    table = run_mil(task, store_for(task), [halves(60)], settings=settings)
    said = np.stack([table[f"p_{name}"].to_numpy() for name in "abc"], axis=1)
    np.testing.assert_allclose(said.sum(axis=1), 1)
    right = [
        name == "abc"[k]
        for name, k in zip(table["y_true"].to_pylist(), said.argmax(1), strict=True)
    ]
    assert np.mean(right) > 0.8
    task = some_task(60, kind="regression", classes=5)
    table = run_mil(task, store_for(task, signal=2), [halves(60)], settings=settings)
    assert np.corrcoef(table["y_true"].to_numpy(), table["value"].to_numpy())[0, 1] > 0.8
    task = some_task(60, kind="survival", classes=5)
    settings = replace(settings, batch_size=32)
    table = run_mil(task, store_for(task, signal=2), [halves(60)], settings=settings)
    assert np.corrcoef(table["time"].to_numpy(), table["risk"].to_numpy())[0, 1] < -0.8


def test_rows_are_those_of_a_table_of_predictions() -> None:
    task = some_task()
    splits = make_splits(task, SplitSettings(folds=4))
    heard = Heard()
    table = run_mil(
        task, store_for(task), splits, settings=replace(FAST, epochs=2), name="mine",
        progress=heard,
    )  # fmt: skip
    predictions = joined("classification", [table], provenance={})
    assert len(predictions) == 40
    assert set(table["method"].to_pylist()) == {"mine"}
    expected = [task.slide_ids[row] for split in splits for row in split.test]
    assert table["slide_id"].to_pylist() == expected
    assert heard.plan == (4, 0)
    assert len(heard.titles) == 4
    assert len(heard.losses) == 8


def test_the_order_of_slides_in_the_store_and_slides_beside_the_task_change_nothing() -> None:
    task = some_task()
    store = store_for(task)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    mixed = replace(
        store, first=store.first[order], count=store.count[order],
        slide_ids=tuple(store.slide_ids[i] for i in order.tolist()),
    )  # fmt: skip
    settings = replace(FAST, epochs=2)
    first, second = (run_mil(task, s, [halves()], settings=settings) for s in (store, mixed))
    assert first.equals(second)
    part = task.rows(np.arange(30))
    split = Split(scheme="x", train=np.arange(20), test=np.arange(20, 30))
    assert len(run_mil(part, store, [split], settings=settings)) == 10


def test_equal_seeds_give_equal_predictions_and_others_others() -> None:
    task = some_task()
    store = store_for(task)
    state = torch.get_rng_state()
    settings = replace(FAST, epochs=3, options={"embed": (16,), "dropout": 0.5}, max_tiles=8)
    runs = [
        run_mil(task, store, [halves()], settings=replace(settings, seed=seed))["p_a"].to_numpy()
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(runs[0], runs[1])
    assert not np.allclose(runs[0], runs[2])
    assert torch.equal(torch.get_rng_state(), state)  # dropout leaves the global one alone


@pytest.mark.parametrize("name", OF_BAGS)
def test_the_number_of_threads_changes_nothing(name: str) -> None:
    task, before = some_task(), torch.get_num_threads()
    options = {"width": 64} if name == "transmil" else {}
    settings = replace(FAST, model=name, options=options, epochs=1, lr=1e-3)
    found = []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            found.append(run_mil(task, store_for(task, dim=64), [halves()], settings=settings))
    finally:
        torch.set_num_threads(before)
    if name == "transmil":  # PyTorch's attention and layer norm round apart
        first, second = (table["p_a"].to_numpy() for table in found)
        np.testing.assert_allclose(first, second, rtol=1e-4)
    else:
        assert found[0].equals(found[1])


def test_a_split_is_learned_alike_alone_and_among_others() -> None:
    task = some_task()
    store = store_for(task)
    splits = make_splits(task, SplitSettings(folds=4))
    settings = replace(FAST, epochs=2)
    together = run_mil(task, store, splits, settings=settings)
    alone = run_mil(task, store, splits[2:3], settings=settings)
    assert alone.equals(together.filter([fold == 2 for fold in together["fold"].to_pylist()]))


@pytest.mark.parametrize("standardise", [False, True])
def test_nothing_of_the_test_slides_is_ever_learned(standardise: bool) -> None:
    task = some_task()
    store = store_for(task)
    settings = replace(FAST, epochs=3, standardise=standardise)
    spoiled = store.features.clone()
    for row in range(30, 40):
        first, count = int(store.first[row]), int(store.count[row])
        spoiled[first : first + count] = 1000.0
    labels = replace(task, target=np.where(np.arange(40) < 30, task.target, 1 - task.target))
    weights = []
    for each_task, features in ((task, store.features), (task, spoiled), (labels, store.features)):
        reader = reader_of(each_task, replace(store, features=features), device="cpu")
        model = fit_mil(each_task, halves(), reader, settings=settings).model
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_training_stops_early_and_the_best_weights_are_kept() -> None:
    task = some_task()
    noise = store_for(task, signal=0)  # nothing to learn: validation gets worse
    reader = reader_of(task, noise, device="cpu")
    settings = replace(FAST, epochs=200, patience=4, least_epochs=6)
    fitted = fit_mil(task, halves(), reader, settings=settings)
    watched = [loss.validation for loss in fitted.curve]
    assert None not in watched
    assert len(watched) < 100
    assert fitted.best_epoch == int(np.argmin(watched)) + 1  # type: ignore[arg-type]
    assert len(watched) == max(6, fitted.best_epoch + 4)
    assert fitted.n_validation > 0
    constant = replace(settings, schedule="constant")
    whole = fit_mil(task, halves(), reader, settings=constant)
    ended = fit_mil(task, halves(), reader, settings=replace(
        constant, epochs=whole.best_epoch, patience=500))  # fmt: skip
    for a, b in zip(whole.model.parameters(), ended.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_models_predict_in_evaluation_mode() -> None:
    task = some_task()
    reader = reader_of(task, store_for(task), device="cpu")
    settings = replace(FAST, epochs=2, options={"embed": (16,), "dropout": 0.9})
    fitted = predict_split(task, halves(), reader, settings=settings).fitted
    first, second = (fitted.predict(np.arange(30, 40)) for _ in range(2))
    assert np.array_equal(first, second)
    assert not fitted.model.training


def test_validation_rows_are_whole_patients_of_every_class_out_of_the_training_rows() -> None:
    task = replace(some_task(), patient_ids=tuple(f"p{n // 4}" for n in range(40)))
    train, val = train_and_validation(task, halves(), share=0.2, seed=0)
    assert sorted([*train, *val]) == list(range(30))
    assert not {task.patient_ids[i] for i in train} & {task.patient_ids[i] for i in val}
    assert set(task.labels[val]) == {0, 1}
    given = replace(halves(), train=np.arange(20), val=np.arange(20, 30))
    train, val = train_and_validation(task, given, share=0.2, seed=0)
    assert (len(train), len(val)) == (20, 10)


def test_few_shots_are_all_learned_from_and_nothing_is_watched() -> None:
    task = some_task()
    few = Split(scheme="few", train=np.arange(4), test=np.arange(20, 40))
    train, val = train_and_validation(task, few, share=0.2, seed=0)
    assert (len(train), len(val)) == (4, 0)
    reader = reader_of(task, store_for(task), device="cpu")
    fitted = fit_mil(task, few, reader, settings=replace(FAST, epochs=30, patience=2))
    assert len(fitted.curve) == fitted.best_epoch == 30


@pytest.mark.parametrize("balance", ["sampling", "loss"])
def test_rare_classes_get_equal_say(balance: Literal["sampling", "loss"]) -> None:
    task = some_task(60)
    task = replace(task, target=(np.arange(60) % 6 == 0).astype(float))
    split = Split(scheme="x", train=np.arange(54), test=np.arange(54, 60))
    means = []
    choices: list[Literal["none", "sampling", "loss"]] = ["none", balance]
    for how in choices:
        settings = replace(FAST, epochs=15, least_epochs=15, validation=0.0, balance=how)
        store = store_for(task, signal=0.0)
        table = run_mil(task, replace(store, features=torch.ones_like(store.features)), [split],
                        settings=settings)  # fmt: skip
        means.append(table["p_b"].to_numpy().mean())
    assert means[0] == pytest.approx(1 / 6, abs=0.05)
    assert means[1] == pytest.approx(1 / 2, abs=0.1)


def test_a_bank_on_disk_is_learned_from(tmp_path: Path) -> None:
    store = store_of_bank(small_bank(tmp_path / "bank", augmentations=3, tiles=6))
    task = replace(some_task(4).rows(np.arange(2)), slide_ids=("s0", "s2"))
    split = Split(scheme="x", train=np.array([0]), test=np.array([1]))
    table = run_mil(task, store, [split], settings=replace(FAST, epochs=2, max_tiles=5))
    assert len(table) == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_precisions_learn(precision: Literal["fp32", "bf16"]) -> None:
    task = some_task(60)
    settings = replace(FAST, epochs=20, least_epochs=20, precision=precision)
    table = run_mil(task, store_for(task), [halves(60)], settings=settings)
    truth = np.array(table["y_true"].to_pylist()) == "b"
    assert roc_auc_score(truth, table["p_b"].to_numpy()) > 0.85


def test_what_cannot_be_trained_is_refused_before_training() -> None:
    task, heard = some_task(), Heard()
    store = store_for(task)

    def refused(
        match: str, *, task: Task = task, store: TileStore = store, settings: MilSettings = FAST
    ) -> None:
        with pytest.raises(SettingsError, match=match):
            run_mil(task, store, [halves()], settings=settings, progress=heard)

    strangers = replace(task, slide_ids=("nobody", *task.slide_ids[1:]))
    refused("1 of 40 slides of task 'toy' have no bag, first 'nobody'", task=strangers)
    holes = store.features.clone()
    holes[int(store.first[7])] = torch.nan
    refused("slide 's7' holds NaN", store=replace(store, features=holes))
    survival = some_task(kind="survival")
    refused("a batch of 1 leaves nothing", task=survival, settings=replace(FAST, batch_size=1))
    refused("unknown MIL model", settings=replace(FAST, model="nobody"))
    assert heard.plan == (0, 0)


def test_a_loss_without_end_is_said() -> None:
    task = some_task()
    with pytest.raises(GigasslError, match=r"became infinite in epoch \d; try a lower"):
        run_mil(task, store_for(task), [halves()], settings=replace(FAST, lr=1e25))


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"epochs": 0}, {"lr": 0.0}, {"validation": 0.9}, {"max_tiles": 0}, {"seed": -1}):
        with pytest.raises(SettingsError):
            MilSettings(**wrong)


def test_every_model_has_a_preset_that_survival_can_use_too() -> None:
    assert list(MIL_PRESETS) == list(MIL_MODELS)
    assert all(preset.model == name for name, preset in MIL_PRESETS.items())
    assert settings_for("abmil", "survival").batch_size == 32
    assert settings_for("abmil", "classification") == MIL_PRESETS["abmil"]
    with pytest.raises(SettingsError, match="unknown MIL model"):
        settings_for("abml", "classification")
