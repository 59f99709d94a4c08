"""Where a run writes: a claimed output in a folder or in a store, failures and bags beside it."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gigassl.errors import SettingsError
from gigassl.files import clear_leftovers
from gigassl.pipeline.failures import Failure, failures_path, save_failures
from gigassl.pipeline.lease import Lease
from gigassl.pipeline.output import claimed, make_folder
from gigassl.pipeline.places import LocalPlace, Place, StorePlace, parts_name, unusable
from gigassl.pipeline.run_folder import RunFolder
from gigassl.store_errors import StoreError
from gigassl.stores import Stores, StoreSettings
from gigassl.urls import WEB, folder_of, joined, name_of, protocol_of, shown

log = logging.getLogger("gigassl")


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where a run writes.

    Attributes:
        path: the local file, or folder, to write.
        place: makes it, and what is written beside or in it, safe.
        bags: where bags are kept as well.
    """

    path: Path
    place: Place
    bags: "Output | None" = None


@contextmanager
def claimed_output(out: Path | str, settings: StoreSettings) -> Iterator[Output]:
    """Holds the lock of an output while inside; one in a store is written through a local folder.

    What an earlier run left in the store (the file, its parts) lies in that folder at the start.

    Raises:
        BusyError: another run holds it.
        SettingsError: a URL that cannot be written to.
        MachineError: the folder cannot be written to, or the store is out of reach.
    """
    if isinstance(out, Path):
        with claimed(out):
            yield Output(path=out, place=LocalPlace())
        return
    _refuse_web(out)
    name = name_of(out)
    folder = RunFolder(settings.cache_dir)
    try:
        stores, store = Stores(settings), folder_of(out)
        with _leased(stores, joined(store, f"{name}.lease"), folder=folder) as lease:
            place = StorePlace(folder=folder.path, url=store, stores=stores, lease=lease)
            place.bring([name, *place.names_below(parts_name(name))])
            yield Output(path=folder.path / name, place=place)
    finally:
        folder.remove()


@contextmanager
def _leased(stores: Stores, url: str, *, folder: RunFolder) -> Iterator[Lease]:
    with unusable(f"cannot claim {shown(url)}"):
        lease = Lease(stores, url, of_the_dead=folder.notes_of_the_dead)
    folder.note(lease.token)
    try:
        yield lease
    finally:
        try:
            lease.release()
        except StoreError as error:
            # what went wrong before counts more; the next run waits until it takes this for dead
            log.warning("%s stays behind: %s", shown(url), error.reason)


def keep_failures(failures: Iterable[Failure], output: Output) -> None:
    """Lists failures beside an output; without any, an older list is removed.

    Raises:
        MachineError: the list cannot be written.
    """
    path = failures_path(output.path)
    save_failures(failures, path)
    if path.is_file():
        output.place.keep(path)
    else:
        output.place.gone([path])


@contextmanager
def kept_bags(
    folder: Path | str | None, settings: StoreSettings, *, slide_ids: Iterable[str]
) -> Iterator[Output | None]:
    """The folder that bags are kept in; one in a store is written through a local one.

    Raises:
        SettingsError: a URL that cannot be written to.
        MachineError: the folder cannot be made.
    """
    if folder is None:
        yield None
    elif isinstance(folder, Path):
        make_folder(folder)
        clear_leftovers(folder, {f"{slide_id}.h5" for slide_id in slide_ids})
        yield Output(path=folder, place=LocalPlace())
    else:
        _refuse_web(folder)
        local = RunFolder(settings.cache_dir)
        try:
            place = StorePlace(folder=local.path, url=folder, stores=Stores(settings))
            yield Output(path=local.path, place=place)
        finally:
            local.remove()


def _refuse_web(url: str) -> None:
    if protocol_of(url) in WEB:
        raise SettingsError(
            f"{shown(url)}: a web server takes no files; write to a path, to s3:// or to gs://"
        )
