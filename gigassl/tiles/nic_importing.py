"""Published encoders of neural image compression (Keras ``.h5``) as tile encoders of ours."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from gigassl.errors import SettingsError
from gigassl.tiles.keras_files import KerasLayer, KerasNetwork, read_keras
from gigassl.tiles.nic_encoders import new_nic_network, nic_record
from gigassl.tiles.records import EncoderRecord

URL = "https://github.com/davidtellez/neural-image-compression"
RELEASED: Mapping[str, str] = {
    "15cf687f29121aeb500c88a4e406ab0919a5f939187ad618517a04a81130569b": "nic-bigan",
    "714684a5aacbc4b2dc3718db5e91f4222ffbcdaa7df81d6daa31a006a9a1da0b": "nic-multitask-4",
}
"""SHA-256 of the released files → what their encoders are called."""
_POOL = 2  # tiles of 128 px were averaged to the 64 px of the networks' input
_MPP = 0.5
_BLOCK = ("Conv2D", "LeakyReLU", "BatchNormalization")
_END = ("Flatten", "Dense")

# what our network does in each layer, by the names of Keras' configuration
_WANTED: Mapping[str, Mapping[str, Any]] = {
    "Conv2D": {
        "kernel_size": [3, 3], "strides": [2, 2], "padding": "valid", "dilation_rate": [1, 1],
        "data_format": "channels_last", "activation": "linear", "use_bias": True,
    },
    "LeakyReLU": {"alpha": 0.2},
    "BatchNormalization": {"axis": -1, "epsilon": 1e-3, "center": True, "scale": True},
    "Flatten": {},
    "Dense": {"activation": "linear", "use_bias": True},
}  # fmt: skip


def import_nic_encoder(
    path: Path, *, name: str, mpp: float | None = None
) -> tuple[EncoderRecord, nn.Module]:
    """A published encoder in the layout of the BiGAN's: record, and network in evaluation mode.

    Neural image compression, arXiv 1811.02840, and multitask, PMLR 121:770-783; the released files
    ``encoder_bigan.h5`` and ``encoder_multitask-4.h5``. Strided convolutions without padding, each
    followed by leaky ReLU and batch norm in this order, then a linear code of the flattened maps.
    Every layer's configuration is held against that; what is otherwise set up is refused.

    Args:
        path: the ``.h5`` file; nothing of it is run.
        name: of the encoder in its record, unless it is one of ``RELEASED``.
        mpp: µm/px at which its tiles were read; None for 0.5, as published.

    Raises:
        SettingsError: another kind of file or layout, weights that do not fit or are not finite.
    """
    if mpp is not None and not 0 < mpp < math.inf:
        raise SettingsError(f"mpp must be a positive number of µm/px; got {mpp}")
    keras = read_keras(path)
    _require_layout(keras, path)
    convolutions = [layer for layer in keras.layers if layer.kind == "Conv2D"]
    side, code = keras.input_shape[0], keras.layers[-1]
    options = {
        "px": _POOL * side, "code": int(code.config["units"]), "convolutions": len(convolutions),
        "filters": int(convolutions[0].config["filters"]), "pool": _POOL,
    }  # fmt: skip
    text = ",".join(f"{key}={value}" for key, value in options.items())
    released = RELEASED.get(origin_of(path)["sha256"])
    record = replace(
        nic_record(f"nic:bigan?{text}"), name=released or name, source="file", mpp=mpp or _MPP,
        mpp_basis="stated", licence="MIT" if released else "unknown", url=URL if released else "",
    )  # fmt: skip
    network = new_nic_network(record)
    try:
        network.load_state_dict(dict(_converted(keras.layers, network, path)))
    except RuntimeError as error:
        raise SettingsError(f"{path} does not fit {record.architecture}: {error}") from error
    return record, network.eval()


def origin_of(path: Path) -> dict[str, str]:
    """Where an encoder came from, for its model card."""
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"imported_from": path.name, "sha256": digest}


def _require_layout(keras: KerasNetwork, path: Path) -> None:
    kinds = [layer.kind for layer in keras.layers]
    if kinds == ["GlobalAveragePooling2D"]:
        raise SettingsError(
            f"{path} averages each channel and holds no weights; give --tile-encoder mean-rgb, "
            "which needs no file"
        )
    n_blocks = max((len(kinds) - len(_END)) // len(_BLOCK), 1)
    wanted = [*_BLOCK * n_blocks, *_END]
    if kinds != wanted:
        raise SettingsError(
            f"{path} is not laid out like the published BiGAN and multitask encoders: its layers "
            f"are {', '.join(kinds) or 'none'}; expected {', '.join(_BLOCK)} again and again, then "
            f"{' and '.join(_END)}; train one of your own with gigassl pretrain-tiles"
        )
    for layer in keras.layers:
        _require_setup(layer, path)
    rows, cols, channels = keras.input_shape
    if rows != cols or channels != 3:
        raise SettingsError(
            f"{path} takes arrays of {rows} × {cols} × {channels}; expected square RGB images"
        )
    widths = {layer.config["filters"] for layer in keras.layers if layer.kind == "Conv2D"}
    if len(widths) > 1:
        raise SettingsError(
            f"{path}: its convolutions have {sorted(widths)} filters; expected as many in each"
        )


def _require_setup(layer: KerasLayer, path: Path) -> None:
    for key, value in _WANTED[layer.kind].items():
        if not _alike(layer.config.get(key), value):
            raise SettingsError(
                f"{path}: {layer.kind} '{layer.name}' has {key} {layer.config.get(key)!r}; the "
                f"published encoders have {value!r}, and no other is imported"
            )


def _alike(found: Any, value: Any) -> bool:
    if isinstance(value, float):
        return isinstance(found, float) and math.isclose(found, value, rel_tol=1e-6)
    # the axis of the channels, counted from either end
    return found == value or (value == -1 and found in (3, [3], [-1]))


def _converted(
    layers: Sequence[KerasLayer], network: nn.Module, path: Path
) -> Iterator[tuple[str, Tensor]]:
    """Our names and tensors, in the order of the layers, which is the network's own."""
    parts = (
        (name, part)
        for name, part in network.named_modules()
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d | nn.Linear)
    )
    maps: int | None = None
    for layer in layers:
        if layer.kind == "Conv2D":
            maps = int(layer.config["filters"])
        if layer.kind in ("LeakyReLU", "Flatten"):
            continue
        name, part = next(parts)
        for kind, tensor in _tensors_of(layer, path, maps=maps or 1):
            yield f"{name}.{kind}", tensor
        if isinstance(part, nn.BatchNorm2d):
            yield f"{name}.num_batches_tracked", torch.zeros((), dtype=torch.int64)


def _tensors_of(layer: KerasLayer, path: Path, *, maps: int) -> Iterator[tuple[str, Tensor]]:
    names = {
        "Conv2D": {"weight": "kernel", "bias": "bias"},
        "Dense": {"weight": "kernel", "bias": "bias"},
        "BatchNormalization": {
            "weight": "gamma", "bias": "beta", "running_mean": "moving_mean",
            "running_var": "moving_variance",
        },
    }[layer.kind]  # fmt: skip
    for ours, theirs in names.items():
        if theirs not in layer.weights:
            raise SettingsError(f"{path} lacks '{layer.name}/{theirs}'; it is damaged or not whole")
        tensor = torch.tensor(layer.weights[theirs])
        if not bool(torch.isfinite(tensor).all()):
            raise SettingsError(f"{path}: '{layer.name}/{theirs}' holds values that are not finite")
        yield ours, _turned(tensor, maps=maps) if theirs == "kernel" else tensor


def _turned(kernel: Float32[Tensor, "..."], *, maps: int) -> Float32[Tensor, "..."]:
    """A kernel of Keras in the layout of PyTorch.

    Convolutions: [row, column, in, out] to [out, in, row, column]. Dense: what it sees is a map
    flattened with the channels last, and here with the channels first.
    """
    if kernel.ndim == 4:
        return kernel.permute(3, 2, 0, 1).contiguous()
    places = kernel.view(-1, maps, kernel.shape[1])  # [place, channel, out]
    return places.permute(2, 1, 0).flatten(1).contiguous()
