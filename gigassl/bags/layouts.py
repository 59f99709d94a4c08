"""Layouts of bag files: how ours, TRIDENT's, CLAM's, STAMP's and AtlasPatch's are read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn

import h5py
import numpy as np

from gigassl.bags.info import BagInfo, info_from_attributes
from gigassl.errors import SlideError
from gigassl.units import l0_from_um, mpp_from_magnification

FORMAT = "gigassl-bag"
VERSION = 1

CoordsUnit = Literal["um", "px"]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the user says about a bag file, for where the file itself does not.

    Attributes:
        slide_id: name of the slide.
        encoder: name of the tile encoder; chooses among several.
        coords_unit: "um" or level-0 "px".
        mpp_l0: level-0 resolution of the slide, µm/px.
    """

    slide_id: str
    encoder: str | None = None
    coords_unit: CoordsUnit | None = None
    mpp_l0: float | None = None


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A bag file's datasets, still on disk, and its facts.

    Attributes:
        features: (tile, dim) or (1, tile, dim).
        coords: (tile, ≥ 2), x and y first.
        l0_per_unit: level-0 px per unit of ``coords``.
        info: the facts.
        variants: (7, tile, dim), where ours hold them.
    """

    features: h5py.Dataset
    coords: h5py.Dataset
    info: BagInfo
    l0_per_unit: float = 1.0
    variants: h5py.Dataset | None = None


@dataclass(frozen=True, kw_only=True)
class LayoutReader:
    """How files of one layout are told from others, and read."""

    name: str
    matches: Callable[[h5py.File], bool]
    read: Callable[[h5py.File, Wishes], Contents]


def contents_of(file: h5py.File, wishes: Wishes) -> Contents:
    """Finds the layout of an open file and reads its facts; the arrays stay on disk.

    Raises:
        SlideError: unknown layout, or the file leaves open what ``wishes`` does not say either.
    """
    reader = next((layout for layout in LAYOUTS if layout.matches(file)), None)
    if reader is None:
        _refuse_unknown(file)
    return reader.read(file, wishes)


def _refuse_unknown(file: h5py.File) -> NoReturn:
    if _is_dataset(file, "coords"):
        raise _problem(
            "the file holds coordinates but no features; give the file with the features, "
            "or embed the slide itself"
        )
    seen: list[str] = []
    file.visititems(lambda name, item: seen.append(f"{name} {getattr(item, 'shape', 'group')}"))
    known = ", ".join(layout.name for layout in LAYOUTS)
    raise _problem(
        f"the layout of this HDF5 file is unknown; known: {known}",
        detail=f"it holds: {', '.join(seen[:8]) or 'nothing'}{' …' if len(seen) > 8 else ''}",
    )


def _is_ours(file: h5py.File) -> bool:
    return bool(file.attrs.get("format") == FORMAT)


def _read_ours(file: h5py.File, wishes: Wishes) -> Contents:
    version = int(file.attrs["version"])
    if version > VERSION:
        raise _problem(
            f"the bag has format version {version}, this gigassl reads up to {VERSION}; "
            "install a newer gigassl"
        )
    info = info_from_attributes(dict(file.attrs))
    _encoder_name(info.encoder, wishes)
    return Contents(
        features=file["features"], coords=file["coords"], info=info, variants=file.get("variants")
    )


def _is_trident(file: h5py.File) -> bool:
    return _is_clam(file) and "level0_magnification" in file["coords"].attrs


def _read_trident(file: h5py.File, wishes: Wishes) -> Contents:
    encoder = _encoder_name(_text(file["features"].attrs.get("encoder")), wishes)
    info = _info_from_magnifications(file["coords"].attrs, encoder=encoder, wishes=wishes)
    return Contents(
        features=file["features"], coords=file["coords"], info=replace(info, layout="trident")
    )


def _info_from_magnifications(attrs: Mapping[str, Any], *, encoder: str, wishes: Wishes) -> BagInfo:
    """Facts from attributes that TRIDENT and AtlasPatch share; only ``mpp`` is a measurement."""
    measured, nominal, target = (
        _positive(attrs.get(name))
        for name in ("mpp", "level0_magnification", "target_magnification")
    )
    from_nominal = mpp_from_magnification(nominal) if nominal else None
    mpp_l0 = measured or wishes.mpp_l0 or from_nominal
    source = "bag" if measured else "given" if wishes.mpp_l0 else "magnification"
    side_l0 = _positive(attrs.get("patch_size_level0"))
    tile_px = _positive(attrs.get("patch_size"))
    return BagInfo(
        slide_id=wishes.slide_id,
        encoder=encoder,
        width_l0=_whole(_positive(attrs.get("level0_width"))),
        height_l0=_whole(_positive(attrs.get("level0_height"))),
        mpp_l0=mpp_l0,
        mpp_source=source if mpp_l0 else "",
        tile_px=_whole(tile_px),
        side_l0=side_l0,
        target_mpp=mpp_from_magnification(target) if target else None,
        effective_mpp=side_l0 * mpp_l0 / tile_px if side_l0 and mpp_l0 and tile_px else None,
        overlap_px=int(attrs["overlap"]) if "overlap" in attrs else None,
    )


def _is_clam(file: h5py.File) -> bool:
    return _is_dataset(file, "features") and _is_dataset(file, "coords")


def _read_clam(file: h5py.File, wishes: Wishes) -> Contents:
    # CLAM's feature files name no encoder, and most carry no attributes at all
    encoder = _encoder_name("", wishes)
    attrs = file["coords"].attrs
    tile_px = _positive(attrs.get("patch_size"))
    downsample = _positive(attrs.get("downsample"))
    level_size = attrs.get("level_dim")
    size_l0: tuple[int | None, int | None] = (None, None)
    if downsample and level_size is not None and len(level_size) == 2:
        size_l0 = (round(level_size[0] * downsample), round(level_size[1] * downsample))
    info = BagInfo(
        slide_id=wishes.slide_id,
        encoder=encoder,
        width_l0=size_l0[0],
        height_l0=size_l0[1],
        mpp_l0=wishes.mpp_l0,
        mpp_source="given" if wishes.mpp_l0 else "",
        tile_px=_whole(tile_px),
        side_l0=tile_px * downsample if tile_px and downsample else None,
        effective_mpp=wishes.mpp_l0 * downsample if wishes.mpp_l0 and downsample else None,
        layout="clam",
    )
    return Contents(features=file["features"], coords=file["coords"], info=info)


def _is_stamp(file: h5py.File) -> bool:
    return _is_dataset(file, "feats")


def _read_stamp(file: h5py.File, wishes: Wishes) -> Contents:
    kind = _text(file.attrs.get("feat_type"))
    if kind not in {"", "tile"}:
        raise _problem(f"the file holds features of a whole {kind}, not of tiles")
    if not _is_dataset(file, "coords"):
        raise _problem("the file holds features ('feats') but no coordinates ('coords')")
    encoder = _encoder_name(_text(file.attrs.get("extractor")), wishes)
    l0_per_unit = _l0_per_unit(_text(file.attrs.get("unit")), wishes)
    # before version 2.1 the tile's side in µm was called tile_size
    side_um = _positive(file.attrs.get("tile_size_um", file.attrs.get("tile_size")))
    tile_px = _positive(file.attrs.get("tile_size_px"))
    mpp = wishes.mpp_l0
    info = BagInfo(
        slide_id=wishes.slide_id,
        encoder=encoder,
        mpp_l0=mpp,
        mpp_source="given" if mpp else "",
        tile_px=_whole(tile_px),
        side_l0=l0_from_um(side_um, mpp_l0=mpp) if side_um and mpp else None,
        effective_mpp=side_um / tile_px if side_um and tile_px else None,
        layout="stamp",
    )
    return Contents(
        features=file["feats"], coords=file["coords"], info=info, l0_per_unit=l0_per_unit
    )


def _l0_per_unit(unit: str, wishes: Wishes) -> float:
    if not (unit or wishes.coords_unit):
        raise _problem(
            "the file does not say the unit of its coordinates; pass --coords-unit um "
            "(micrometres) or --coords-unit px (level-0 pixels)"
        )
    if unit and wishes.coords_unit and unit != wishes.coords_unit:
        raise _problem(
            f"the file says that its coordinates are in '{unit}', --coords-unit says "
            f"'{wishes.coords_unit}'; leave the option away"
        )
    chosen = unit or wishes.coords_unit
    if chosen not in {"um", "px"}:
        raise _problem(f"the unit of the coordinates is '{chosen}'; known: um, px")
    if chosen == "px":
        return 1.0
    if wishes.mpp_l0 is None:
        raise _problem(
            "the coordinates are in micrometres and the file does not say the slide's resolution; "
            "pass --slide-mpp, or an 'mpp' column in the cohort"
        )
    return l0_from_um(1.0, mpp_l0=wishes.mpp_l0)


def _is_atlaspatch(file: h5py.File) -> bool:
    return isinstance(file.get("features"), h5py.Group) and _is_dataset(file, "coords")


def _read_atlaspatch(file: h5py.File, wishes: Wishes) -> Contents:
    held = sorted(name for name, item in file["features"].items() if isinstance(item, h5py.Dataset))
    if not held:
        raise _problem("the file holds coordinates but no features (its group 'features' is empty)")
    if wishes.encoder is None and len(held) > 1:
        raise _problem(
            f"the file holds features of {len(held)} encoders; choose one with --tile-encoder: "
            f"{', '.join(held)}"
        )
    encoder = wishes.encoder or held[0]
    if encoder not in held:
        raise _problem(
            f"the file holds no features of '{encoder}'; choose another --tile-encoder",
            detail=f"it holds: {', '.join(held)}",
        )
    info = _info_from_magnifications(file.attrs, encoder=encoder, wishes=wishes)
    return Contents(
        features=file["features"][encoder],
        coords=file["coords"],
        info=replace(info, layout="atlaspatch"),
    )


def _encoder_name(said: str, wishes: Wishes) -> str:
    if said and wishes.encoder and said != wishes.encoder:
        raise _problem(
            f"the bag holds features of '{said}', not of '{wishes.encoder}'; "
            "leave --tile-encoder away, or encode the slide again"
        )
    if not (said or wishes.encoder):
        raise _problem(
            "the file does not say which tile encoder made its features; pass --tile-encoder NAME"
        )
    return said or str(wishes.encoder)


def _is_dataset(file: h5py.File, name: str) -> bool:
    return isinstance(file.get(name), h5py.Dataset)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else "" if value is None else str(value)


def _positive(value: Any) -> float | None:
    """First number of a scalar or array attribute; None where absent, not finite or not above 0."""
    if value is None:
        return None
    number = float(np.ravel(value)[0])
    return number if np.isfinite(number) and number > 0 else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _problem(reason: str, *, detail: str = "") -> SlideError:
    return SlideError(reason, stage="bag", detail=detail)


LAYOUTS = (
    LayoutReader(name="gigassl", matches=_is_ours, read=_read_ours),
    LayoutReader(name="AtlasPatch", matches=_is_atlaspatch, read=_read_atlaspatch),
    LayoutReader(name="STAMP", matches=_is_stamp, read=_read_stamp),
    LayoutReader(name="TRIDENT", matches=_is_trident, read=_read_trident),
    LayoutReader(name="CLAM", matches=_is_clam, read=_read_clam),
)
"""Tried in this order; ours and TRIDENT's would also match as CLAM's, which says the least."""
