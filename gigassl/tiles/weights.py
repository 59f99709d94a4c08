"""Checkpoints: the one place that opens weight files, none of which may run code."""

import argparse
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gigassl.errors import GigasslError, SettingsError
from gigassl.files import written_whole

if TYPE_CHECKING:
    from torch import Tensor

CARD_KEY = "gigassl_model_card"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
_MOST_SAID = 300
_CONTAINERS = ("state_dict", "model_state_dict", "model", "teacher", "net")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a weight file holds.

    Attributes:
        tensors: by name.
        card: the model card of a ``.safetensors`` file, empty where it holds none.
        values: numbers and texts beside the tensors of a PyTorch file (epoch, settings).
    """

    tensors: "Mapping[str, Tensor]"
    card: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def expect(self, kind: str, version: int, *, path: Path, otherwise: str) -> None:
        """Checks by its card that it is one of our files of a kind.

        Args:
            version: newest that is read.
            path: of the file, for the error.
            otherwise: what the error says behind the path where the kind is another.

        Raises:
            SettingsError: another kind, or a newer version.
        """
        if self.card.get("kind") != kind:
            raise SettingsError(f"{path} {otherwise}")
        given = self.card.get("version")
        if not isinstance(given, int) or given > version:
            raise SettingsError(
                f"{path} has version {given} of its format; this gigassl reads {version}"
            )


@contextmanager
def reading_card(path: Path) -> Iterator[None]:
    """Inside, a file's card and tensors are put to use; where they cannot be, a sentence says so.

    Cards are text that anyone may change: a key may lack, a number be a list, a width not fit.

    Raises:
        SettingsError: the card, or the tensors that it describes, are not what was written.
    """
    try:
        yield
    except GigasslError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        said = " ".join(str(e).split())[:_MOST_SAID]
        raise SettingsError(
            f"{path} is damaged or was changed: its model card and weights cannot be used "
            f"({type(e).__name__}: {said}); copy or make it again"
        ) from e


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a ``.safetensors`` file or, without running any code of it, a PyTorch pickle.

    Raises:
        SettingsError: no such file, not a checkpoint, or a pickle that holds more than tensors.
    """
    if not path.is_file():
        raise SettingsError(f"no checkpoint at {path}; give the path of an existing weight file")
    return _from_safetensors(path) if path.suffix == ".safetensors" else _from_pickle(path)


def save_checkpoint(
    path: Path, tensors: "Mapping[str, Tensor]", *, card: Mapping[str, Any]
) -> None:
    """Writes ``.safetensors``, whole or not at all, with the model card as JSON in its metadata."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with written_whole(path) as part:
        part.touch()
        usual_mode = part.stat().st_mode
        try:
            save_file(whole, part, metadata={CARD_KEY: json.dumps(card, sort_keys=True)})
            part.chmod(usual_mode)  # safetensors lets nobody but the user read its files
        except SafetensorError as error:
            # a full disk is no OSError there; the number is in the text
            found = re.search(r"os error (\d+)", str(error))
            if found is None:
                raise
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def _from_safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        card = json.loads(metadata.get(CARD_KEY, "{}"))
    except (SafetensorError, json.JSONDecodeError, RecursionError) as error:
        raise SettingsError(f"{path} is not a readable safetensors file: {error}") from error
    if not isinstance(card, dict):
        raise SettingsError(f"{path} is damaged: its model card is no record")
    return Checkpoint(tensors=tensors, card=card)


def _from_pickle(path: Path) -> Checkpoint:
    import pickle  # noqa: TID251 - only for the name of the error that a refused pickle raises

    import torch

    try:
        # training scripts store their arguments so; a namespace holds values and runs nothing
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except pickle.UnpicklingError as error:
        raise SettingsError(
            f"{path} holds more than tensors, and opening it could run code; "
            "convert it where it was made to a .safetensors file or a plain state dict"
        ) from error
    except (RuntimeError, EOFError, LookupError, ValueError) as error:
        raise SettingsError(f"{path} is not a readable PyTorch checkpoint: {error}") from error
    tensors = _tensors_inside(content)
    if not tensors:
        raise SettingsError(f"{path} holds no state dict; expected tensors by name")
    return Checkpoint(tensors=tensors, values=_values_inside(content))


def _values_inside(content: object) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        return {}
    groups = {str(key): _record_of_values(value) for key, value in content.items()}
    return {**_plain_values(content), **{key: group for key, group in groups.items() if group}}


def _record_of_values(group: object) -> dict[str, Any]:
    if isinstance(group, argparse.Namespace):
        group = vars(group)
    return _plain_values(group) if isinstance(group, Mapping) else {}


def _plain_values(group: Mapping[Any, Any]) -> dict[str, Any]:
    plain_types = (str, int, float, bool)
    return {str(key): value for key, value in group.items() if isinstance(value, plain_types)}


def _tensors_inside(content: object) -> "dict[str, Tensor]":
    from torch import Tensor

    if not isinstance(content, Mapping):
        return {}
    for key in _CONTAINERS:
        if isinstance(content.get(key), Mapping):
            return _tensors_inside(content[key])
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def tensors_for(
    names: Iterable[str], checkpoint: Checkpoint, *, prefix: str | None = None
) -> "dict[str, Tensor]":
    """The tensors of a network that bears ``names``, wherever in the checkpoint it lies.

    Published checkpoints put it behind ``module.``, ``encoder_q.`` and the like, beside heads and
    optimiser state; the one prefix behind which every name is found is used.

    Raises:
        SettingsError: no prefix holds all names, or several do and ``prefix`` does not say which.
    """
    # counters of batches seen are absent from old files and have no effect on features
    wanted = [name for name in names if not name.endswith("num_batches_tracked")]
    tensors = checkpoint.tensors
    ends = [key for key in tensors if key == wanted[0] or key.endswith(f".{wanted[0]}")]
    prefixes = [key.removesuffix(wanted[0]) for key in ends]
    if prefix is not None:
        prefixes = [prefix]
    complete = [p for p in prefixes if all(f"{p}{name}" in tensors for name in wanted)]
    if not complete:
        missing = _missing(wanted, tensors, prefixes)
        raise SettingsError(
            f"the checkpoint does not hold this network: {len(missing)} of {len(wanted)} tensors "
            f"are missing, such as '{missing[0]}'; its own begin with '{next(iter(tensors), '')}'; "
            "check the architecture"
        )
    if len(complete) > 1:
        choices = ", ".join(f"'{p}'" for p in sorted(complete))
        raise SettingsError(
            f"the checkpoint holds this network {len(complete)} times, behind {choices}; "
            "say which with weights_prefix"
        )
    return {name: tensors[f"{complete[0]}{name}"] for name in wanted}


def _missing(wanted: list[str], tensors: "Mapping[str, Tensor]", prefixes: list[str]) -> list[str]:
    candidates = [[n for n in wanted if f"{p}{n}" not in tensors] for p in prefixes] or [wanted]
    return min(candidates, key=len)
