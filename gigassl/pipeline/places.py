"""Where the files of a run are safe: in their local folder, or in a store behind it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from gigassl.errors import SettingsError
from gigassl.files import MachineError
from gigassl.pipeline.failures import Failure, failures_path, save_failures
from gigassl.pipeline.lease import Lease
from gigassl.pipeline.output import claimed, make_folder
from gigassl.pipeline.run_folder import RunFolder
from gigassl.store_errors import StoreError
from gigassl.stores import Stores, StoreSettings
from gigassl.urls import WEB, folder_of, joined, name_of, protocol_of, shown


@runtime_checkable
class Place(Protocol):
    """Makes files that were written in a local folder safe where they belong."""

    def shown(self, path: Path) -> str:
        """Where a file of the local folder belongs, for people."""

    def keep(self, path: Path) -> None:
        """Makes a file safe that has just been written, whole.

        Raises:
            MachineError: it cannot be.
        """

    def gone(self, paths: Iterable[Path]) -> None:
        """Lets go of files that are no longer in the local folder.

        Raises:
            MachineError: they cannot be removed.
        """


@dataclass(frozen=True, kw_only=True)
class LocalPlace:
    """Files are safe where they were written."""

    def shown(self, path: Path) -> str:
        """The path itself."""
        return str(path)

    def keep(self, path: Path) -> None:
        """Nothing is left to do."""

    def gone(self, paths: Iterable[Path]) -> None:
        """Nothing is left to do."""


@dataclass(frozen=True, kw_only=True)
class StorePlace:
    """Files of a local folder are safe once they lie under a URL, by the same names."""

    folder: Path
    url: str
    stores: Stores
    lease: Lease | None = None

    def shown(self, path: Path) -> str:
        """Its URL."""
        return shown(self._url_of(path))

    def keep(self, path: Path) -> None:
        """Uploads a file; in the store it appears whole.

        Raises:
            BusyError: another run has taken over.
            MachineError: the store does not take it.
        """
        url = self._url_of(path)
        with _unusable(f"cannot write {shown(url)}"):
            if self.lease is not None:
                self.lease.check()
            self.stores.put(path, url)

    def gone(self, paths: Iterable[Path]) -> None:
        """Removes files from the store.

        Raises:
            MachineError: the store refuses.
        """
        with _unusable(f"cannot remove files of {shown(self.url)}"):
            self.stores.remove([self._url_of(path) for path in paths])

    def bring(self, names: Iterable[str]) -> None:
        """Downloads what there is of these files into the folder.

        Raises:
            MachineError: the store does not give one.
        """
        wanted = {joined(self.url, name): self.folder / name for name in names}
        for folder in {path.parent for path in wanted.values()}:
            make_folder(folder)
        with _unusable(f"cannot read {shown(self.url)}"):
            self.stores.get(wanted)

    def names_below(self, name: str) -> list[str]:
        """Files in the store below a folder of it.

        Raises:
            MachineError: the store is out of reach.
        """
        folder = joined(self.url, name)
        with _unusable(f"cannot read {shown(folder)}"):
            found = self.stores.listed(folder)
        return [f"{name}/{file.name}" for file in found]

    def _url_of(self, path: Path) -> str:
        return joined(self.url, path.relative_to(self.folder).as_posix())


@dataclass(frozen=True, kw_only=True)
class Output:
    """A claimed output.

    Attributes:
        path: the local file to write.
        place: makes it, and what is written beside it, safe.
    """

    path: Path
    place: Place


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
    if protocol_of(out) in WEB:
        raise SettingsError(f"a web server takes no files; -o {shown(out)} must be a path or s3://")
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
def brought(
    places: Sequence[Path | str], settings: StoreSettings, *,
    beside: Callable[[Path], Path] | None = None,
) -> Iterator[list[Path]]:  # fmt: skip
    """Local paths of files; those at URLs are downloaded for as long as this is open.

    Args:
        places: paths and URLs; ``*`` in a URL stands for any letters.
        beside: names a file that is brought along with each, where there is one.

    Raises:
        SettingsError: there is no such file at a URL.
        MachineError: a store is out of reach.
    """
    if all(isinstance(place, Path) for place in places):
        yield [place for place in places if isinstance(place, Path)]
        return
    stores, folder = Stores(settings), RunFolder(settings.cache_dir)
    try:
        found: list[Path] = []
        for place in places:
            if isinstance(place, Path):
                found.append(place)
                continue
            with _unusable(f"cannot read {shown(place)}"):
                urls = stores.matching(place)
            if not urls:
                raise SettingsError(f"no such file: {shown(place)}")
            found += [_brought_one(url, folder.path / str(k + len(found)), stores, beside=beside)
                      for k, url in enumerate(urls)]  # fmt: skip
        yield found
    finally:
        folder.remove()


def _brought_one(
    url: str, folder: Path, stores: Stores, *, beside: Callable[[Path], Path] | None
) -> Path:
    local = folder / name_of(url)
    names = [local.name] if beside is None else [local.name, beside(local).name]
    StorePlace(folder=folder, url=folder_of(url), stores=stores).bring(names)
    if not local.is_file():
        raise SettingsError(f"no such file: {shown(url)}")
    return local


@contextmanager
def _leased(stores: Stores, url: str, *, folder: RunFolder) -> Iterator[Lease]:
    with _unusable(f"cannot claim {shown(url)}"):
        lease = Lease(stores, url, of_the_dead=folder.notes_of_the_dead)
    folder.note(lease.token)
    try:
        yield lease
    finally:
        with _unusable(f"cannot give up {shown(url)}"):
            lease.release()


@contextmanager
def _unusable(doing: str) -> Iterator[None]:
    """A store that does not take or give results stops the run; no slide is at fault."""
    try:
        yield
    except StoreError as error:
        raise MachineError(
            f"{doing}: {error.reason}; what was written before is safe, run again to go on"
        ) from error


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


def parts_name(name: str) -> str:
    """Name of the folder of committed parts beside an output.

    >>> parts_name("v.parquet")
    'v.parquet.parts'
    """
    return f"{name}.parts"
