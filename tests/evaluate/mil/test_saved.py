"""Saved MIL models: a loaded one says what the trained one said, to the bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gigassl.errors import SettingsError
from gigassl.evaluate.mil.run import reader_of
from gigassl.evaluate.mil.saved import SavedMil, load_mil_model, save_mil_model, saved_of
from gigassl.evaluate.mil.settings import MilSettings
from gigassl.evaluate.mil.training import FittedMil, fit_mil
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Kind
from gigassl.tiles.weights import load_checkpoint, save_checkpoint
from tests.evaluate.mil.bags import some_task, store_for

MODELS = ("mean", "max", "mean-mlp", "abmil", "gated-abmil", "clam-sb", "dsmil", "transmil")
TEST = np.arange(30, 40)
SPLIT = Split(scheme="published:x", fold=2, train=np.arange(28), test=TEST)
TILES = {"encoder": "toy", "encoder_digest": "0123", "mpp": 0.5, "tile_um": 112.0}


def trained(model: str, *, kind: Kind = "classification") -> tuple[FittedMil, MilSettings]:
    task = some_task(kind=kind, classes=3)
    settings = MilSettings(
        model=model, epochs=1, batch_size=8, standardise=True, lr=1e-3, device="cpu"
    )
    reader = reader_of(task, store_for(task), device="cpu")
    return fit_mil(task, SPLIT, reader, settings=settings), settings


def kept(fitted: FittedMil, settings: MilSettings) -> SavedMil:
    return saved_of(
        fitted, SPLIT, method="mine", settings=settings, tiles=TILES, made={"epochs": 1}
    )


@pytest.mark.parametrize("model", MODELS)
def test_a_loaded_model_predicts_the_same_to_the_bit(model: str, tmp_path: Path) -> None:
    fitted, settings = trained(model)
    path = tmp_path / "m.safetensors"
    save_mil_model(kept(fitted, settings), path)
    loaded = load_mil_model(path)
    store = store_for(some_task(classes=3))
    found = loaded.predict(loaded.reader(store), TEST)
    assert np.array_equal(found, fitted.predict(TEST))
    assert not loaded.model.training


@pytest.mark.parametrize("kind", ["regression", "survival"])
def test_values_and_risks_too(kind: Kind, tmp_path: Path) -> None:
    fitted, settings = trained("abmil", kind=kind)
    path = tmp_path / "m.safetensors"
    save_mil_model(kept(fitted, settings), path)
    loaded = load_mil_model(path)
    store = store_for(some_task(kind=kind, classes=3))
    assert np.array_equal(loaded.predict(loaded.reader(store), TEST), fitted.predict(TEST))


def test_the_file_says_what_it_is_and_what_it_saw(tmp_path: Path) -> None:
    fitted, settings = trained("abmil")
    path = tmp_path / "m.safetensors"
    save_mil_model(kept(fitted, settings), path)
    loaded = load_mil_model(path)
    # the device is no part of what was learned
    assert replace(loaded.settings, device="cpu") == settings
    assert loaded.method == "mine"
    assert (loaded.aim.name, loaded.aim.kind, loaded.aim.classes) == (
        "toy", "classification", ("a", "b", "c"),
    )  # fmt: skip
    assert loaded.split == {
        "scheme": "published:x", "train_size": "full", "draw": 0, "fold": 2,
    }  # fmt: skip
    assert loaded.learned == {f"s{n}" for n in range(28)}
    assert loaded.tested == {f"s{n}" for n in range(30, 40)}
    assert loaded.saw("s3")
    assert not loaded.saw("s28")
    assert loaded.saw("another slide", "s3")  # patients bear the names of slides here
    assert (loaded.tiles, loaded.made) == (TILES, {"epochs": 1})
    again = tmp_path / "again.safetensors"
    save_mil_model(loaded, again)
    assert again.read_bytes() == path.read_bytes()


def test_other_files_and_other_features_are_refused_in_a_sentence(tmp_path: Path) -> None:
    fitted, settings = trained("abmil")
    path = tmp_path / "m.safetensors"
    save_mil_model(kept(fitted, settings), path)
    loaded = load_mil_model(path)
    with pytest.raises(SettingsError, match=r"of 8 numbers; these have 5. Encode .* with toy"):
        loaded.reader(store_for(some_task(), dim=5))
    checkpoint = load_checkpoint(path)
    wrong = tmp_path / "wrong.safetensors"
    save_checkpoint(wrong, checkpoint.tensors, card={**checkpoint.card, "version": 99})
    with pytest.raises(SettingsError, match="version 99"):
        load_mil_model(wrong)
    save_checkpoint(wrong, checkpoint.tensors, card={"kind": "probe"})
    with pytest.raises(SettingsError, match="no MIL model; make one with"):
        load_mil_model(wrong)
    save_checkpoint(wrong, {"network.head.bias": torch.zeros(1)}, card=checkpoint.card)
    with pytest.raises(SettingsError, match="its model card and weights cannot be used"):
        load_mil_model(wrong)
    (tmp_path / "x.csv").write_text("a,b")
    with pytest.raises(SettingsError, match=r"those are \.safetensors"):
        load_mil_model(tmp_path / "x.csv")
