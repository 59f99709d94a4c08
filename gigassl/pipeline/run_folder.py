"""A folder for the temporary files of one process; the next one clears what a killed one left."""

import shutil
import tempfile
import weakref
from pathlib import Path

from filelock import FileLock, Timeout

from gigassl.files import MachineError, machine_error

PREFIX = "gigassl-run-"
_LOCK = ".lock"


class RunFolder:
    """A new folder that is removed by ``remove``, or when the process ends.

    Attributes:
        path: the folder.

    Raises:
        MachineError: it cannot be made.
    """

    def __init__(self, parent: Path | None) -> None:
        try:
            below = Path(tempfile.gettempdir()) if parent is None else parent
            below.mkdir(parents=True, exist_ok=True)
            _clear_dead(below)
            self.path, self._lock = _locked_folder(below)
        except OSError as error:
            doing = f"cannot make a folder for temporary files in {below}"
            known = machine_error(error, doing=doing)
            raise known or MachineError(f"{doing}: {error.strerror}") from error
        self._remove = weakref.finalize(self, _removed, self.path, self._lock)

    def remove(self) -> None:
        """Removes the folder with all that is in it."""
        self._remove()


def _locked_folder(parent: Path) -> tuple[Path, FileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = FileLock(folder / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue  # another process took it for a dead one's, between the two lines above
        if (folder / _LOCK).exists():
            return folder, lock
        lock.release()


def _clear_dead(parent: Path) -> None:
    """Removes folders whose process is gone: the system has released their lock."""
    for folder in parent.glob(f"{PREFIX}*"):
        lock = FileLock(folder / _LOCK)
        if not (folder / _LOCK).exists():
            continue
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            continue  # alive, or another user's
        _removed(folder, lock)


def _removed(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
