"""Loading by name: every kind of name gives the right network, every wrong one a sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from jaxtyping import UInt8

from gigassl.errors import SettingsError
from gigassl.tiles.encoder_files import save_encoder
from gigassl.tiles.encoders import (
    LoadingOptions,
    encoder_record,
    load_encoder,
    plain_network,
)

RESNET = "resnet18@layer3"


def tiles(n: int = 2, side: int = 224, seed: int = 0) -> UInt8[np.ndarray, "tile row col 3"]:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def test_bundled_encoder_recognises_what_it_was_trained_for() -> None:
    encoder = load_encoder("efficientnet-lite0", batch_size=2)
    assert (encoder.dim, encoder.precision) == (1280, "fp32")
    assert encoder.digest == "2b7c4bdcc21e7be9"
    features = encoder.encode(tiles())
    assert features.shape == (2, 1280)
    assert features.dtype == np.float32


def test_an_encoder_is_returned_as_it_is() -> None:
    encoder = load_encoder(f"random:{RESNET}", batch_size=1)
    assert load_encoder(encoder) is encoder


def test_random_weights_follow_the_seed_and_leave_the_global_state_alone() -> None:
    before = torch.random.get_rng_state()
    first, same, other = (
        load_encoder(f"random:{RESNET}{seed}", batch_size=1).digest
        for seed in ("", "?seed=0", "?seed=1")
    )
    assert first == same != other
    assert torch.equal(torch.random.get_rng_state(), before)


def test_cut_network_is_the_mean_of_layer3(tmp_path: Path) -> None:
    network: Any = timm.create_model("resnet18", pretrained=False).eval()
    path = tmp_path / "resnet.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, path)
    encoder = load_encoder(f"{path}::{RESNET}", precision="fp32", batch_size=2)
    record, image = encoder.record, tiles()
    mean, std = torch.tensor(record.mean), torch.tensor(record.std)
    normalised = ((torch.from_numpy(image) / 255.0 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        plane = network.maxpool(network.act1(network.bn1(network.conv1(normalised))))
        plane = network.layer3(network.layer2(network.layer1(plane)))
    assert encoder.dim == 256
    np.testing.assert_allclose(
        encoder.encode(image), plane.mean((2, 3)).numpy(), rtol=1e-4, atol=1e-4
    )


def test_saved_encoder_is_the_same_encoder(tmp_path: Path) -> None:
    name = "random:resnet18@layer3?seed=5"
    path = tmp_path / "mine.safetensors"
    save_encoder(path, record=encoder_record(name), network=plain_network(name))
    saved, original = load_encoder(str(path), batch_size=1), load_encoder(name, batch_size=1)
    assert saved.record.mpp == original.record.mpp
    assert saved.digest == original.digest
    assert np.array_equal(saved.encode(tiles(1)), original.encode(tiles(1)))


def test_mpp_can_be_said_where_no_record_knows_it() -> None:
    options = LoadingOptions(mpp=1.0)
    assert load_encoder(f"random:{RESNET}", batch_size=1, options=options).record.mpp == 1.0


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("efficientnet-lite", "did you mean 'efficientnet-lite0'"),
        ("timm:resnet81", "unknown timm model 'resnet81'; did you mean"),
        ("random:resnet18@layer9", "unknown stage of resnet18 'layer9'.*layer3"),
        ("random:resnet18?sed=1", r"only random:NAME\?seed=N"),
        ("nowhere.pth::resnet18", r"no checkpoint at nowhere\.pth"),
    ],
)
def test_a_wrong_name_gets_a_sentence(name: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        load_encoder(name)


def test_a_checkpoint_without_a_network_says_how_to_name_one(tmp_path: Path) -> None:
    path = tmp_path / "bare.pth"
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(SettingsError, match=r"bare\.pth::resnet18@layer3"):
        load_encoder(str(path))


def offline(tmp_path: Path, code: str) -> str:
    """Runs code in a fresh process whose hub is nothing but the cache under ``tmp_path``."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_hub_encoder_comes_from_the_cache_with_its_own_preprocessing(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--lab--tiny" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    network = timm.create_model("test_resnet.r160_in1k", pretrained=False, num_classes=0)
    torch.save(network.state_dict(), snapshot / "pytorch_model.bin")
    config = {
        "architecture": "test_resnet",
        "num_features": network.num_features,
        "num_classes": 0,
        "pretrained_cfg": {
            "input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6],
            "interpolation": "bilinear", "num_classes": 0,
        },
    }  # fmt: skip
    (snapshot / "config.json").write_text(json.dumps(config))
    code = """
import json
from gigassl.tiles.encoders import load_encoder
encoder = load_encoder("hf-hub:lab/tiny", batch_size=1)
print(json.dumps(encoder.identity()))
"""
    found = json.loads(offline(tmp_path, code))
    assert found["input_px"] == 96
    assert found["mean"] == [0.1, 0.2, 0.3]
    assert found["interpolation"] == "bilinear"
    assert found["dim"] == network.num_features


def test_gated_encoder_says_what_to_do(tmp_path: Path) -> None:
    code = """
from gigassl.errors import SettingsError
from gigassl.tiles.encoders import load_encoder
try:
    load_encoder("uni")
except SettingsError as error:
    print(error)
"""
    sentence = offline(tmp_path, code)
    assert "https://huggingface.co/MahmoodLab/UNI" in sentence
    assert "HF_TOKEN" in sentence


def test_weights_of_another_digest_than_asked_for_are_refused(tmp_path: Path) -> None:
    name = "random:nic:vae?code=4,convolutions=2,first=2,dense=4,px=32"
    encoder = load_encoder(name, device="cpu")
    path = tmp_path / "mine.safetensors"
    save_encoder(path, record=encoder.record, network=encoder.network)
    same = load_encoder(f"{path}#{encoder.digest}", device="cpu")
    assert (same.digest, same.record.name) == (encoder.digest, encoder.record.name)
    other = load_encoder(f"{name},seed=1", device="cpu")
    save_encoder(path, record=other.record, network=other.network)
    refused = pytest.raises(
        SettingsError, match=f"have digest {other.digest}, not {encoder.digest} as was asked for"
    )
    with refused:
        load_encoder(f"{path}#{encoder.digest}", device="cpu")
