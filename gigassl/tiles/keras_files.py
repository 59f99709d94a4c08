"""Networks in Keras' HDF5 files, read without Keras: their layers in order, and their weights."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float32

from gigassl.errors import SettingsError
from gigassl.hdf5 import why_not_trusted

SUFFIXES = (".h5", ".hdf5", ".keras")
Weight = Float32[np.ndarray, "..."]

_NESTED = ("Model", "Functional", "Sequential")


@dataclass(frozen=True, kw_only=True, eq=False)
class KerasLayer:
    """One layer.

    Attributes:
        kind: Keras' class name ("Conv2D").
        name: its own.
        config: how it was set up.
        weights: arrays by what Keras calls them ("kernel", "moving_mean"), in Keras' layout.
    """

    kind: str
    name: str
    config: Mapping[str, Any]
    weights: Mapping[str, Weight] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class KerasNetwork:
    """A network whose layers follow one another, models inside models laid flat.

    Attributes:
        input_shape: (row, column, channel) of its input.
        layers: without the input.
    """

    input_shape: tuple[int, int, int]
    layers: tuple[KerasLayer, ...]


def read_keras(path: Path) -> KerasNetwork:
    """Reads a network that Keras saved whole (``model.save``); nothing of it is run.

    Layers whose code lies in the file (``Lambda``) are listed like any other, never evaluated.

    Raises:
        SettingsError: no such file, weights without configuration, a network that branches, or a
            file that is damaged.
    """
    if not path.is_file():
        raise SettingsError(f"no Keras model at {path}; give the path of an existing .h5 file")
    try:
        with h5py.File(path, "r") as file:
            wrong = why_not_trusted(file)
            if wrong:
                raise SettingsError(f"{path} is not read: {wrong}")
            config, weights = _config_of(file, path), _weights_of(file)
        layers = list(_flat(config, path))
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise SettingsError(f"{path} is not a readable HDF5 file of Keras: {error}") from error
    return KerasNetwork(
        input_shape=_input_shape(layers, path),
        layers=tuple(
            KerasLayer(
                kind=layer["class_name"], name=layer["config"]["name"], config=layer["config"],
                weights=weights.pop(layer["config"]["name"], {}),
            )
            for layer in layers
            if layer["class_name"] != "InputLayer"
        ),
    )  # fmt: skip


def _config_of(file: h5py.File, path: Path) -> dict[str, Any]:
    if "model_config" not in file.attrs:
        raise SettingsError(
            f"{path} holds no configuration of a network; save the whole model with "
            "model.save('FILE.h5'), not its weights alone"
        )
    text = file.attrs["model_config"]
    found: dict[str, Any] = json.loads(text.decode() if isinstance(text, bytes) else text)
    return found


def _weights_of(file: h5py.File) -> dict[str, dict[str, Weight]]:
    """Layer → weights by what Keras calls them."""
    found: dict[str, dict[str, Weight]] = {}
    for group in file["model_weights"].values():
        for name in (_text(each) for each in group.attrs["weight_names"]):
            *_, layer, weight = name.split("/")
            kind = weight.partition(":")[0]
            if kind in found.setdefault(layer, {}):
                raise ValueError(f"two weights are called '{layer}/{kind}'")
            found[layer][kind] = np.asarray(group[name], np.float32)
    return found


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _flat(model: Mapping[str, Any], path: Path) -> Iterator[Mapping[str, Any]]:
    """Layers in order, those of a model inside at its place."""
    config = model["config"]
    layers: Sequence[Mapping[str, Any]] = config if isinstance(config, list) else config["layers"]
    if model["class_name"] != "Sequential":
        _require_chain(layers, config, path)
    for layer in layers:
        if layer["class_name"] in _NESTED:
            yield from _flat(layer, path)
        else:
            yield layer


def _require_chain(
    layers: Sequence[Mapping[str, Any]], config: Mapping[str, Any], path: Path
) -> None:
    """Checks that each layer takes what the one before it gives, and nothing else."""
    before: str | None = None
    for layer in layers:
        sources = [each[0] for node in layer["inbound_nodes"] for each in node]
        if sources != ([] if before is None else [before]):
            raise SettingsError(
                f"{path}: layer '{layer['name']}' takes {' and '.join(sources) or 'nothing'} where "
                f"a plain chain would take {before or 'the input'}; only networks whose layers "
                "follow one another are read"
            )
        before = layer["name"]
    if [each[0] for each in config["output_layers"]] != [before]:
        raise SettingsError(f"{path}: its answer is not that of its last layer, '{before}'")


def _input_shape(layers: Sequence[Mapping[str, Any]], path: Path) -> tuple[int, int, int]:
    shapes = [layer["config"].get("batch_input_shape") for layer in layers]
    shape = next((each for each in shapes if each is not None), None)
    if shape is None or len(shape) != 4 or None in shape[1:]:
        raise SettingsError(
            f"{path}: its input is of shape {shape}; expected images of one size, [None, row, "
            "column, 3]"
        )
    row, col, channel = shape[1:]
    return int(row), int(col), int(channel)
