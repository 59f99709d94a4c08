"""Files appear whole: written aside, flushed, then renamed; a reader never meets half a file."""

import errno
import os
import re
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from gigassl.errors import GigasslError

_NO_SPACE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would exceed the allowed file size",
}
_MACHINE = {
    **_NO_SPACE,
    errno.EMFILE: "this process has no file handles left (see `ulimit -n`)",
    errno.ENFILE: "the machine has no file handles left",
    errno.EROFS: "the file system is read-only",
}


# a file that ``written_whole`` has not finished: name and process
_PART = re.compile(r"\.(.+)\.\d+\.part", re.DOTALL)


class MachineError(GigasslError):
    """The machine, not a slide, is at fault: disk full, no file handles, read-only folder."""


def machine_error(error: OSError, *, doing: str) -> MachineError | None:
    """The sentence for an ``OSError`` that would hit every slide alike; None for any other."""
    why = _MACHINE.get(error.errno or 0)
    return MachineError(f"{doing}: {why}") if why else None


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a path beside ``path`` to write to; on success it is renamed to ``path``.

    A killed process leaves at most a hidden ``.part`` file (see ``clear_leftovers``); an error
    removes that too and leaves an earlier ``path`` as it was.

    Raises:
        MachineError: disk full, quota, read-only or missing folder, no file handles.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as handle:
            os.fsync(handle.fileno())
        part.replace(path)
    except OSError as error:
        known = machine_error(error, doing=f"cannot write {path}")
        if known is None and not isinstance(
            error, (PermissionError, FileNotFoundError, NotADirectoryError)
        ):
            raise
        raise known or MachineError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def clear_leftovers(folder: Path, names: Container[str]) -> None:
    """Removes what killed processes left of files with these names, in one look at the folder.

    Only for who holds the lock of these files: another process may still be writing them else.
    """
    for part in folder.glob(".*.part"):
        found = _PART.fullmatch(part.name)
        if found is not None and found[1] in names:
            part.unlink(missing_ok=True)


def reserve(part: Path, n_bytes: int) -> None:
    """Takes the room that a file will need and gives it back: a full disk is met before it begins.

    For libraries that cannot be stopped in the middle: HDF5 crashes when it cannot close a file.

    Raises:
        OSError: there is no such room.
    """
    if hasattr(os, "posix_fallocate"):
        with part.open("wb") as handle:
            os.posix_fallocate(handle.fileno(), 0, n_bytes)
