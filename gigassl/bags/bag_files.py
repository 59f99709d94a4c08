"""Bag files as HDF5: opened, refused in sentences, and what their arrays look like."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np
from jaxtyping import Int64

from gigassl.bags.layouts import Contents
from gigassl.errors import SlideError
from gigassl.files import machine_error
from gigassl.hdf5 import why_not_trusted

EMPTY = "the bag is empty: it holds no tile"


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An open bag file; what h5py raises inside becomes a sentence about it.

    Raises:
        SlideError: missing, damaged, or whatever is raised inside.
        MachineError: no file handles left.
    """
    try:
        # on network folders locks may be refused; a finished bag is never written to again
        with h5py.File(path, "r", locking="best-effort") as file:
            wrong = why_not_trusted(file)
            if wrong:
                raise problem(f"the bag file is not read: {wrong}")
            yield file
    except OSError as error:
        _refuse_file(path, error)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise problem("the bag file is damaged; make it again", detail=str(error)) from error


def _refuse_file(path: Path, error: OSError) -> NoReturn:
    known = machine_error(error, doing=f"cannot read {path}")
    if known is not None:
        raise known from error
    if error.errno is not None:
        reason = "the bag file cannot be opened"
        raise problem(reason, detail=os.strerror(error.errno)) from error
    reason = "the bag file is damaged; make it again"
    if "truncated" in str(error):
        reason = "the bag file is truncated: its end is missing; copy or make it again"
    elif "signature not found" in str(error):
        reason = "the file is not an HDF5 file"
    raise problem(reason, detail=str(error).splitlines()[0]) from error


def shape_of(contents: Contents) -> tuple[int, int]:
    """Number of tiles, and width of their features; nothing is read.

    Raises:
        SlideError: another number of axes.
    """
    shape = contents.features.shape
    # some writers keep a batch axis of one
    tiles_by_dim = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    if len(tiles_by_dim) != 2:
        raise problem(f"the features have shape {shape}; expected (tiles, dim)")
    return int(tiles_by_dim[0]), int(tiles_by_dim[1])


def memory_type(stored: np.dtype[Any]) -> type[np.float16] | type[np.float32]:
    """The type that stored features have in memory.

    Raises:
        SlideError: they are no floating point numbers.
    """
    if stored.kind != "f":
        raise problem(f"the features are of type {stored}; expected floating point numbers")
    return np.float16 if stored.itemsize == 2 else np.float32


def coords_l0(contents: Contents, *, n_tiles: int) -> Int64[np.ndarray, "tile 2"]:
    """Coordinates of the tiles in level-0 px.

    Raises:
        SlideError: not one a tile, or no pixel positions.
    """
    stored = contents.coords
    # CLAM and TRIDENT may keep the batch axis on coordinates too
    values = stored[0] if stored.ndim == 3 and stored.shape[0] == 1 else stored[()]
    if values.ndim != 2 or values.shape[1] < 2:
        raise problem(f"the coordinates have shape {stored.shape}; expected (tiles, 2)")
    if len(values) != n_tiles:
        raise problem(f"{n_tiles} rows of features do not fit {len(values)} coordinates")
    corners = values[:, :2]
    if corners.dtype.kind in "iu" and contents.l0_per_unit == 1.0:
        whole: Int64[np.ndarray, "tile 2"] = corners.astype(np.int64)
        return whole
    scaled = corners.astype(np.float64) * contents.l0_per_unit
    # far beyond any slide, and where float64 would no longer fit int64
    if not (np.abs(scaled) < 2**53).all():
        raise problem("the coordinates hold NaN or numbers that are no pixel positions")
    rounded: Int64[np.ndarray, "tile 2"] = np.rint(scaled).astype(np.int64)
    return rounded


def problem(reason: str, *, detail: str = "") -> SlideError:
    """A failure of reading a bag."""
    return SlideError(reason, stage="bag", detail=detail)
