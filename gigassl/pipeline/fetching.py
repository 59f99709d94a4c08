"""Fetching one slide from its store: all files it consists of, checked, into a folder."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gigassl.errors import GigasslError, SlideError
from gigassl.files import MachineError, machine_error
from gigassl.pipeline.room import StoppedError
from gigassl.store_errors import StoreError
from gigassl.stores import RemoteFile, Stores
from gigassl.urls import WEB, folder_of, is_plain, protocol_of

BLOCK_BYTES = 16 << 20
_NAMES_FURTHER_FILES = (".vms", ".vmu")


class ChangedError(GigasslError):
    """A file is no longer what it was when its download began."""


@dataclass(frozen=True, kw_only=True)
class SlideFiles:
    """The files of a slide, as their store describes them now.

    Attributes:
        main: path of the one that is opened, among ``files``.
        files: by their path below a common folder; none leads out of it.
    """

    main: PurePosixPath
    files: Mapping[PurePosixPath, RemoteFile]

    @property
    def n_bytes(self) -> int:
        """Of all files together."""
        return sum(file.n_bytes or 0 for file in self.files.values())


def files_of(remote: RemoteFile, stores: Stores, *, stop: threading.Event) -> SlideFiles:
    """Which files a slide consists of: MIRAX and DICOM have several.

    Raises:
        SlideError: of a format whose parts cannot be told, or of unknown size.
        StoreError: absent, or out of reach.
    """
    name = remote.name
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _NAMES_FURTHER_FILES:
        raise SlideError(
            f"a {suffix} slide names further files in its text; copy all of them into a local "
            "folder", stage="fetch",
        )  # fmt: skip
    main = stores.described(remote.url, stop=stop)
    if main.n_bytes is None:
        raise SlideError(main.problem, stage="fetch")
    others: Sequence[tuple[PurePosixPath, RemoteFile]] = ()
    if suffix in {".mrxs", ".dcm"}:
        if protocol_of(remote.url) in WEB:
            raise SlideError(
                f"a {suffix} slide consists of several files, which a web server does not list; "
                "copy all of them into a local folder", stage="fetch",
            )  # fmt: skip
        folder = folder_of(remote.url)
        others = _mirax(folder, name, stores) if suffix == ".mrxs" else _dicom(folder, stores)
    # asked one by one: some stores say another kind of tag in a listing
    told = stores.described_all(file.url for _, file in others)
    files = {at: file for (at, _), file in zip(others, told, strict=True)}
    return SlideFiles(main=PurePosixPath(name), files={**files, PurePosixPath(name): main})


def _mirax(folder: str, name: str, stores: Stores) -> list[tuple[PurePosixPath, RemoteFile]]:
    """Everything in the folder beside a .mrxs file that is called like it."""
    stem = PurePosixPath(name).stem
    return [(stem / at, file) for at, file in _below(f"{folder}/{stem}", stores)]


def _dicom(folder: str, stores: Stores) -> list[tuple[PurePosixPath, RemoteFile]]:
    """All .dcm files of a folder; OpenSlide picks those of the slide."""
    found = _below(folder, stores)
    return [(at, f) for at, f in found if len(at.parts) == 1 and at.suffix.lower() == ".dcm"]


def _below(folder: str, stores: Stores) -> list[tuple[PurePosixPath, RemoteFile]]:
    start = len(folder) + 1
    found = [(PurePosixPath(file.url[start:]), file) for file in stores.listed(folder)]
    for at, _ in found:
        if at.is_absolute() or not all(is_plain(part) for part in at.parts):
            raise SlideError(f"one of its files has a name that no file can have: {at}",
                             stage="fetch")  # fmt: skip
    return found


def fetch(slide: SlideFiles, folder: Path, *, stores: Stores, stop: threading.Event) -> Path:
    """Downloads a slide into a folder; returns the path of the file to open.

    Raises:
        ChangedError: a file changed at its source meanwhile.
        StoreError: absent, or out of reach after several attempts.
        MachineError: the disk is full, or cannot be written to.
        StoppedError: ``stop`` was set.
    """
    for at, remote in slide.files.items():
        try:
            _fetch_one(remote, folder / at, stores=stores, stop=stop)
        except StoreError:
            # a file that was replaced by a shorter one cannot be read where the old one could
            _refuse_changed(remote, stores, stop=stop)
            raise
        _refuse_changed(remote, stores, stop=stop)
    return folder / slide.main


def _fetch_one(remote: RemoteFile, to: Path, *, stores: Stores, stop: threading.Event) -> None:
    blocks = stores.blocks(remote, block_bytes=BLOCK_BYTES, stop=stop)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with to.open("wb") as handle:
            for block in blocks:
                if stop.is_set():
                    raise StoppedError("the run has ended")
                handle.write(block)
    except OSError as error:
        doing = f"cannot write to the cache of slides {to.parent}"
        known = machine_error(error, doing=doing)
        raise known or MachineError(f"{doing}: {error.strerror or error}") from error


def _refuse_changed(remote: RemoteFile, stores: Stores, *, stop: threading.Event) -> None:
    now = stores.described(remote.url, stop=stop)
    if (now.n_bytes, now.tag) != (remote.n_bytes, remote.tag):
        raise ChangedError("the file changed while it was fetched")
