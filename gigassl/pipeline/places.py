"""Where the files of a run are safe: in their local folder, or in a store behind it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from gigassl.errors import SettingsError
from gigassl.files import MachineError
from gigassl.pipeline.lease import Lease
from gigassl.pipeline.output import make_folder
from gigassl.pipeline.run_folder import RunFolder
from gigassl.store_errors import StoreError
from gigassl.stores import Stores, StoreSettings
from gigassl.urls import folder_of, joined, name_of, shown


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

    def hand_over(self, path: Path) -> None:
        """Makes a file safe that is read here no more.

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

    def hand_over(self, path: Path) -> None:
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
        with unusable(f"cannot write {shown(url)}"):
            if self.lease is not None:
                self.lease.check()
            self.stores.put(path, url)

    def hand_over(self, path: Path) -> None:
        """Uploads a file and removes it here.

        Raises:
            MachineError: the store does not take it.
        """
        self.keep(path)
        path.unlink()

    def gone(self, paths: Iterable[Path]) -> None:
        """Removes files from the store.

        Raises:
            MachineError: the store refuses.
        """
        with unusable(f"cannot remove files of {shown(self.url)}"):
            self.stores.remove([self._url_of(path) for path in paths])

    def bring(self, names: Iterable[str]) -> None:
        """Downloads what there is of these files into the folder.

        Raises:
            MachineError: the store does not give one.
        """
        wanted = {joined(self.url, name): self.folder / name for name in names}
        for folder in {path.parent for path in wanted.values()}:
            make_folder(folder)
        with unusable(f"cannot read {shown(self.url)}"):
            self.stores.get(wanted)

    def names_below(self, name: str) -> list[str]:
        """Files in the store below a folder of it.

        Raises:
            MachineError: the store is out of reach.
        """
        folder = joined(self.url, name)
        with unusable(f"cannot read {shown(folder)}"):
            found = self.stores.listed(folder)
        return [f"{name}/{file.name}" for file in found]

    def _url_of(self, path: Path) -> str:
        return joined(self.url, path.relative_to(self.folder).as_posix())


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
            with unusable(f"cannot read {shown(place)}"):
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
def unusable(doing: str) -> Iterator[None]:
    """A store that does not take or give results stops the run; no slide is at fault."""
    try:
        yield
    except StoreError as error:
        raise MachineError(
            f"{doing}: {error.reason}; what was written before is safe, run again to go on"
        ) from error


def parts_name(name: str) -> str:
    """Name of the folder of committed parts beside an output.

    >>> parts_name("v.parquet")
    'v.parquet.parts'
    """
    return f"{name}.parts"
