"""Tile encoders by name: from the table, timm, the hub, a file, or with random weights."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config
from timm.layers.mlp import SwiGLUPacked
from torch import nn

from gigassl.errors import SettingsError, unknown_name
from gigassl.tiles.bundled import load_bundled
from gigassl.tiles.encoder_files import (
    SCHEMES,
    record_of,
    refuse_other_weights,
    whole_and_cut,
    whole_and_digest,
)
from gigassl.tiles.engine import DEFAULT_BATCH_SIZE, EngineSettings, TileEncoder
from gigassl.tiles.hub_errors import HUB_ERRORS, no_weights
from gigassl.tiles.networks import ConvStem, PooledTokens, cut_after, fill_randomly
from gigassl.tiles.nic_encoders import NIC, new_nic_network, nic_encoder
from gigassl.tiles.records import ENCODERS, MEASURED_BF16, EncoderRecord
from gigassl.tiles.weights import SUFFIXES, load_checkpoint, reading_card, tensors_for

_HUB = "hf-hub:"
_LAYERS: Mapping[str, Any] = {
    "SwiGLUPacked": SwiGLUPacked,
    "SiLU": nn.SiLU,
    "ConvStem": ConvStem,
}


@dataclass(frozen=True, kw_only=True)
class LoadingOptions:
    """What a name cannot say.

    Attributes:
        weights_prefix: which network of a checkpoint that holds several ("module.encoder_q.").
        mpp: µm/px that an encoder outside the table expects.
        compiled: let torch compile the network.
        threads: of the OpenVINO backend.
    """

    weights_prefix: str | None = None
    mpp: float | None = None
    compiled: bool = False
    threads: int | None = None


def load_encoder(
    encoder: str | TileEncoder,
    *,
    backend: str = "torch",
    device: str = "auto",
    precision: str | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    options: LoadingOptions = LoadingOptions(),
) -> TileEncoder:
    """The encoder of that name, ready to encode; an encoder is returned as it is.

    Names: a key of the table (``uni``); ``timm:NAME``; ``hf-hub:OWNER/REPO``; ``random:NAME`` with
    ``?seed=N`` (untrained, a control); ``nic:mean-rgb`` (means of the channels, another control); a
    ``.safetensors`` file written by ``save_encoder``; ``FILE::NAME`` for any other checkpoint.
    ``NAME@layer3`` cuts a ResNet after that stage; ``NAME#0123456789abcdef`` refuses weights of any
    other digest than this, which tables and bags record with what was made of them.

    Raises:
        SettingsError: unknown name, weights that cannot be had, or a setting that cannot be used.
    """
    if isinstance(encoder, TileEncoder):
        return encoder
    settings = EngineSettings(
        backend=backend,
        device=device,
        precision=precision,
        batch_size=batch_size,
        compiled=options.compiled,
        threads=options.threads,
    )
    name, wanted = whole_and_digest(encoder)
    record, network = _load(name, options)
    loaded = TileEncoder(network, record=record, settings=settings)
    refuse_other_weights(name, given=loaded.digest, wanted=wanted)
    return loaded


def random_twin(encoder: TileEncoder, *, seed: int = 0) -> TileEncoder:
    """The same network, run the same way, with random weights: a control that learned nothing."""
    facts = encoder.record
    cut = f"@{facts.cut}" if facts.cut else ""
    record = replace(
        facts, name=f"random:{facts.architecture}{cut}", source="random", pretrained_on={}
    )
    network = pooled_network(record)
    fill_randomly(network, seed=seed)
    return TileEncoder(network, record=record, settings=encoder.settings)


def encoder_record(name: str) -> EncoderRecord:
    """Facts of the encoder of that name; asks no network where the name is in the table.

    Raises:
        SettingsError: unknown name.
    """
    name = whole_and_digest(name)[0]
    return ENCODERS[name] if name in ENCODERS else _load(name, LoadingOptions())[0]


def plain_network(name: str) -> nn.Module:
    """The network of that name in fp32, as an encoder would run it: for training and comparison.

    Raises:
        SettingsError: unknown name, or weights that cannot be had.
    """
    return _load(name, LoadingOptions())[1].eval()


def _load(name: str, options: LoadingOptions) -> tuple[EncoderRecord, nn.Module]:
    if name in ENCODERS:
        record = ENCODERS[name]
        return record, _bundled(record) if record.source == "bundled" else _from_hub(record)
    if name.startswith(SCHEMES):
        record, network = _from_scheme(name)
    else:
        record, network = _from_file(name, options)
    return (replace(record, mpp=options.mpp) if options.mpp else record), network


def _from_scheme(name: str) -> tuple[EncoderRecord, nn.Module]:
    scheme, _, rest = name.partition(":")
    if name.startswith(NIC) or rest.startswith(NIC):
        return nic_encoder(name)
    rest, _, query = rest.partition("?")
    if query and (scheme != "random" or not re.fullmatch(r"seed=\d+", query)):
        raise SettingsError(f"encoder '{name}': after '?' only random:NAME?seed=N is understood")
    architecture, _, cut = rest.partition("@")
    if scheme == "hf-hub":
        return _described(name, f"{_HUB}{architecture}", cut=cut, pretrained=True)
    if scheme == "timm":
        return _described(name, architecture, cut=cut, pretrained=True)
    record, network = _described(name, architecture, cut=cut, pretrained=False)
    fill_randomly(network, seed=int(query.removeprefix("seed=") or 0))
    return replace(record, source="random"), network


def _described(
    name: str, architecture: str, *, cut: str, pretrained: bool
) -> tuple[EncoderRecord, nn.Module]:
    """An encoder outside the table, described by timm's own configuration of it."""
    hub = architecture.startswith(_HUB)
    if not hub and not timm.is_model(architecture.partition(".")[0]):
        raise unknown_name("timm model", architecture, known=timm.list_models())
    draft = EncoderRecord(
        name=name,
        source="hub" if hub else "timm",
        architecture=architecture,
        dim=1,
        cut=cut,
        url=f"https://huggingface.co/{architecture.removeprefix(_HUB)}" if hub else "",
    )
    network = create_network(draft, pretrained=pretrained)
    facts = resolve_data_config({}, model=network)  # type: ignore[no-untyped-call]
    side = int(facts["input_size"][-1])
    network = _cut(network, draft)
    record = replace(
        draft,
        dim=_width(network, input_px=side, name=name),
        input_px=side,
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        interpolation="bilinear" if facts["interpolation"] == "bilinear" else "bicubic",
        bf16_error=MEASURED_BF16.get(architecture.partition(".")[0]),
        licence=str(facts.get("license", "unknown")),
    )
    return record, network


def _width(network: nn.Module, *, input_px: int, name: str) -> int:
    with torch.inference_mode():
        features = network.eval()(torch.zeros(1, 3, input_px, input_px))
    if features.ndim != 2:
        raise SettingsError(
            f"encoder '{name}' gives an array of shape {tuple(features.shape[1:])} a tile, not a "
            "vector; choose a network that pools its tokens"
        )
    return int(features.shape[1])


def create_network(record: EncoderRecord, *, pretrained: bool = False, seed: int = 0) -> nn.Module:
    """The bare network of a record, uncut, by timm or ours; random state elsewhere stays as it was.

    Args:
        seed: of the weights that it begins with where it is not pretrained, as timm draws them.

    Raises:
        SettingsError: its weights cannot be had; says how to get access.
    """
    if record.architecture.startswith(NIC):
        return new_nic_network(record, seed=seed)
    options: dict[str, Any] = {
        k: _LAYERS.get(v, v) if isinstance(v, str) else v for k, v in record.options.items()
    }
    if record.pooling == "cls":
        options["global_pool"] = "token"
    if record.pooling == "cls+mean-patch":
        options["global_pool"] = ""
    name = f"{_HUB}{record.repo}" if record.repo and pretrained else record.architecture
    try:
        with torch.random.fork_rng(devices=[]):
            # timm draws from PyTorch's global generator, which is put back afterwards
            torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
            network: nn.Module = timm.create_model(
                name, pretrained=pretrained, num_classes=0, **options
            )
    except HUB_ERRORS as error:
        raise no_weights(record, error) from error
    return network


def pooled_network(record: EncoderRecord, *, pretrained: bool = False) -> nn.Module:
    """The network of a record that answers one vector a tile."""
    return _cut(create_network(record, pretrained=pretrained), record)


def _cut(network: nn.Module, record: EncoderRecord) -> nn.Module:
    if record.pooling == "cls+mean-patch":
        return PooledTokens(network, n_prefix=int(network.num_prefix_tokens))  # type: ignore[arg-type]
    if not record.cut:
        return network
    stages = [name for name, _ in network.named_children() if name.startswith("layer")]
    if record.cut not in stages:
        raise unknown_name(f"stage of {record.architecture}", record.cut, known=stages)
    return cut_after(network, record.cut)


def _from_hub(record: EncoderRecord) -> nn.Module:
    return pooled_network(record, pretrained=True)


def _bundled(record: EncoderRecord) -> nn.Module:
    network = create_network(record)
    load_bundled(network)
    return network


def _from_file(name: str, options: LoadingOptions) -> tuple[EncoderRecord, nn.Module]:
    file, _, described_as = name.partition("::")
    if not described_as:
        file, cut = whole_and_cut(file)
    if not file.endswith(SUFFIXES):
        schemes = ("timm:NAME", "hf-hub:OWNER/REPO", "random:NAME", "FILE.safetensors")
        raise unknown_name("tile encoder", name, known=(*ENCODERS, *schemes))
    checkpoint = load_checkpoint(Path(file))
    if described_as:
        architecture, _, cut = described_as.partition("@")
        record, network = _described(Path(file).name, architecture, cut=cut, pretrained=False)
    elif "record" in checkpoint.card:
        with reading_card(Path(file)):
            record, network = _recorded(record_of(checkpoint.card, file=file), cut=cut)
    else:
        raise SettingsError(
            f"{file} does not say which network it belongs to; give it as {file}::resnet18@layer3"
        )
    found = tensors_for(network.state_dict(), checkpoint, prefix=options.weights_prefix)
    try:
        network.load_state_dict(found, strict=False)
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise SettingsError(f"{file} does not fit {record.architecture}: {said}") from error
    return replace(record, source="file"), network


def _recorded(record: EncoderRecord, *, cut: str) -> tuple[EncoderRecord, nn.Module]:
    """The encoder of a record, cut further where the name asks for it."""
    if not cut or cut == record.cut:
        return record, pooled_network(record)
    if record.cut or record.pooling == "cls+mean-patch":
        end = f"after {record.cut}" if record.cut else "in its tokens"
        raise SettingsError(f"{record.name} ends {end} already; it cannot be cut after '{cut}'")
    record = replace(record, name=f"{record.name}@{cut}", cut=cut)
    network = pooled_network(record)
    return replace(record, dim=_width(network, input_px=record.input_px, name=record.name)), network
