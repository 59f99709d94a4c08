"""Networks to train: with random weights by architecture, or begun from an encoder's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from gigassl.errors import SettingsError
from gigassl.tiles.encoder_files import whole_and_cut
from gigassl.tiles.encoders import (
    create_network,
    encoder_record,
    plain_network,
    pooled_network,
)
from gigassl.tiles.nic_encoders import NIC, nic_record
from gigassl.tiles.records import EncoderRecord, Option

_TIMM = "timm:"
DEFAULT_ARCHITECTURE = "resnet18"


@dataclass(frozen=True, kw_only=True)
class TileNetwork:
    """Which network is trained, and what it begins as.

    Attributes:
        architecture: timm name, with or without ``timm:``, or one of ``NIC_NETWORKS`` such as
            ``nic:vae?code=64``; None takes that of ``init_from``, else ResNet18.
        init_from: tile encoder (name or file) whose weights it begins with; None for random ones.
    """

    architecture: str | None = None
    init_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class BegunNetwork:
    """A network to train, and what is known of it.

    Attributes:
        network: all weights take gradients; norms are in place.
        record: of the encoder that it will be; its name and source are those it began from.
    """

    network: nn.Module
    record: EncoderRecord


def begun_network(chosen: TileNetwork, *, sides_px: Sequence[int], seed: int) -> BegunNetwork:
    """The network as training finds it, checked to take views of these sides.

    Args:
        sides_px: of the views, the large ones first.
        seed: of random weights, which are drawn as timm draws them.

    Raises:
        SettingsError: unknown name, another architecture than that of the weights, weights that
            cannot be had, or views of a side that the network does not take.
    """
    name = (chosen.architecture or DEFAULT_ARCHITECTURE).removeprefix(_TIMM)
    if chosen.init_from is not None:
        begun = _continued(chosen)
    elif name.startswith(NIC):
        begun = _random_nic(name, px=sides_px[0], seed=seed)
    else:
        begun = _random(name, seed=seed)
    record = replace(begun.record, input_px=sides_px[0])
    network, record = _of_any_side(begun.network, record)
    dims = {side: _width_at(side, network, name=record.architecture) for side in sides_px}
    network.train().requires_grad_(requires_grad=True)
    return BegunNetwork(network=network, record=replace(record, dim=dims[sides_px[0]]))


def _random_nic(name: str, *, px: int, seed: int) -> BegunNetwork:
    # its dense layers are made for tiles of one side
    separator = "," if "?" in name else "?"
    record = replace(nic_record(f"{name}{separator}px={px}"), name=name)
    return BegunNetwork(network=create_network(record, seed=seed), record=record)


def _random(name: str, *, seed: int) -> BegunNetwork:
    if whole_and_cut(name)[1]:
        raise _whole(name)
    # facts of the architecture alone: a tag after the dot names weights that are not used
    record = encoder_record(f"random:{name.partition('.')[0]}")
    return BegunNetwork(network=create_network(record, seed=seed), record=record)


def _continued(chosen: TileNetwork) -> BegunNetwork:
    name = chosen.init_from or ""
    record, network = encoder_record(name), plain_network(name)
    if record.cut:
        raise _whole(name)
    described = getattr(network, "pretrained_cfg", None) or {}
    architecture = described.get("architecture") or record.architecture.partition(".")[0]
    record = replace(record, architecture=architecture)
    wanted = (chosen.architecture or architecture).removeprefix(_TIMM).partition(".")[0]
    wanted = wanted.partition("?")[0]
    if wanted != architecture:
        raise SettingsError(
            f"the weights of '{name}' are of the architecture {architecture}, not of {wanted}; "
            f"leave --arch out, or begin from an encoder of {wanted}"
        )
    return BegunNetwork(network=_rebuilt(network, record), record=record)


def _whole(name: str) -> SettingsError:
    return SettingsError(
        f"'{name}' is cut, and whole networks are trained; give {whole_and_cut(name)[0]}, and cut "
        "it when it is used: FILE.safetensors@layer3"
    )


def _rebuilt(network: nn.Module, record: EncoderRecord) -> nn.Module:
    """The same weights in a network made of the record alone, as the result's file will be read."""
    anew = pooled_network(record)
    try:
        anew.load_state_dict(network.state_dict())
    except RuntimeError as error:
        raise SettingsError(
            f"'{record.name}' cannot be trained: its network is not what timm makes of "
            f"{record.architecture} and {dict(record.options)}: {error}"
        ) from error
    return anew


def _of_any_side(network: nn.Module, record: EncoderRecord) -> tuple[nn.Module, EncoderRecord]:
    """Vision transformers of one image side are made anew to take views of several."""
    if getattr(network, "dynamic_img_size", True):
        return network, record
    options: dict[str, Option] = {**record.options, "dynamic_img_size": True}
    record = replace(record, options=options)
    return _rebuilt(network, record), record


def _width_at(side_px: int, network: nn.Module, *, name: str) -> int:
    try:
        with torch.no_grad():
            vectors = network.eval()(torch.zeros(1, 3, side_px, side_px))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise SettingsError(
            f"{name} does not take views of {side_px} px: {error}; choose another side with "
            "--tile-px or --view-px"
        ) from error
    if vectors.ndim != 2:
        raise SettingsError(
            f"{name} gives an array of shape {tuple(vectors.shape[1:])} a tile, not a vector; "
            "choose a network that pools its tokens"
        )
    return int(vectors.shape[1])
