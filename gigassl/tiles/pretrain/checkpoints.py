"""Checkpoints of a training under way: network, head and optimiser in one file, without pickle."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gigassl.errors import SettingsError
from gigassl.tiles.weights import load_checkpoint, reading_card, save_checkpoint

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class CheckpointFile:
    """Where training keeps its state, and which training it is.

    Attributes:
        path: the ``.safetensors`` file; written whole, each time anew.
        digest: of everything that shapes the training; that of another one is refused.
        every: epochs between two of them; the last epoch always has one. Tile encoders have one
            every few minutes instead.
        kind: of what is trained.
    """

    path: Path
    digest: str
    every: int = 1
    kind: Literal["slide-encoder-training", "tile-encoder-training"] = "slide-encoder-training"


@dataclass(frozen=True, kw_only=True)
class SavedTraining:
    """What was saved beside the weights.

    Attributes:
        progress: plain values.
        kept: tensors by name.
    """

    progress: Mapping[str, Any]
    kept: Mapping[str, Tensor]


def save_training(
    file: CheckpointFile, module: nn.Module, optimiser: Optimizer, *,
    progress: Mapping[str, Any], kept: Mapping[str, Tensor] | None = None,
) -> None:  # fmt: skip
    """Writes the state of a training.

    Args:
        kept: more tensors to find again.

    Raises:
        MachineError: disk full, read-only or missing folder.
    """
    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    tensors |= {f"kept.{name}": tensor for name, tensor in (kept or {}).items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {
            f"optimiser.{number}.{name}": value
            for name, value in state.items()
            if value is not None
        }
    card = {"kind": file.kind, "version": VERSION, "digest": file.digest, "progress": progress}
    save_checkpoint(file.path, tensors, card=card)


def load_training(
    file: CheckpointFile, module: nn.Module, optimiser: Optimizer
) -> SavedTraining | None:
    """Puts a saved state back, and returns what was saved with it; None without a file.

    Raises:
        SettingsError: no checkpoint of ours, or of another training or network.
    """
    if not file.path.is_file():
        return None
    checkpoint = load_checkpoint(file.path)
    card = checkpoint.card
    if card.get("kind") != file.kind or card.get("version") != VERSION:
        raise SettingsError(f"{file.path} is no checkpoint of this gigassl; move it away")
    if card.get("digest") != file.digest:
        raise SettingsError(
            f"{file.path} is of a training with other settings or data; go on with those, "
            "choose another -o, or start anew with --restart"
        )
    weights = _behind("module.", checkpoint.tensors)
    _require_same_network(file.path, weights, module.state_dict())
    with reading_card(file.path):
        module.load_state_dict(weights)
        _restore(optimiser, _behind("optimiser.", checkpoint.tensors))
        return SavedTraining(progress=card["progress"], kept=_behind("kept.", checkpoint.tensors))


def _require_same_network(
    path: Path, saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> None:
    for name in sorted({*saved, *wanted}):
        there, here = (
            f"of shape {list(tensors[name].shape)}" if name in tensors else "missing"
            for tensors in (saved, wanted)
        )
        if there != here:
            raise SettingsError(
                f"{path} is of another network or method: '{name}' is {there} in it and {here} in "
                "this one; choose another -o, or start anew with --restart"
            )


def _restore(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    groups = optimiser.state_dict()["param_groups"]
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        parameter, value = parameters[int(number)], tensor
        if tensor.shape == parameter.shape:
            # fused optimisers go through memory, so both must lie in it in the same order
            value = torch.empty_like(parameter, dtype=tensor.dtype, device="cpu").copy_(tensor)
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def _behind(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
