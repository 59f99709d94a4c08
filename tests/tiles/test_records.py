"""The table of encoders: every row builds, and its width is what the network really gives."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from gigassl.errors import SettingsError
from gigassl.tiles.encoders import pooled_network
from gigassl.tiles.records import ENCODERS, MAX_BF16_ERROR, EncoderRecord


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_architecture_gives_the_width_that_the_record_says(name: str) -> None:
    record = ENCODERS[name]
    # meta tensors hold no numbers: a network of a billion weights is built and run in no memory
    with torch.device("meta"):
        network = pooled_network(record).eval()
        images = torch.zeros(1, 3, record.input_px, record.input_px)
        features = network(images)
    assert tuple(features.shape) == (1, record.dim)


def test_cls_and_mean_patch_leaves_out_the_registers() -> None:
    record = replace(
        ENCODERS["virchow2"],
        architecture="vit_tiny_patch16_224",
        options={"reg_tokens": 4, "no_embed_class": True, "dynamic_img_size": True},
        dim=384,
    )
    network: Any = pooled_network(record).eval()
    with torch.inference_mode():
        images = torch.rand(2, 3, 224, 224)
        tokens = network.transformer.forward_features(images)
        expected = torch.cat([tokens[:, 0], tokens[:, 5:].mean(1)], dim=1)
        found = network(images)
    assert tokens.shape[1] == 1 + 4 + 14 * 14
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_record_is_complete(name: str) -> None:
    record = ENCODERS[name]
    assert record.name == name
    assert record.licence != "unknown"
    assert record.url.startswith("https://")
    assert record.input_px == 224
    if record.gated:
        assert record.url in record.access
        assert "HF_TOKEN" in record.access


def test_bf16_only_where_it_was_measured_to_be_harmless() -> None:
    assert ENCODERS["efficientnet-lite0"].precision == "fp32"
    assert ENCODERS["uni"].precision == "fp32"
    measured = replace(ENCODERS["uni"], bf16_error=MAX_BF16_ERROR)
    assert measured.precision == "bf16"
    assert replace(measured, bf16_error=MAX_BF16_ERROR * 1.01).precision == "fp32"


@pytest.mark.parametrize(
    "wrong", [{"mpp": 0.0}, {"mpp": float("inf")}, {"dim": 0}, {"std": (0.1, 0.0, 0.1)}]
)
def test_a_record_refuses_absurd_facts(wrong: dict[str, Any]) -> None:
    facts: dict[str, Any] = {"name": "x", "source": "timm", "architecture": "x", "dim": 4}
    with pytest.raises(SettingsError, match=re.escape("encoder 'x'")):
        EncoderRecord(**facts | wrong)
