"""Encoders of neural image compression by name: ``nic:vae``, ``nic:bigan``, ``nic:mean-rgb``."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn

from gigassl.errors import SettingsError, unknown_name
from gigassl.tiles.networks import fill_randomly
from gigassl.tiles.nic_networks import MeanRgb, NicEncoder
from gigassl.tiles.records import HALF, EncoderRecord, Option

NIC = "nic:"
"""What the architectures of this module begin with in an encoder's record."""
MEAN_RGB = f"{NIC}mean-rgb"
"""The one without weights."""


def vae_encoder(
    *, px: int = 128, channels: int = 3, code: int = 128, convolutions: int = 5, first: int = 32,
    dense: int = 512,
) -> NicEncoder:  # fmt: skip
    """The encoder of the VAE, which the contrastive and supervised ones share.

    Args:
        first: filters of the first convolution; each of the next has twice as many.
    """
    filters = [first * 2**k for k in range(convolutions)]
    return NicEncoder(filters, px=px, channels=channels, widths=(dense, code), padding=1)


def bigan_encoder(
    *, px: int = 128, channels: int = 3, code: int = 128, convolutions: int = 4,
    filters: int = 128, pool: int = 2,
) -> NicEncoder:  # fmt: skip
    """The encoder of the BiGAN and of the released multitask file.

    Maps of 64, 31, 15, 7 and 3 px; 595,968 numbers, those of the batch norms' statistics included.

    Args:
        pool: tiles are averaged over squares of so many px first.
    """
    return NicEncoder([filters] * convolutions, px=px, channels=channels, widths=(code,), pool=pool)


def mean_rgb(*, px: int = 128) -> nn.Module:
    """The control that knows colours only; takes tiles of any side."""
    return MeanRgb()


NIC_NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "bigan": bigan_encoder,
    "mean-rgb": mean_rgb,
    "vae": vae_encoder,
}
"""What stands behind ``nic:`` → maker of the network of whole numbers by name."""


def new_nic_network(record: EncoderRecord, *, seed: int = 0) -> nn.Module:
    """The network of a record whose architecture begins with ``nic:``, with random weights.

    Random state elsewhere stays as it was.

    Raises:
        SettingsError: unknown architecture or option, or one that is no whole number.
    """
    name = record.architecture.removeprefix(NIC)
    if name not in NIC_NETWORKS:
        raise unknown_name("architecture nic:", name, known=NIC_NETWORKS)
    make = NIC_NETWORKS[name]
    known = list(inspect.signature(make).parameters)
    for option, value in record.options.items():
        if option not in known:
            raise unknown_name(f"option of {record.architecture}", option, known=known)
        if not isinstance(value, int) or value < 1:
            raise SettingsError(
                f"option {option} of {record.architecture} is a positive whole number; got {value}"
            )
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        return make(**record.options)


def nic_record(name: str) -> EncoderRecord:
    """What is known of ``nic:vae``, or of ``nic:vae?code=16,convolutions=2``: no weights yet.

    128 px at 0.5 µm/px unless told otherwise, and RGB from -1 to 1.

    Raises:
        SettingsError: unknown architecture or option, or another form.
    """
    architecture, _, text = name.partition("?")
    options: dict[str, Option] = {}
    for part in text.split(",") if text else ():
        found = re.fullmatch(r"(\w+)=(\d+)", part)
        if found is None:
            raise SettingsError(
                f"'{name}': after '?' come whole numbers, such as nic:vae?code=16,convolutions=2"
            )
        options[found[1]] = int(found[2])
    px = int(options.setdefault("px", 128))
    dim = 3 if architecture == MEAN_RGB else int(options.get("code", 128))
    return EncoderRecord(
        name=name, source="random", architecture=architecture, options=options, input_px=px,
        mean=HALF[0], std=HALF[1], interpolation="bilinear", dim=dim, licence="own",
    )  # fmt: skip


def nic_encoder(name: str) -> tuple[EncoderRecord, nn.Module]:
    """``nic:mean-rgb``, which needs no weights; ``random:nic:vae?code=16,seed=3``, a control.

    Raises:
        SettingsError: unknown architecture or option, or one that wants weights.
    """
    seed = re.search(r"[?,]seed=(\d+)$", name)
    rest = name.removesuffix(seed[0]) if seed else name
    record = nic_record(rest.removeprefix("random:"))
    network = new_nic_network(record)
    if name.startswith("random:"):
        fill_randomly(network, seed=int(seed[1]) if seed else 0)
    elif record.architecture != MEAN_RGB:
        raise SettingsError(
            f"{name} is a network without weights: train it with gigassl pretrain-tiles --arch "
            f"{name}, or take random:{name} as a control"
        )
    return replace(record, name=name), network
