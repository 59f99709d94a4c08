"""The place a run writes to: claimed by one run at a time, checked before work starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gigassl.errors import GigasslError
from gigassl.files import MachineError, machine_error, written_whole


class BusyError(GigasslError):
    """Another run is writing the same output."""


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Holds the lock of an output while inside; released by the system if the process dies.

    Raises:
        BusyError: another run holds it.
        MachineError: the folder cannot be written to.
    """
    folder = out if out.suffix == "" else out.parent
    lock_path = out / ".lock" if out.suffix == "" else out.with_name(f".{out.name}.lock")
    try:
        make_folder(folder)
        with written_whole(folder / ".gigassl-write-test") as probe:
            probe.write_bytes(b"x")
        (folder / ".gigassl-write-test").unlink()
        lock = FileLock(lock_path)
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"another run is writing {out}; wait for it, or choose another -o "
            "(for several machines use --shard i/n and `gigassl merge`)"
        ) from None
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def make_folder(folder: Path) -> None:
    """Makes a folder for results, with its parents.

    Raises:
        MachineError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> MachineError:
    known = machine_error(error, doing=f"cannot write to {folder}")
    return known or MachineError(f"cannot write to {folder}: {error.strerror}")
