"""Bag: the features of one slide's tiles and where they lie, in memory and as one HDF5 file."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from jaxtyping import Float16, Float32, Int64

from gigassl.bags.bag_files import EMPTY, coords_l0, memory_type, opened, problem, shape_of
from gigassl.bags.info import BagInfo, attributes_from_info, info_from_attributes
from gigassl.bags.layouts import FORMAT, VERSION, Contents, CoordsUnit, Wishes, contents_of
from gigassl.files import reserve, written_whole
from gigassl.tiles.turns import N_VARIANTS
from gigassl.units import magnification_from_mpp

if TYPE_CHECKING:
    from gigassl.bags.grid import CompressedSlide

__all__ = ["Bag", "BagInfo", "holds_variants", "open_bag", "read_info", "save_bag"]

Features = Float16[np.ndarray, "tile dim"] | Float32[np.ndarray, "tile dim"]

_ROWS_AT_ONCE = 16_384
_HEADER_BYTES = 1 << 16
# TRIDENT's scale of nominal magnifications: below this many µm/px, so many times
_NOMINAL = ((0.16, 80), (0.2, 60), (0.3, 40), (0.6, 20), (1.2, 10), (2.4, 5))


@dataclass(frozen=True, kw_only=True)
class Bag:
    """Tile features of one slide.

    Attributes:
        features: one row a tile.
        coords: (x, y) of each tile's top-left corner, level-0 px.
        info: what else is known.
        variants: features of the tiles turned and mirrored, variants 1 to 7 of
            ``gigassl.tiles.turns``; None where the bag holds none, or they were not asked for.

    Raises:
        SlideError: no tiles, lengths that differ, or a feature that is NaN or infinite.
    """

    features: Features
    coords: Int64[np.ndarray, "tile 2"]
    info: BagInfo
    variants: Float16[np.ndarray, "7 tile dim"] | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.coords.shape[1:] != (2,):
            raise problem(
                f"features must have shape (tiles, dim) and coordinates (tiles, 2); "
                f"got {self.features.shape} and {self.coords.shape}"
            )
        if len(self.features) != len(self.coords):
            raise problem(
                f"{len(self.features)} rows of features do not fit {len(self.coords)} coordinates"
            )
        if self.features.size == 0:
            raise problem(EMPTY)
        _refuse_infinite(self.features)
        if self.variants is not None:
            wanted = (N_VARIANTS - 1, *self.features.shape)
            if self.variants.shape != wanted:
                raise problem(
                    f"the turned variants have shape {self.variants.shape}; expected {wanted}"
                )
            for features in self.variants:
                _refuse_infinite(features)

    def __len__(self) -> int:
        return len(self.features)

    def to_grid(self, *, variant: int = 0) -> "CompressedSlide":
        """The compressed slide: see ``gigassl.bags.grid.to_grid``."""
        from gigassl.bags.grid import to_grid

        return to_grid(self, variant=variant)


def _refuse_infinite(features: Features) -> None:
    for start in range(0, len(features), _ROWS_AT_ONCE):
        finite = np.isfinite(features[start : start + _ROWS_AT_ONCE]).all(axis=1)
        if not finite.all():
            raise problem(
                f"the features of tile {start + int(finite.argmin())} are NaN or infinite; "
                "encode the slide again (a lower precision may have overflowed)"
            )


def save_bag(bag: Bag, path: Path) -> None:
    """Writes a bag as one HDF5 file in TRIDENT's layout, with our own facts as root attributes.

    Features are stored as float16. Equal bags give equal bytes; the file appears whole.

    Raises:
        SlideError: a feature is too large for float16.
        MachineError: disk full, quota, read-only or missing folder.
    """
    with np.errstate(over="ignore"):
        features = bag.features.astype(np.float16, copy=False)
    if features is not bag.features:
        _refuse_overflow(features)
    arrays = [array for array in (features, bag.coords, bag.variants) if array is not None]
    with written_whole(path) as part:
        reserve(part, sum(array.nbytes for array in arrays) + _HEADER_BYTES)
        try:
            # the oldest file format that holds it all, so that any HDF5 library opens it
            with h5py.File(part, "w", libver=("v108", "v108")) as file:
                _write(file, features, bag=bag)
        except RuntimeError as error:
            # closing a file on a full disk is no OSError in h5py; the number is in the text
            found = re.search(r"errno = (\d+)", str(error))
            if found is None:
                raise
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def _refuse_overflow(features: Float16[np.ndarray, "tile dim"]) -> None:
    for start in range(0, len(features), _ROWS_AT_ONCE):
        if not np.isfinite(features[start : start + _ROWS_AT_ONCE]).all():
            raise problem("features above 65504 do not fit float16, in which bags are stored")


def _write(file: h5py.File, features: Float16[np.ndarray, "tile dim"], *, bag: Bag) -> None:
    info = bag.info
    # track_times would put the clock into the file
    stored = file.create_dataset("features", data=features, track_times=False)
    stored.attrs.update({"name": info.slide_id, "savetodir": "", "encoder": info.encoder})
    if bag.variants is not None:
        file.create_dataset("variants", data=bag.variants, track_times=False)
    placed = file.create_dataset("coords", data=bag.coords, track_times=False)
    placed.attrs.update(_trident_attributes(info))
    file.attrs.update({"format": FORMAT, "version": VERSION, **attributes_from_info(info)})


def _trident_attributes(info: BagInfo) -> dict[str, str | int | float]:
    tile_mpp = info.target_mpp or info.effective_mpp
    known = {
        "patch_size": info.tile_px,
        "patch_size_level0": None if info.side_l0 is None else round(info.side_l0),
        "level0_magnification": _nominal(info.mpp_l0) if info.mpp_l0 else None,
        "target_magnification": _plain(magnification_from_mpp(tile_mpp)) if tile_mpp else None,
        "overlap": info.overlap_px,
        "name": info.slide_id,
        "savetodir": "",  # a folder of the machine that wrote it says nothing elsewhere
        "level0_width": info.width_l0,
        "level0_height": info.height_l0,
    }
    return {name: value for name, value in known.items() if value is not None}


def _nominal(mpp_l0: float) -> int | float:
    nominal = next((times for below, times in _NOMINAL if mpp_l0 < below), None)
    return nominal or _plain(magnification_from_mpp(mpp_l0))


def _plain(magnification: float) -> int | float:
    """An integer where it is one within 2 %, the tolerance of pyramid levels; else two decimals."""
    nearest = round(magnification)
    close = abs(magnification - nearest) <= 0.02 * magnification
    return nearest if nearest and close else round(magnification, 2)


def open_bag(
    path: Path,
    *,
    encoder: str | None = None,
    coords_unit: CoordsUnit | None = None,
    mpp_l0: float | None = None,
    dim: int | None = None,
    variants: bool = False,
) -> Bag:
    """Reads a bag of ours, TRIDENT, CLAM, STAMP or AtlasPatch; the layout is recognised.

    Args:
        path: an .h5 file.
        encoder: the tile encoder's name where the file does not say it, or which of several.
        coords_unit: unit of STAMP coordinates where the file does not say it.
        mpp_l0: level-0 resolution of the slide in µm/px, where the file does not say it.
        dim: width that the features must have.
        variants: read the turned and mirrored variants too, where the bag holds them.

    Raises:
        SlideError: missing, damaged, unknown layout, wrong width, empty, NaN, or a fact that must
            be given.
        MachineError: no file handles left.
    """
    slide_id = path.name.removesuffix(".h5").removesuffix(".hdf5")
    wishes = Wishes(slide_id=slide_id, encoder=encoder, coords_unit=coords_unit, mpp_l0=mpp_l0)
    with opened(path) as file:
        return _read(contents_of(file, wishes), dim=dim, variants=variants)


def read_info(path: Path) -> BagInfo:
    """The facts of a bag that this package wrote, without reading its arrays.

    Raises:
        SlideError: missing, damaged, or not a bag of ours.
    """
    return _facts(path)[0]


def holds_variants(path: Path) -> bool:
    """Whether a bag that this package wrote holds turned and mirrored variants.

    Raises:
        SlideError: missing, damaged, or not a bag of ours.
    """
    return _facts(path)[1]


def _facts(path: Path) -> tuple[BagInfo, bool]:
    with opened(path) as file:
        if file.attrs.get("format") != FORMAT:
            raise problem("it is not a bag that gigassl wrote")
        return info_from_attributes(file.attrs), "variants" in file


def _read(contents: Contents, *, dim: int | None, variants: bool) -> Bag:
    tiles_by_dim = shape_of(contents)
    if dim is not None and tiles_by_dim[1] != dim:
        raise problem(
            f"the features of '{contents.info.encoder}' are {tiles_by_dim[1]} wide, "
            f"expected {dim}; choose bags of the right tile encoder"
        )
    coords = coords_l0(contents, n_tiles=tiles_by_dim[0])
    dtype = memory_type(contents.features.dtype)
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused below
        features = contents.features.astype(dtype)[()].reshape(tiles_by_dim)
    turned = contents.variants[()] if variants and contents.variants is not None else None
    return Bag(features=features, coords=coords, info=contents.info, variants=turned)
