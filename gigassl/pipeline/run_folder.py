"""A folder for the temporary files of one process; the next one clears what a killed one left."""

import shutil
import tempfile
import weakref
from pathlib import Path

from filelock import FileLock, Timeout

from gigassl.files import MachineError, machine_error

PREFIX = "gigassl-run-"
_LOCK, _NOTE = ".lock", ".note"


class RunFolder:
    """A new folder that is removed by ``remove``, or when the process ends.

    Attributes:
        path: the folder.
        notes_of_the_dead: what killed processes had noted in theirs.

    Raises:
        MachineError: it cannot be made.
    """

    def __init__(self, parent: Path | None) -> None:
        try:
            below = Path(tempfile.gettempdir()) if parent is None else parent
            below.mkdir(parents=True, exist_ok=True)
            self.notes_of_the_dead = _clear_dead(below)
            self.path, self._lock = _locked_folder(below)
        except OSError as error:
            doing = f"cannot make a folder for temporary files in {below}"
            known = machine_error(error, doing=doing)
            raise known or MachineError(f"{doing}: {error.strerror}") from error
        self._remove = weakref.finalize(self, _removed, self.path, self._lock)

    def note(self, text: str) -> None:
        """Leaves a word for the next process, should this one be killed."""
        (self.path / _NOTE).write_text(text, encoding="utf-8")

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


def _clear_dead(parent: Path) -> list[str]:
    """Removes folders whose process is gone, as their lock says; returns what was noted there."""
    notes = []
    for folder in parent.glob(f"{PREFIX}*"):
        lock = FileLock(folder / _LOCK)
        try:
            if not (folder / _LOCK).exists():
                continue
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            continue  # alive, or another user's
        if (folder / _NOTE).is_file():
            notes.append((folder / _NOTE).read_text(encoding="utf-8", errors="replace"))
        _removed(folder, lock)
    return notes


def _removed(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
