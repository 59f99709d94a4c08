"""The place a run writes to: claimed by one run at a time, checked before work starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from filelock import FileLock, Timeout

from gigassl.errors import GigasslError
from gigassl.files import MachineError, clear_leftovers, machine_error
from gigassl.pipeline.failures import failures_path


class BusyError(GigasslError):
    """Another run is writing the same output."""


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Holds the lock of an output file while inside; the system releases it if the process dies.

    What a killed run left half written of that file, or of its failures, is removed.

    Raises:
        BusyError: another run holds it.
        MachineError: the folder cannot be written to.
    """
    folder = out.parent
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        make_folder(folder)
        # nameless, so that the parts of a job array that start together do not meet in it
        with TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
        lock.acquire(timeout=0)
        clear_leftovers(folder, {out.name, failures_path(out).name})
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
