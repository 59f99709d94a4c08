"""Which files below a folder, or below a URL, are slides or bags."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath, PurePosixPath

from gigassl.stores import RemoteFile, Stores

SLIDE_SUFFIXES = (
    ".svs", ".ome.tif", ".ome.tiff", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs",
    ".svslide", ".bif", ".czi", ".dcm",
)  # fmt: skip
"""Endings of what OpenSlide opens; the part before them is the slide_id, other dots stay."""

BAG_SUFFIXES = (".h5", ".hdf5")


def files_below(folder: Path) -> list[Path]:
    """Slide and bag files below a folder; hidden ones left out, a DICOM folder counts once."""
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*")))
    found = _wanted(names, is_file=lambda name: (folder / name).is_file())
    return [folder / name for name in found]


def remote_files_below(url: str, stores: Stores) -> list[RemoteFile]:
    """The same of a store.

    Raises:
        SettingsError: a web server, which does not list what it holds.
        StoreError: the store is out of reach.
    """
    start = len(url.rstrip("/")) + 1
    found = {PurePosixPath(file.url[start:]): file for file in stores.listed(url)}
    wanted = _wanted(sorted(found), is_file=found.__contains__)
    return [found[PurePosixPath(name)] for name in wanted]


def _wanted(
    names: Iterable[PurePath], *, is_file: Callable[[PurePath], bool]
) -> Iterator[PurePath]:
    dicom_folders = set()
    for name in names:
        hidden = any(part.startswith(".") for part in name.parts)
        known = name.name.lower().endswith((*SLIDE_SUFFIXES, *BAG_SUFFIXES))
        if hidden or not known or not is_file(name):
            continue
        if name.suffix.lower() == ".dcm":
            # OpenSlide finds the other files of a DICOM slide by itself
            if name.parent in dicom_folders:
                continue
            dicom_folders.add(name.parent)
        yield name
