"""Checkpoints of a training under way: network, head and optimiser in one file, without pickle."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gigassl.errors import SettingsError
from gigassl.tiles.weights import load_checkpoint, save_checkpoint

KIND, VERSION = "slide-encoder-training", 1


@dataclass(frozen=True, kw_only=True)
class CheckpointFile:
    """Where training keeps its state, and which training it is.

    Attributes:
        path: the ``.safetensors`` file; written whole, each time anew.
        digest: of everything that shapes the training; that of another one is refused.
        every: epochs between two of them; the last epoch always has one.
    """

    path: Path
    digest: str
    every: int = 1


def save_training(
    file: CheckpointFile, module: nn.Module, optimiser: Optimizer, *, progress: Mapping[str, Any]
) -> None:
    """Writes the state of a training.

    Raises:
        MachineError: disk full, read-only or missing folder.
    """
    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": tensor for name, tensor in state.items()}
    card = {"kind": KIND, "version": VERSION, "digest": file.digest, "progress": dict(progress)}
    save_checkpoint(file.path, tensors, card=card)


def load_training(
    file: CheckpointFile, module: nn.Module, optimiser: Optimizer
) -> Mapping[str, Any] | None:
    """Puts a saved state back, and returns the progress saved with it; None without a file.

    Raises:
        SettingsError: no checkpoint of ours, or of another training.
    """
    if not file.path.is_file():
        return None
    checkpoint = load_checkpoint(file.path)
    card = checkpoint.card
    if card.get("kind") != KIND or card.get("version") != VERSION:
        raise SettingsError(f"{file.path} is no checkpoint of this gigassl; move it away")
    if card["digest"] != file.digest:
        raise SettingsError(
            f"{file.path} is of a training with other settings or data; go on with those, "
            "choose another -o, or start anew with --restart"
        )
    module.load_state_dict(_behind("module.", checkpoint.tensors))
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in _behind("optimiser.", checkpoint.tensors).items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    progress: Mapping[str, Any] = card["progress"]
    return progress


def _behind(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
