"""The engine: features depend on the tile alone, whatever comes with it, on each backend."""

from dataclasses import replace
from typing import Any, Never

import cv2
import numpy as np
import pytest
import torch
from jaxtyping import UInt8
from torch import nn

from gigassl.errors import SettingsError, SlideError
from gigassl.tiles.encoders import encoder_record, load_encoder, plain_network
from gigassl.tiles.engine import EngineSettings, TileEncoder, has_fast_bf16
from gigassl.tiles.networks import folded
from gigassl.tiles.records import MAX_BF16_ERROR
from tests.shared_data import SHARED, needs_shared

Array = np.ndarray[Any, np.dtype[np.float32]]
NAME = "random:resnet18@layer3"


def tiles(n: int, side: int = 224, seed: int = 0) -> UInt8[np.ndarray, "tile row col 3"]:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def error(found: Array, expected: Array) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module", params=["torch", "openvino"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return str(request.param)


@pytest.mark.parametrize("name", [NAME, "efficientnet-lite0"])
def test_a_tile_gets_the_same_bytes_in_any_company(backend: str, name: str) -> None:
    encoder = load_encoder(name, backend=backend, batch_size=4)
    batch = tiles(4)
    together = encoder.encode(batch)
    assert np.array_equal(encoder.encode(batch), together)
    for i in range(4):
        assert np.array_equal(encoder.encode(batch[i : i + 1])[0], together[i])
    assert np.array_equal(encoder.encode(batch[:3]), together[:3])
    assert np.array_equal(encoder.encode(batch[::-1])[::-1], together)
    assert len({row.tobytes() for row in together}) == 4


def test_backends_agree_in_fp32() -> None:
    pytest.importorskip("openvino")
    found = {
        backend: load_encoder(
            "efficientnet-lite0", backend=backend, batch_size=2, precision="fp32"
        ).encode(tiles(2))
        for backend in ("torch", "openvino")
    }
    assert error(found["openvino"], found["torch"]) < 1e-5


def test_engine_computes_what_the_plain_network_does() -> None:
    network, record = plain_network(NAME), encoder_record(NAME)
    encoder = load_encoder(NAME, precision="fp32", batch_size=2)
    mean, std = torch.tensor(record.mean), torch.tensor(record.std)
    images = ((torch.from_numpy(tiles(2)) / 255.0 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = network(images).numpy()
    assert error(encoder.encode(tiles(2)), expected) < 1e-5


def test_tiles_of_another_size_are_resized_without_aliasing() -> None:
    encoder = load_encoder(NAME, precision="fp32", batch_size=1)
    image = np.zeros((1, 448, 448, 3), np.uint8)
    image[:, ::2] = 255  # one-pixel stripes: an aliased reader sees all black or all white
    grey = np.full((1, 224, 224, 3), 128, np.uint8)
    black = np.zeros((1, 224, 224, 3), np.uint8)
    assert error(encoder.encode(image), encoder.encode(grey)) < 0.05
    assert error(encoder.encode(image), encoder.encode(black)) > 0.2


def test_read_only_and_uncontiguous_tiles_are_fine() -> None:
    encoder = load_encoder(NAME, batch_size=2)
    batch = tiles(2)
    expected = encoder.encode(batch)
    strided = np.repeat(batch, 2, axis=1)[:, ::2]
    batch.setflags(write=False)
    assert np.array_equal(encoder.encode(batch), expected)
    assert np.array_equal(encoder.encode(strided), expected)


@pytest.mark.parametrize("n", [0, 3])
def test_a_batch_of_the_wrong_length_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"expected 1 to 2 tiles; got {n}"):
        load_encoder(NAME, batch_size=2).encode(tiles(n))


def test_features_that_are_not_numbers_are_a_failure_of_the_slide() -> None:
    network: Any = plain_network(NAME)
    network.conv1.weight.data[0, 0, 0, 0] = float("nan")
    record = replace(encoder_record(NAME), bf16_error=None)
    encoder = TileEncoder(network, record=record, settings=EngineSettings(batch_size=2))
    with pytest.raises(SlideError, match="2 of 2 tiles") as caught:
        encoder.encode(tiles(2))
    assert caught.value.stage == "encode"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"backend": "tensorflow"}, "unknown backend 'tensorflow'.*openvino, torch"),
        ({"precision": "fp16"}, "unknown precision 'fp16'"),
        ({"batch_size": 0}, "batch size must be at least 1; got 0"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"device": "cuda:99"}, "no device 'cuda:99'"),
        ({"backend": "openvino", "device": "cuda"}, "openvino runs on cpu"),
    ],
)
def test_wrong_settings_get_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        load_encoder(NAME, **settings)


def test_bf16_is_refused_where_it_was_measured_to_do_harm() -> None:
    with pytest.raises(SettingsError, match=r"efficientnet-lite0.*does not allow bf16.*fp32"):
        load_encoder("efficientnet-lite0", precision="bf16")


def test_identity_changes_with_what_changes_features_and_not_with_threads() -> None:
    first = load_encoder(NAME, batch_size=2).identity()
    assert load_encoder(NAME, batch_size=2).identity() == first
    assert load_encoder(NAME, batch_size=3).identity() != first
    assert load_encoder(f"{NAME}?seed=1", batch_size=2).identity()["weights"] != first["weights"]
    assert "device" not in first
    assert "threads" not in first


def test_folding_keeps_the_function_and_gives_up_on_other_orders() -> None:
    network: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()).eval()
    network[1].running_mean.fill_(0.3)
    network[1].running_var.fill_(4.0)
    found = folded(network, input_px=8)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in found.modules())
    image = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(found(image), network(image))

    class NormFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            convolved: torch.Tensor = self.conv(self.norm(images))
            return convolved

    other: Any = NormFirst().eval()
    other.norm.running_var.fill_(4.0)
    assert folded(other, input_px=8) is other


def test_a_network_without_norms_to_fold_is_not_copied() -> None:
    class Dear(nn.Linear):
        def __deepcopy__(self, memo: object) -> Never:
            raise AssertionError("copied")

    network = nn.Sequential(Dear(3, 4))
    assert folded(network, input_px=8) is network


@needs_shared
@pytest.mark.skipif(not has_fast_bf16("cpu"), reason="this CPU has no bf16 arithmetic")
def test_bf16_of_a_resnet_moves_features_of_real_tissue_by_less_than_the_bar() -> None:
    paths = sorted((SHARED / "data" / "glas" / "images").glob("*"))[::20]
    batch = np.stack([np.asarray(cv2.imread(str(path)))[:224, :224, ::-1] for path in paths])
    full, half = (
        load_encoder(NAME, precision=precision, batch_size=len(batch)).encode(batch)
        for precision in ("fp32", "bf16")
    )
    assert 0 < error(half, full) <= MAX_BF16_ERROR
