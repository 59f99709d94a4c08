"""Training nic-cnn on the splits of a task; slow ones: the acceptance tasks on digits."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmarks.nic_tasks import Recipe, coded, concordance, encoder, slides_of, store_of
from gigassl.errors import SettingsError
from gigassl.evaluate.mil.crops import settled
from gigassl.evaluate.mil.grid_cnn import LEAST_CROP
from gigassl.evaluate.mil.run import reader_of, run_mil, settings_for
from gigassl.evaluate.mil.settings import MilSettings
from gigassl.evaluate.mil.training import MilTraining, fit_mil
from gigassl.evaluate.simulated_survival import simulate_survival
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Kind, Task
from gigassl.slides.digit_layout import DIGIT_SLIDE_PRESETS
from gigassl.vectors.tile_store import TileStore
from tests.evaluate.mil.bags import some_task
from tests.evaluate.mil.grids import grid_store

SPLIT = Split(scheme="x", train=np.arange(45), test=np.arange(45, 60))
SMALL = {"width": 64, "hidden": 64, "crop": 17}


def preset(kind: Kind = "classification", *, epochs: int = 30) -> MilSettings:
    return replace(settings_for("nic-cnn", kind), epochs=epochs, options=SMALL, device="cpu")


def run(task: Task, store: TileStore, settings: MilSettings) -> pa.Table:
    return run_mil(task, store, [SPLIT], settings=settings)


@pytest.mark.parametrize("variants", [1, 8])
def test_classes_are_learned(variants: int) -> None:
    task = some_task(60, classes=3)
    rows = run(task, grid_store(task, variants=variants), preset())
    said = np.stack([rows[f"p_{name}"].to_numpy() for name in "abc"], axis=1)
    np.testing.assert_allclose(said.sum(axis=1), 1, rtol=1e-5)
    assert np.mean(said.argmax(axis=1) == task.labels[45:]) > 0.7


@pytest.mark.parametrize(("kind", "column", "sign"), [("regression", "value", 1),
                                                      ("survival", "risk", -1)])  # fmt: skip
def test_values_and_risks_are_learned(kind: Kind, column: str, sign: int) -> None:
    task = some_task(60, kind=kind, classes=4)
    rows = run(task, grid_store(task), preset(kind))
    assert sign * np.corrcoef(task.target[45:], rows[column].to_numpy())[0, 1] > 0.8


def test_layout_alone_is_learned_which_no_mean_of_tiles_holds() -> None:
    task = some_task(60)
    store = grid_store(task, shape=(12, 12), fill=1.0)
    assert store.cells is not None
    noise = torch.randn(store.features.shape, generator=torch.Generator().manual_seed(0))
    for slide, target in enumerate(task.target):
        first, count = int(store.first[slide]), int(store.count[slide])
        cells = store.cells[first : first + count] - 3
        marked = (cells[:, 0] % 2 == 0) if target else (cells[:, 1] % 2 == 0)  # rows or columns
        noise[first : first + count, 0] = 3 * marked.float()
    drawn = replace(store, features=noise.half())
    rows = run(task, drawn, preset())
    assert np.mean((rows["p_b"].to_numpy() > 0.5) == task.labels[45:]) > 0.9
    blind = replace(MilSettings(model="mean-mlp"), epochs=20, lr=1e-3, device="cpu")
    rows = run(task, drawn, blind)
    assert np.mean((rows["p_b"].to_numpy() > 0.5) == task.labels[45:]) < 0.9


def test_equal_seeds_give_equal_predictions_and_nothing_of_test_slides_is_learned() -> None:
    task = some_task(60)
    store = grid_store(task, variants=8)
    settings = preset(epochs=2)
    first, same, other = (
        run(task, store, replace(settings, seed=seed))["p_b"].to_numpy() for seed in (1, 1, 2)
    )
    assert np.array_equal(first, same)
    assert not np.allclose(first, other)
    spoiled = store.features.clone()
    spoiled[int(store.first[45, 0]) :] = 1000.0
    weights = [
        torch.cat([p.flatten() for p in fit_mil(
            task, SPLIT, reader_of(task, replace(store, features=features), device="cpu"),
            settings=settings).model.parameters()])
        for features in (store.features, spoiled)
    ]  # fmt: skip
    assert torch.equal(weights[0], weights[1])


def test_the_learning_rate_falls_by_ten_on_a_plateau_and_no_lower_than_said() -> None:
    task = some_task(60)
    store = grid_store(task)
    noise = replace(store, features=torch.zeros_like(store.features))
    settings = replace(preset(epochs=40), plateau=2, patience=100)
    training = MilTraining(
        task, SPLIT, reader_of(task, noise, device="cpu"), settings=settled(settings, noise)
    )
    rates, waited, lowest, expected = [], 0, np.inf, [1e-2]
    for loss in training.epochs():
        assert loss.validation is not None
        rates.append(training.optimiser.param_groups[0]["lr"])
        waited = 0 if loss.validation < lowest else waited + 1
        lowest = min(lowest, loss.validation)
        if waited == 2:
            expected.append(max(expected[-1] / 10, 1e-5))
            waited = 0
        assert rates[-1] == pytest.approx(max(expected[-1], 1e-5))
        training.optimiser.zero_grad()
    assert rates[-1] == pytest.approx(1e-5)


def test_a_bag_left_over_joins_the_batch_before() -> None:
    task = some_task(60)
    store = grid_store(task)
    reader = reader_of(task, store, device="cpu")
    sizes = {}
    for n_train in (32, 33, 34):
        split = Split(scheme="x", train=np.arange(n_train), test=np.arange(45, 60))
        settings = replace(preset(epochs=1), validation=0.0, balance="none")
        training = MilTraining(task, split, reader, settings=settings)
        batches = training.batches(training.order(0))
        sizes[n_train] = [len(batch) for batch in batches]
        assert sorted(np.concatenate(batches).tolist()) == list(range(n_train))
        next(training.epochs())
    assert sizes == {32: [16, 16], 33: [16, 17], 34: [16, 16, 2]}


def test_what_cannot_be_is_refused_before_training() -> None:
    task = some_task(60)
    for wrong, match in ((replace(preset(), batch_size=1), "a batch of 1 leaves nothing"),
                         (replace(preset(), options={"crop": 9}), "at least 17")):  # fmt: skip
        with pytest.raises(SettingsError, match=match):
            run(task, grid_store(task), wrong)
    with pytest.raises(SettingsError, match="a plateau has no warm-up"):
        replace(preset(), warmup_epochs=1)


@pytest.fixture(scope="module")
def untrained() -> torch.nn.Module:
    """The control of all tasks on digits, which passes most of their thresholds itself."""
    return encoder(0, seed=0)


@pytest.mark.slow
def test_n8_and_m3_the_share_of_a_digit_and_the_hazard_that_it_makes(
    untrained: torch.nn.Module,
) -> None:
    wanted = DIGIT_SLIDE_PRESETS["standard"]
    given = slides_of(wanted, n_train=500, n_test=300, seed=0, mixtures=True)
    codes = {"untrained": coded(given.tiles, untrained), "mean": coded(given.tiles, None)}
    recipe, tested = Recipe(epochs=30, crop=None, seed=0), np.arange(500, 800)
    share = {}
    for name, of_slides in codes.items():
        rows = recipe.run("regression", store_of(of_slides), given.share, n_train=500)
        share[name] = np.corrcoef(*np.argsort(np.argsort(
            [rows["value"].to_numpy(), given.share[tested]], axis=1), axis=1))[0, 1]  # fmt: skip
    assert share["untrained"] >= 0.85
    assert share["untrained"] > share["mean"]
    times = simulate_survival(given.share, seed=0)
    rows = replace(recipe, epochs=60, crop=LEAST_CROP).run(
        "survival", store_of(codes["untrained"]), times.time, n_train=500, event=times.event
    )
    seen = times.time[tested], times.event[tested]
    found = concordance(*seen, rows["risk"].to_numpy())
    assert found >= 0.58
    assert found >= concordance(*seen, times.log_hazard[tested]) - 0.05


@pytest.mark.slow
def test_n5_the_class_of_the_tilted_rectangle_needs_more_than_intensity(
    untrained: torch.nn.Module,
) -> None:
    given = slides_of(DIGIT_SLIDE_PRESETS["easy"], n_train=2000, n_test=300, seed=0)
    recipe = Recipe(epochs=15, crop=None, seed=0)
    seeing, blind = (
        recipe.accuracy(store_of(coded(given.tiles, network)), given)
        for network in (untrained, None)
    )
    assert blind <= 0.65
    assert seeing >= blind + 0.25
