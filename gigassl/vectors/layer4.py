"""The slide encoder ``scm`` begun from the last stage of a tile encoder, as Giga-SSL begins it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from gigassl.errors import SettingsError
from gigassl.tiles.encoder_files import whole_and_cut
from gigassl.tiles.encoders import plain_network
from gigassl.tiles.weights import SUFFIXES, Checkpoint, load_checkpoint, tensors_for

_PARTS = {
    "blocks.0.conv1": "0.conv1",
    "blocks.0.norm1": "0.bn1",
    "blocks.0.conv2": "0.conv2",
    "blocks.0.norm2": "0.bn2",
    "blocks.0.skip": "0.downsample.0",
    "blocks.0.skip_norm": "0.downsample.1",
    "blocks.1.conv1": "1.conv1",
    "blocks.1.norm1": "1.bn1",
    "blocks.1.conv2": "1.conv2",
    "blocks.1.norm2": "1.bn2",
}
_NORM = ("weight", "bias", "running_mean", "running_var")
_DIM, _WIDTH = 256, 512


def layer4_of(tile_encoder: str, *, weights_prefix: str | None = None) -> dict[str, Tensor]:
    """Weights for ``scm`` at 256 → 512 out of ``layer4`` of a ResNet18 (arXiv 2212.03273).

    Args:
        tile_encoder: what ``load_encoder`` takes; a cut (``@layer3``) is ignored, since the tile
            encoder ends where this begins. Also a bare checkpoint file of any ResNet18.
        weights_prefix: which network of a file that holds several ("module.encoder_q.").

    Raises:
        SettingsError: unknown name, or no ResNet18 with its last stage.
    """
    whole, _ = whole_and_cut(tile_encoder.partition("::")[0])
    if whole.endswith(SUFFIXES):
        return layer4_weights(load_checkpoint(Path(whole)).tensors, prefix=weights_prefix)
    return layer4_weights(plain_network(whole).state_dict())


def layer4_weights(
    tensors: Mapping[str, Tensor], *, prefix: str | None = None
) -> dict[str, Tensor]:
    """State of ``SparseConvEncoder(dim=256, width=512)`` from tensors named as ResNet18's.

    Rows of an image are y and columns x, so tiles around a tile take the place that pixels
    around a pixel had: position 3·x + y of our filters is row y, column x of the image's. Norms
    keep their statistics. The shortcut's average over nine cells stands where the image's network
    takes every second pixel.

    Raises:
        SettingsError: a tensor is missing, there are several networks, or shapes are others.
    """
    names = {
        f"layer4.{theirs}.{kind}": f"{ours}.{kind}"
        for ours, theirs in _PARTS.items()
        for kind in (_NORM if "norm" in ours else ("weight",))
    }
    found = tensors_for(names, Checkpoint(tensors=tensors), prefix=prefix)
    state = {names[name]: _converted(tensor) for name, tensor in found.items()}
    for ours in _PARTS:
        if "norm" in ours:
            state[f"{ours}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    first = tuple(state["blocks.0.conv1.weight"].shape)
    if first != (9, _DIM, _WIDTH):
        raise SettingsError(
            f"layer4 begins with a weight of shape {first} [position, in, out]; the slide encoder "
            f"scm takes that of a ResNet18, {(9, _DIM, _WIDTH)}"
        )
    return state


def _converted(tensor: Tensor) -> Tensor:
    if tensor.ndim != 4:
        return tensor.detach().clone()
    if tensor.shape[2:] == (1, 1):
        return tensor.detach()[:, :, 0, 0].clone()
    # [out, in, row, column] -> [column, row, in, out]: x counts columns
    return tensor.detach().permute(3, 2, 1, 0).flatten(0, 1).contiguous()
