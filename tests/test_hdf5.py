"""HDF5 files that reach for other files, or claim what they do not hold."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from gigassl.bags.bag import open_bag
from gigassl.errors import SlideError
from gigassl.hdf5 import why_not_trusted

FEATURES, COORDS = np.ones((6, 4), np.float32), np.zeros((6, 2), np.int64)


def linked(file: h5py.File, other: Path) -> None:
    file["features"] = h5py.ExternalLink(str(other), "features")
    file["coords"] = COORDS


def stored_outside(file: h5py.File, other: Path) -> None:
    outside = [(str(other), 0, h5py.h5f.UNLIMITED)]
    file.create_dataset("features", (6, 4), np.float32, external=outside)
    file["coords"] = COORDS


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((6, 4), np.float32)
    layout[:] = h5py.VirtualSource(str(other), "features", (6, 4))
    file.create_virtual_dataset("features", layout)
    file["coords"] = COORDS


def deep(file: h5py.File, other: Path) -> None:
    """As AtlasPatch nests its features; and a group that holds itself."""
    file["coords"] = COORDS
    group = file.create_group("features")
    group["again"] = group
    group["resnet50"] = h5py.ExternalLink(str(other), "features")


def bomb(file: h5py.File, other: Path) -> None:
    file.create_dataset("features", (10**8, 2048), np.float16, chunks=(1024, 2048), fillvalue=1)
    file["coords"] = COORDS


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (linked, "/features is a link into another file"),
        (deep, "/features/resnet50 is a link into another file"),
        (stored_outside, "/features keeps its values in another file"),
        (virtual, "/features keeps its values in another file"),
        (bomb, "/features claims 410 GB, of which 0 bytes are stored"),
    ],
)
def test_a_bag_that_reaches_out_is_refused(
    write: Callable[[h5py.File, Path], None], sentence: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["features"] = FEATURES
    path = tmp_path / "bags" / "s.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        write(file, secret)
    with pytest.raises(SlideError, match=f"the bag file is not read: {sentence}"):
        open_bag(path, encoder="e")


def test_links_inside_and_compression_are_as_good_as_any(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("held", data=FEATURES, compression="gzip")
        file["features"] = h5py.SoftLink("/held")
        file["coords"] = COORDS
    with h5py.File(path) as file:
        assert why_not_trusted(file) == ""
    assert len(open_bag(path, encoder="e")) == 6


@pytest.mark.parametrize("place", ["small", "behind an array"])
def test_a_collection_of_texts_in_which_the_library_turns_for_ever_is_refused(
    place: str, tmp_path: Path
) -> None:
    """The library's loop over texts of zero length cannot be stopped but with the process."""
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        n_tiles = 6 if place == "small" else 60_000
        file["features"] = np.ones((n_tiles, 4), np.float32)
        file.attrs["note"] = "a text of its own"
        file["coords"] = np.zeros((n_tiles, 2), np.int64)
    assert len(open_bag(path, encoder="e")) == n_tiles
    data = bytearray(path.read_bytes())
    texts = data.index(b"GCOL")
    data[texts + 16 : texts + 32] = bytes(16)
    path.write_bytes(data)
    with pytest.raises(SlideError, match="the bag file is not read: its collection of texts"):
        open_bag(path, encoder="e")
