"""Model cards that were damaged or changed by hand: one sentence, whichever part is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gigassl.errors import SettingsError
from gigassl.tiles.encoder_files import save_encoder
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.weights import CARD_KEY, load_checkpoint, save_checkpoint
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.slide_model import (
    SlideEncoderRecord,
    SlideModel,
    load_slide_model,
    save_slide_model,
)


def _rewritten(path: Path, card: Any) -> None:
    """The same tensors with another card."""
    with safe_open(path, framework="pt") as handle:
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata={CARD_KEY: json.dumps(card)})


@pytest.mark.parametrize("card", [[], 5, None, "text"])
def test_a_card_that_is_no_record_is_refused(card: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, {"a": torch.zeros(2)}, card={})
    _rewritten(path, card)
    with pytest.raises(SettingsError, match="its model card is no record"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"record": 5},
        {"record": {}},
        {"record": {"architecture": "mlp", "dim": "wide", "width": 512, "cell": 56.0}},
        {"record": {"architecture": "mlp", "dim": 7, "width": 512, "cell": 56.0}},
        {"version": None},
        {"version": "1"},
    ],
)
def test_a_changed_card_of_a_slide_encoder_is_a_sentence(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    record = SlideEncoderRecord(architecture="mlp", dim=4, width=512, cell=56.0)
    network = new_network("mlp", dim=4, cell=56.0, seed=0)
    save_slide_model(path, SlideModel(record=record, network=network))
    _rewritten(path, {**load_checkpoint(path).card, **changes})
    with pytest.raises(SettingsError, match=r"damaged or was changed|has version") as caught:
        load_slide_model(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mean", [[0.5, 0.5], 0.5, ["a", "b", "c"]])
def test_a_changed_card_of_a_tile_encoder_is_a_sentence(mean: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    encoder = load_encoder(
        "random:nic:vae?code=4,convolutions=2,first=2,dense=4,px=32", device="cpu"
    )
    save_encoder(path, record=encoder.record, network=encoder.network)
    card = load_checkpoint(path).card
    _rewritten(path, {**card, "record": {**card["record"], "mean": mean}})
    with pytest.raises(SettingsError):
        load_encoder(str(path), device="cpu")
