"""Published Keras encoders: the same codes as Keras' layers one by one; all else is refused."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from gigassl.errors import SettingsError
from gigassl.tiles.encoder_files import save_encoder
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.image_files import image_files_below, read_rgb
from gigassl.tiles.nic_importing import import_nic_encoder
from tests.shared_data import SHARED, needs_shared
from tests.tiles.keras_by_hand import evaluate, published_layers, write_keras

FOLDER = SHARED / "data" / "nic_encoders"
GLAS = SHARED / "data" / "glas"


def pooled(tiles: np.ndarray) -> np.ndarray:
    """Bytes to -1 … 1, averaged over squares of 2 px, as the released code does."""
    scaled = tiles / 255.0 * 2.0 - 1.0
    n, rows, cols, _ = scaled.shape
    return np.asarray(scaled.reshape(n, rows // 2, 2, cols // 2, 2, 3).mean(axis=(2, 4)))


@pytest.mark.parametrize("nested", [False, True])
def test_codes_are_those_of_keras_layers_one_by_one(tmp_path: Path, *, nested: bool) -> None:
    path = write_keras(tmp_path / "e.h5", published_layers(), nested=nested)
    record, network = import_nic_encoder(path, name="mine")
    assert (record.input_px, record.dim, record.mpp) == (22, 6, 0.5)
    assert (record.name, record.licence) == ("mine", "unknown")
    tiles = np.random.default_rng(1).integers(0, 256, (3, 22, 22, 3), dtype=np.uint8)
    images = torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255.0 * 2.0 - 1.0
    with torch.inference_mode():
        found = network(images).numpy()
    np.testing.assert_allclose(found, evaluate(path, pooled(tiles)), rtol=1e-4, atol=1e-4)


def test_it_is_a_tile_encoder_like_any_other(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "e.h5", published_layers())
    record, network = import_nic_encoder(path, name="mine", mpp=1.0)
    out = tmp_path / "e.safetensors"
    save_encoder(out, record=record, network=network)
    encoder = load_encoder(str(out), device="cpu")
    assert (encoder.dim, encoder.record.mpp) == (6, 1.0)
    tiles = np.random.default_rng(1).integers(0, 256, (3, 22, 22, 3), dtype=np.uint8)
    wanted = evaluate(path, pooled(tiles))
    np.testing.assert_allclose(encoder.encode(tiles), wanted, rtol=1e-4, atol=1e-4)


def changed(layers: list[dict[str, Any]], kind: str, **config: Any) -> list[dict[str, Any]]:
    next(layer for layer in layers if layer["class_name"] == kind)["config"].update(config)
    return layers


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("Conv2D", {"padding": "same"}, "Conv2D 'conv2d_1' has padding 'same'"),
        ("Conv2D", {"activation": "relu"}, "has activation 'relu'"),
        ("Conv2D", {"strides": [1, 1]}, r"has strides \[1, 1\]"),
        ("LeakyReLU", {"alpha": 0.3}, "has alpha 0.3"),
        ("BatchNormalization", {"epsilon": 1e-5}, "has epsilon 1e-05"),
        ("Dense", {"activation": "tanh"}, "has activation 'tanh'"),
    ],
)
def test_layers_that_are_set_up_otherwise_are_refused(
    tmp_path: Path, kind: str, config: dict[str, Any], said: str
) -> None:
    path = write_keras(tmp_path / "e.h5", changed(published_layers(), kind, **config))
    with pytest.raises(SettingsError, match=said):
        import_nic_encoder(path, name="mine")


def test_other_layouts_are_refused_with_their_layers(tmp_path: Path) -> None:
    layers = published_layers()
    layers[1], layers[2] = layers[2], layers[1]  # the norm before the leaky ReLU
    path = write_keras(tmp_path / "e.h5", layers)
    with pytest.raises(SettingsError, match="its layers are Conv2D, BatchNormalization, LeakyReLU"):
        import_nic_encoder(path, name="mine")
    mean = [{"class_name": "GlobalAveragePooling2D", "config": {"name": "mean"}}]
    path = write_keras(tmp_path / "mean.h5", mean)
    with pytest.raises(SettingsError, match="give --tile-encoder mean-rgb"):
        import_nic_encoder(path, name="mine")


def test_damaged_files_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no Keras model at"):
        import_nic_encoder(tmp_path / "none.h5", name="mine")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(SettingsError, match="not a readable HDF5 file of Keras"):
        import_nic_encoder(tmp_path / "text.h5", name="mine")
    path = write_keras(tmp_path / "e.h5", published_layers())
    with h5py.File(path, "a") as file:
        file["model_weights/encoded/encoded/bias:0"][2] = np.nan
    with pytest.raises(SettingsError, match="'encoded/bias' holds values that are not finite"):
        import_nic_encoder(path, name="mine")
    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]
    with pytest.raises(SettingsError, match="holds no configuration of a network"):
        import_nic_encoder(path, name="mine")


def test_weights_of_another_shape_or_missing_are_a_sentence(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "e.h5", published_layers(), side=20)  # 4 × 4 places, not 2 × 2
    with pytest.raises(SettingsError, match="does not fit nic:bigan"):
        import_nic_encoder(path, name="mine")
    path = write_keras(tmp_path / "f.h5", published_layers())
    with h5py.File(path, "a") as file:
        file["model_weights/encoded"].attrs["weight_names"] = np.array([b"encoded/kernel:0"])
    with pytest.raises(SettingsError, match="lacks 'encoded/bias'"):
        import_nic_encoder(path, name="mine")


def test_a_network_that_branches_is_refused(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "e.h5", published_layers())
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][4]["inbound_nodes"] = [[["conv2d_1", 0, 0, {}]]]
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(SettingsError, match="takes conv2d_1 where a plain chain would take"):
        import_nic_encoder(path, name="mine")


def real_tiles() -> np.ndarray:
    """Tiles of 128 px of colon (GlaS): the tile of the calibration ships with scikit-image only."""
    tiles = []
    for path in image_files_below(GLAS)[:4]:
        pixels = read_rgb(path)
        tiles += [pixels[y : y + 128, x : x + 128] for y in (0, 200) for x in (0, 200)]
    return np.stack(tiles)


@needs_shared
@pytest.mark.parametrize(
    ("file", "name", "low", "high"),
    [
        ("encoder_bigan", "nic-bigan", 0.7, 1.1),
        ("encoder_multitask-4", "nic-multitask-4", 0.0, np.inf),
    ],
)
def test_released_encoders_on_real_tissue(file: str, name: str, low: float, high: float) -> None:
    path = FOLDER / f"{file}.h5"
    record, network = import_nic_encoder(path, name="mine")
    assert (record.name, record.licence, record.dim) == (name, "MIT", 128)
    numbers = [t for k, t in network.state_dict().items() if not k.endswith("tracked")]
    assert sum(tensor.numel() for tensor in numbers) == 595_968
    tiles = real_tiles()
    images = torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255.0 * 2.0 - 1.0
    with torch.inference_mode():
        codes = network(images).numpy()
    assert codes.shape == (len(tiles), 128)
    assert np.isfinite(codes).all()
    assert low <= codes.std() <= high
    np.testing.assert_allclose(codes[:2], evaluate(path, pooled(tiles[:2])), rtol=1e-3, atol=1e-3)


def test_mean_rgb_is_the_mean_of_each_channel() -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (4, 30, 30, 3), dtype=np.uint8)
    same_side = np.repeat(np.repeat(tiles[:, :28, :28], 8, axis=1), 8, axis=2)
    wanted = tiles[:, :28, :28].mean(axis=(1, 2)) / 127.5 - 1.0
    for name in ("mean-rgb", "nic:mean-rgb"):
        encoder = load_encoder(name, device="cpu")
        assert (encoder.dim, encoder.weight_bytes) == (3, 0)
        np.testing.assert_allclose(encoder.encode(same_side), wanted, atol=2e-2)
