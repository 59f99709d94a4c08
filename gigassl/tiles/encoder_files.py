"""Files of tile encoders (weights, record, how they were made), and the names of encoders."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from gigassl.digests import plain
from gigassl.errors import SettingsError
from gigassl.tiles.records import ENCODERS, EncoderRecord
from gigassl.tiles.weights import SUFFIXES, save_checkpoint

VERSION = 1
_DIGEST = re.compile(r"[0-9a-f]{16}")
SCHEMES = ("timm:", "random:", "hf-hub:", "nic:")
"""What names of encoders begin with that are neither in the table nor files."""


def save_encoder(
    path: Path, *, record: EncoderRecord, network: nn.Module,
    training: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Writes weights and record into one ``.safetensors`` file that ``load_encoder`` reads.

    Args:
        training: how it was made, JSON-ready, for the model card.

    Raises:
        MachineError: disk full, read-only or missing folder.
    """
    card = {"version": VERSION, "record": plain(record)}
    made = {"training": training} if training else {}
    save_checkpoint(path, network.state_dict(), card={**card, **made})


def record_of(card: Mapping[str, Any], *, file: str) -> EncoderRecord:
    """The record that a model card holds.

    Raises:
        SettingsError: the card is of something else.
    """
    facts: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in card["record"].items()
    }
    try:
        return EncoderRecord(**facts)
    except TypeError as error:
        raise SettingsError(f"the model card in {file} is not one of ours: {error}") from error


def whole_and_cut(name: str) -> tuple[str, str]:
    """The name of an encoder without its cut, and the stage behind which it is cut, if any.

    >>> whole_and_cut("runs@home/mine.safetensors@layer3")
    ('runs@home/mine.safetensors', 'layer3')
    >>> whole_and_cut("random:resnet18@layer3?seed=5")
    ('random:resnet18?seed=5', 'layer3')
    """
    found = re.fullmatch(r"(.+)@(\w+)(\?.*)?", name)
    return (f"{found[1]}{found[3] or ''}", found[2]) if found else (name, "")


def whole_and_digest(name: str) -> tuple[str, str]:
    """The name of an encoder, and the digest that its weights must have; "" where any will do.

    >>> whole_and_digest("hf-hub:owner/repo#0123456789abcdef")
    ('hf-hub:owner/repo', '0123456789abcdef')
    >>> whole_and_digest("resnet18")
    ('resnet18', '')
    """
    whole, _, digest = name.rpartition("#")
    return (whole, digest) if _DIGEST.fullmatch(digest) and whole else (name, "")


def refuse_other_weights(name: str, *, given: str, wanted: str) -> None:
    """Refuses weights of another digest than was asked for, such as those of a changed download.

    Raises:
        SettingsError: with both digests.
    """
    if wanted and given != wanted:
        raise SettingsError(
            f"the weights of encoder '{name}' have digest {given}, not {wanted} as was asked for; "
            "they were changed where they come from, or the digest is of another encoder"
        )


def is_encoder_name(name: str) -> bool:
    """Whether a name says where weights are; that of a file's encoder does not.

    >>> is_encoder_name("timm:resnet18"), is_encoder_name("mine.safetensors@layer3")
    (True, True)
    >>> is_encoder_name("mine@layer3")
    False
    """
    file = whole_and_cut(name.partition("::")[0])[0]
    return name in ENCODERS or name.startswith(SCHEMES) or file.endswith(SUFFIXES)
