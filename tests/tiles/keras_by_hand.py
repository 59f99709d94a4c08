"""Keras files written and evaluated without Keras, slowly: what the import is held against."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Layer = dict[str, Any]


def _layer(kind: str, name: str, **config: Any) -> Layer:
    return {"class_name": kind, "config": {"name": name, **config}}


def published_layers(*, n: int = 2, filters: int = 5, code: int = 6) -> list[Layer]:
    """Layers as the released files have them, with other numbers."""
    layers: list[Layer] = []
    for k in range(1, n + 1):
        layers += [
            _layer(
                "Conv2D", f"conv2d_{k}", filters=filters, kernel_size=[3, 3], strides=[2, 2],
                padding="valid", data_format="channels_last", dilation_rate=[1, 1],
                activation="linear", use_bias=True,
            ),
            _layer("LeakyReLU", f"leaky_re_lu_{k}", alpha=0.20000000298023224),
            _layer(
                "BatchNormalization", f"batch_normalization_{k}", axis=-1, momentum=0.8,
                epsilon=0.001, center=True, scale=True,
            ),
        ]  # fmt: skip
    dense = _layer("Dense", "encoded", units=code, activation="linear", use_bias=True)
    return [*layers, _layer("Flatten", "flatten_1"), dense]


def write_keras(
    path: Path, layers: list[Layer], *, side: int = 11, nested: bool = False, seed: int = 0
) -> Path:
    """Writes layers with random weights, as a flat model or as a sequential one inside a model."""
    shape = [None, side, side, 3]
    entrance = _layer("InputLayer", "input_1", batch_input_shape=shape)
    layers = copy.deepcopy(layers)
    if nested:
        layers[0]["config"]["batch_input_shape"] = shape
        inner = {"class_name": "Sequential", "config": layers, "name": "sequential_3"}
        outer = [entrance, inner]
    else:
        outer = [entrance, *layers]
    before = None
    for each in outer:
        each.setdefault("name", each["config"]["name"] if "name" not in each else each["name"])
        each["inbound_nodes"] = [] if before is None else [[[before, 0, 0, {}]]]
        before = each["name"]
    config = {
        "class_name": "Model",
        "config": {"name": "m", "layers": outer, "output_layers": [[before, int(nested), 0]]},
    }
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        weights = file.create_group("model_weights")
        for group, own in _grouped(layers, nested=nested):
            _write_weights(weights, group, own, rng=np.random.default_rng(seed), side=side)
    return path


def _grouped(layers: list[Layer], *, nested: bool) -> Iterator[tuple[str, list[Layer]]]:
    if nested:
        yield "sequential_3", layers
    else:
        for layer in layers:
            yield layer["config"]["name"], [layer]


def _write_weights(
    weights: Any, group: str, layers: list[Layer], *, rng: np.random.Generator, side: int
) -> None:
    home = weights.create_group(group)
    names: list[bytes] = []
    for layer in layers:
        for kind, shape in _shapes(layer, side=side).items():
            name = f"{layer['config']['name']}/{kind}:0"
            drawn = rng.normal(0.0, 0.4, shape)
            positive = kind in ("gamma", "moving_variance")
            home[name] = (np.abs(drawn) + 0.3 if positive else drawn).astype(np.float32)
            names.append(name.encode())
    home.attrs["weight_names"] = np.array(names) if names else np.zeros(0)


def _shapes(layer: Layer, *, side: int) -> dict[str, tuple[int, ...]]:
    config, kind = layer["config"], layer["class_name"]
    if kind == "Conv2D":
        before = 3 if config["name"].endswith("_1") else config["filters"]
        return {"kernel": (3, 3, before, config["filters"]), "bias": (config["filters"],)}
    if kind == "BatchNormalization":
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        return dict.fromkeys(names, (config.get("width", 5),))
    if kind == "Dense":
        return {"kernel": (config.get("seen", 20), config["units"]), "bias": (config["units"],)}
    return {}


def evaluate(path: Path, images: np.ndarray) -> np.ndarray:
    """What Keras gives for images [image, row, col, channel], in float64, layer by layer."""
    with h5py.File(path) as file:
        config = json.loads(file.attrs["model_config"])
        arrays: dict[str, np.ndarray] = {}
        file["model_weights"].visititems(
            lambda name, found: (
                arrays.update({"/".join(name.split("/")[-2:]): np.asarray(found, np.float64)})
                if isinstance(found, h5py.Dataset)
                else None
            )
        )
    x = images.astype(np.float64)
    for layer in _all_layers(config):
        x = _EVALUATE[layer["class_name"]](x, layer["config"], arrays)
    return x


def _all_layers(model: Layer) -> Iterator[Layer]:
    config = model["config"]
    for layer in config if isinstance(config, list) else config["layers"]:
        if layer["class_name"] in ("Model", "Sequential"):
            yield from _all_layers(layer)
        else:
            yield layer


def _conv(x: np.ndarray, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> np.ndarray:
    kernel, bias = (arrays[f"{config['name']}/{kind}:0"] for kind in ("kernel", "bias"))
    assert config["padding"] == "valid"
    (high, wide), (down, right) = config["kernel_size"], config["strides"]
    rows = (x.shape[1] - high) // down + 1
    cols = (x.shape[2] - wide) // right + 1
    out = np.empty((len(x), rows, cols, config["filters"]))
    for row in range(rows):
        for col in range(cols):
            top, left = row * down, col * right
            window = x[:, top : top + high, left : left + wide, :]
            out[:, row, col] = np.tensordot(window, kernel, axes=3) + bias
    return out


def _leaky(x: np.ndarray, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.where(x > 0, x, x * config["alpha"])


def _norm(x: np.ndarray, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> np.ndarray:
    gamma, beta, mean, variance = (
        arrays[f"{config['name']}/{kind}:0"]
        for kind in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return np.asarray((x - mean) / np.sqrt(variance + config["epsilon"]) * gamma + beta)


def _dense(x: np.ndarray, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(x @ arrays[f"{config['name']}/kernel:0"] + arrays[f"{config['name']}/bias:0"])


_EVALUATE = {
    "InputLayer": lambda x, config, arrays: x,
    "Conv2D": _conv,
    "LeakyReLU": _leaky,
    "BatchNormalization": _norm,
    "Flatten": lambda x, config, arrays: x.reshape(len(x), -1),  # rows, columns, channels
    "Dense": _dense,
}
