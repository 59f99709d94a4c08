"""Slide model: a slide encoder with all it must know of its input, as one ``.safetensors`` file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gigassl.bags.reduction import Reduction
from gigassl.digests import digest_of_settings, digest_of_tensors, plain
from gigassl.tiles.weights import Checkpoint, load_checkpoint, reading_card, save_checkpoint
from gigassl.vectors.slide_encoders import new_network

KIND, VERSION = "slide-encoder", 1


@dataclass(frozen=True, kw_only=True)
class SlideEncoderRecord:
    """What a slide encoder is and what it wants to be given.

    Attributes:
        architecture: name in ``SLIDE_ENCODERS``.
        options: keywords of the architecture.
        dim: width of the tile features that bags must have (before any reduction).
        width: length of the vectors.
        coords_unit: unit of the coordinates it takes: µm, or level-0 px as published models do.
        cell: side of its grid cell in that unit.
        tiles_per_view: tiles of a view as in training.
        window: views are tiles from anywhere ("scatter") or contiguous ones ("dense").
        tile_encoder: name of the tile encoder; "" where not known.
        tile_encoder_digest: its digest; "" where not known (``dim`` and ``mpp`` are checked).
        mpp: µm/px at which tiles were read; None where not known.
        tile_um: side of a tile in µm; None where not known.
        training: how it was made, JSON-ready.
    """

    architecture: str
    options: Mapping[str, Any] = field(default_factory=dict)
    dim: int
    width: int
    coords_unit: Literal["um", "px_l0"] = "um"
    cell: float
    tiles_per_view: int = 5
    window: Literal["scatter", "dense"] = "scatter"
    tile_encoder: str = ""
    tile_encoder_digest: str = ""
    mpp: float | None = None
    tile_um: float | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SlideModel:
    """A slide encoder ready to use: its record, network, and reduction of wide features, if any."""

    record: SlideEncoderRecord
    network: nn.Module
    reduction: Reduction | None = None

    @cached_property
    def digest(self) -> str:
        """16 hex digits over all weights and the record, save how they came about."""
        weights = digest_of_tensors(_tensors(self))
        record = replace(self.record, training={})
        return digest_of_settings({"record": plain(record), "weights": weights})


def save_slide_model(path: Path, model: SlideModel) -> None:
    """Writes ``.safetensors``, whole or not at all; the record is its model card.

    Raises:
        MachineError: disk full, read-only or missing folder.
    """
    card = {"kind": KIND, "version": VERSION, "record": plain(model.record)}
    save_checkpoint(path, _tensors(model), card=card)


def load_slide_model(path: Path, *, network: nn.Module | None = None) -> SlideModel:
    """Reads what ``save_slide_model`` wrote, in evaluation mode on the CPU.

    Args:
        path: the file.
        network: an empty network of the right shape, for architectures of your own.

    Raises:
        SettingsError: no such file, another kind or version, or weights that do not fit.
    """
    checkpoint = load_checkpoint(path)
    checkpoint.expect(
        KIND, VERSION, path=path,
        otherwise="is no slide encoder of ours; train one with `gigassl pretrain`, or convert a "
        "published one with `gigassl import-model`",
    )  # fmt: skip
    with reading_card(path):
        return _model_of(checkpoint, network=network)


def _model_of(checkpoint: Checkpoint, *, network: nn.Module | None) -> SlideModel:
    card = checkpoint.card
    known = {f.name for f in fields(SlideEncoderRecord)}
    record = SlideEncoderRecord(**{k: v for k, v in card["record"].items() if k in known})
    network = network or new_network(
        record.architecture, dim=_network_dim(record, checkpoint.tensors), cell=record.cell, seed=0,
        options=record.options,
    )  # fmt: skip
    weights = {
        name.removeprefix("network."): tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith("network.")
    }
    network.load_state_dict(weights)
    return SlideModel(
        record=record, network=network.eval(), reduction=_reduction(checkpoint.tensors)
    )


def _network_dim(record: SlideEncoderRecord, tensors: Mapping[str, Tensor]) -> int:
    reduction = _reduction(tensors)
    return record.dim if reduction is None else len(reduction.components)


def _reduction(tensors: Mapping[str, Tensor]) -> Reduction | None:
    if "reduction.mean" not in tensors:
        return None
    return Reduction(
        mean=tensors["reduction.mean"].numpy(), components=tensors["reduction.components"].numpy()
    )


def _tensors(model: SlideModel) -> dict[str, Tensor]:
    tensors = {f"network.{name}": tensor for name, tensor in model.network.state_dict().items()}
    if model.reduction is not None:
        tensors["reduction.mean"] = torch.from_numpy(model.reduction.mean)
        tensors["reduction.components"] = torch.from_numpy(model.reduction.components)
    return tensors
