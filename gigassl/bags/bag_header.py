"""The header of a bag file: its facts and shape, without its features."""

from dataclasses import dataclass
from pathlib import Path

from gigassl.bags.bag_files import EMPTY, coords_l0, memory_type, opened, problem, shape_of
from gigassl.bags.info import BagInfo
from gigassl.bags.layouts import CoordsUnit, Wishes, contents_of


@dataclass(frozen=True, kw_only=True)
class BagHeader:
    """A bag without its arrays: its facts, and how many tiles it holds of which width."""

    info: BagInfo
    n_tiles: int
    dim: int


def open_header(
    path: Path, *, encoder: str | None = None, coords_unit: CoordsUnit | None = None,
    mpp_l0: float | None = None,
) -> BagHeader:  # fmt: skip
    """Reads a bag's facts and shape as ``open_bag`` would, but no features.

    Raises:
        SlideError: whatever ``open_bag`` refuses, save features that are NaN or infinite.
        MachineError: no file handles left.
    """
    slide_id = path.name.removesuffix(".h5").removesuffix(".hdf5")
    wishes = Wishes(slide_id=slide_id, encoder=encoder, coords_unit=coords_unit, mpp_l0=mpp_l0)
    with opened(path) as file:
        contents = contents_of(file, wishes)
        n_tiles, dim = shape_of(contents)
        if n_tiles * dim == 0:
            raise problem(EMPTY)
        coords_l0(contents, n_tiles=n_tiles)
        memory_type(contents.features.dtype)
        return BagHeader(info=contents.info, n_tiles=n_tiles, dim=dim)
