"""Facts of a bag: where its tiles lie, at which resolution they were read, what encoded them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Layout = Literal["gigassl", "trident", "clam", "stamp", "atlaspatch"]

_IN_FILE_AS = {"mpp_l0": "mpp"}
_NOT_IN_FILE = {"layout"}


@dataclass(frozen=True, kw_only=True)
class BagInfo:
    """What is known of a bag besides its arrays; None or "" where a foreign file does not say.

    Attributes:
        slide_id: name of the slide.
        encoder: name of the tile encoder.
        width_l0, height_l0: size of the slide in level-0 pixels.
        mpp_l0: level-0 resolution of the slide, µm/px.
        mpp_source: where ``mpp_l0`` comes from.
        tile_px: side of a tile in px as the encoder saw it.
        side_l0: side of a tile in level-0 px, not rounded.
        target_mpp: resolution that was asked for, µm/px.
        effective_mpp: resolution at which the tiles were in fact read, µm/px.
        overlap_px: px shared by neighbouring tiles, at ``effective_mpp``.
        encoder_digest: digest of the tile encoder's record and weights.
        settings_digest: digest of all settings that shaped the bag.
        slide_digest: digest of the slide file.
        inputs_digest: digest of what else of the slide shaped the bag: file size, cohort mpp, mask.
        provenance: JSON-ready record of versions and settings.
        layout: whose layout the file has.
    """

    slide_id: str
    encoder: str
    width_l0: int | None = None
    height_l0: int | None = None
    mpp_l0: float | None = None
    mpp_source: str = ""
    tile_px: int | None = None
    side_l0: float | None = None
    target_mpp: float | None = None
    effective_mpp: float | None = None
    overlap_px: int | None = None
    encoder_digest: str = ""
    settings_digest: str = ""
    slide_digest: str = ""
    inputs_digest: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    layout: Layout = "gigassl"


def attributes_from_info(info: BagInfo) -> dict[str, str | int | float]:
    """The facts as attributes of a file: what is None is left out, the provenance is JSON."""
    values = {f.name: getattr(info, f.name) for f in fields(info) if f.name not in _NOT_IN_FILE}
    values["provenance"] = json.dumps(info.provenance, sort_keys=True, allow_nan=False)
    return {_IN_FILE_AS.get(name, name): v for name, v in values.items() if v is not None}


def info_from_attributes(attributes: Mapping[str, Any]) -> BagInfo:
    """The facts back from the attributes that ``attributes_from_info`` made.

    Raises:
        KeyError: the slide_id or encoder is missing.
        ValueError: the provenance is not JSON.
    """
    values: dict[str, Any] = {
        f.name: _python(attributes[_IN_FILE_AS.get(f.name, f.name)])
        for f in fields(BagInfo)
        if f.name not in _NOT_IN_FILE and _IN_FILE_AS.get(f.name, f.name) in attributes
    }
    values["slide_id"], values["encoder"] = str(values["slide_id"]), str(values["encoder"])
    values["provenance"] = json.loads(values.get("provenance", "{}"))
    return BagInfo(**values, layout="gigassl")


def _python(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
