"""Files in object stores and on web servers, by their URL; the only module that knows fsspec."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gigassl.errors import SettingsError
from gigassl.store_errors import Patience, StoreError, told
from gigassl.urls import WEB, folder_of, joined, name_of, protocol_of, shown

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_Found = TypeVar("_Found")

_INSTALL = {
    "s3": "pip install 'gigassl[s3]'", "s3a": "pip install 'gigassl[s3]'",
    "gs": "pip install 'gigassl[gs]'", "gcs": "pip install 'gigassl[gs]'",
    "http": "pip install aiohttp", "https": "pip install aiohttp",
    "abfs": "pip install adlfs", "az": "pip install adlfs",
}  # fmt: skip
# what stores say of a file's content, the first that is there counts
_TAGS = (
    "ETag", "etag", "md5Hash", "Content-MD5", "content_md5", "Digest", "generation",
    "LastModified", "last_modified", "Last-Modified", "mtime", "created",
)  # fmt: skip
_ASKED_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """How files at URLs are reached, and where copies of them lie meanwhile.

    Attributes:
        options: fsspec's storage options, for all stores (web servers left out) or by protocol:
            ``{"s3": {"endpoint_url": …}}``. They may hold secrets and stand in no product.
        cache_dir: folder for local copies; None: the system's folder for temporary files.
        cache_gb: GB (10⁹ bytes) that copies of slides may take at any time.
        patience: with dropped connections.
    """

    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    cache_dir: Path | None = None
    cache_gb: float = 50.0
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        if not self.cache_gb > 0:
            raise SettingsError(f"--cache-gb must be above 0; got {self.cache_gb:g}")


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of a store as the store describes it.

    Attributes:
        n_bytes: its size; None where the store does not say it: ``problem`` says why.
        tag: changes with the content (ETag, checksum or time), empty where the store has none.
    """

    url: str
    n_bytes: int | None = None
    tag: str = ""
    problem: str = ""

    @property
    def name(self) -> str:
        """The file's name."""
        return name_of(self.url)


class Stores:
    """Reaches files by URL, one connection a protocol; safe in several threads."""

    def __init__(self, settings: StoreSettings | None = None) -> None:
        self._settings = settings or StoreSettings()
        self._lock = threading.Lock()
        self._systems: dict[str, AbstractFileSystem] = {}

    def system(self, url: str) -> "AbstractFileSystem":
        """The file system behind a URL.

        Raises:
            SettingsError: unknown protocol, or a package that is not installed.
        """
        protocol = protocol_of(url)
        with self._lock:
            if protocol not in self._systems:
                options = _options_for(protocol, self._settings.options)
                self._systems[protocol] = _file_system(protocol, options)
            return self._systems[protocol]

    def described(self, url: str, *, stop: threading.Event | None = None) -> RemoteFile:
        """Size and tag of a file, asked of the store now.

        Raises:
            StoreError: absent, or out of reach after several attempts.
        """
        return self._insisting(url, lambda s: _remote_file(url, s.info(url)), stop=stop)

    def described_all(self, urls: Iterable[str]) -> list[RemoteFile]:
        """Size and tag of many files; one that is absent or forbidden says so itself.

        Raises:
            StoreError: the store is out of reach.
        """

        def describe(url: str) -> RemoteFile:
            try:
                return self.described(url)
            except StoreError as error:
                if not error.lasting:
                    raise
                return RemoteFile(url=url, problem=error.reason)

        with ThreadPoolExecutor(_ASKED_AT_ONCE, thread_name_prefix="describe") as pool:
            return list(pool.map(describe, urls))

    def listed(self, url: str) -> list[RemoteFile]:
        """All files below a URL, sorted; none where there is nothing.

        Raises:
            SettingsError: a web server, which does not list what it holds.
            StoreError: out of reach, or no permission.
        """
        if protocol_of(url) in WEB:
            raise SettingsError(
                f"{shown(url)}: a web server does not list its files; give the URL of one slide, "
                "or a CSV whose column path holds one URL a line"
            )

        def ask(system: "AbstractFileSystem") -> list[RemoteFile]:
            root = str(system._strip_protocol(url)).rstrip("/")
            found = system.find(root, detail=True)
            below = {path.removeprefix(root).lstrip("/"): info for path, info in found.items()}
            return [_remote_file(joined(url, at), below[at]) for at in sorted(below) if at]

        return self._insisting(url, ask)

    def matching(self, url: str) -> list[str]:
        """URLs of files that ``*`` in a URL may stand for, sorted; the URL itself without ``*``.

        Raises:
            StoreError: out of reach, or no permission.
        """
        start, sign, _ = url.partition("*")
        if not sign:
            return [url]
        names = [file.url for file in self.listed(folder_of(start))]
        return [name for name in names if fnmatchcase(name, url)]

    def read(self, url: str) -> bytes:
        """All bytes of a small file.

        Raises:
            StoreError: absent, or out of reach after several attempts.
        """
        content: bytes = self._insisting(url, lambda system: system.cat_file(url))
        return content

    def blocks(
        self, remote: RemoteFile, *, block_bytes: int, stop: threading.Event
    ) -> Iterator[bytes]:
        """A file block by block; after a dropped connection it goes on where it was.

        Raises:
            StoreError: out of reach after several attempts.
        """
        url, n_bytes = remote.url, remote.n_bytes or 0
        how = {"block_size": block_bytes, "cache_type": "none"}
        file = self._insisting(url, lambda system: system.open(url, "rb", **how), stop=stop)
        with file:
            for start in range(0, n_bytes, block_bytes):
                wanted = min(block_bytes, n_bytes - start)
                read = partial(_block, file=file, start=start, n_bytes=wanted)
                yield self._insisting(url, read, stop=stop)

    def put(self, local: Path, url: str) -> None:
        """Uploads a file; it appears whole.

        Raises:
            StoreError: refused, or out of reach after several attempts.
        """
        self._insisting(url, lambda system: system.put_file(str(local), url))

    def write(self, content: bytes, url: str) -> None:
        """Stores a small file; it appears whole.

        Raises:
            StoreError: refused, or out of reach after several attempts.
        """
        self._insisting(url, lambda system: system.pipe_file(url, content))

    def get(self, wanted: Mapping[str, Path]) -> None:
        """Downloads many files, each to its path; one that is absent is left out.

        Raises:
            StoreError: out of reach after several attempts.
        """

        def get_one(url: str) -> None:
            try:
                self._insisting(url, lambda system: system.get_file(url, str(wanted[url])))
            except StoreError as error:
                if not error.absent:
                    raise

        with ThreadPoolExecutor(_ASKED_AT_ONCE, thread_name_prefix="get") as pool:
            list(pool.map(get_one, wanted))

    def remove(self, urls: Iterable[str]) -> None:
        """Removes files; it does not matter if one is gone already.

        Raises:
            StoreError: refused, or out of reach after several attempts.
        """

        def remove_one(url: str) -> None:
            try:
                self._insisting(url, lambda system: system.rm_file(url))
            except StoreError as error:
                if not error.absent:
                    raise

        with ThreadPoolExecutor(_ASKED_AT_ONCE, thread_name_prefix="remove") as pool:
            list(pool.map(remove_one, urls))

    def _insisting(
        self, url: str, action: Callable[["AbstractFileSystem"], _Found], *,
        stop: threading.Event | None = None,
    ) -> _Found:  # fmt: skip
        system = self.system(url)

        def attempt() -> _Found:
            with told(url):
                return action(system)

        return self._settings.patience.insisting(attempt, stop=stop)


def _block(_: "AbstractFileSystem", *, file: Any, start: int, n_bytes: int) -> bytes:
    file.seek(start)
    block: bytes = file.read(n_bytes)
    if len(block) != n_bytes:
        raise EOFError(f"{len(block)} bytes came instead of {n_bytes}")
    return block


def _options_for(protocol: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Options by protocol, or the same ones for all stores that take some."""
    from fsspec import available_protocols

    if options and set(options) <= set(available_protocols()):
        found: Mapping[str, Any] = options.get(protocol, {})
        return found
    return {} if protocol in WEB else options


def _file_system(protocol: str, options: Mapping[str, Any]) -> "AbstractFileSystem":
    import fsspec

    try:
        # a listing kept in memory would hide that a file has changed
        return fsspec.filesystem(protocol, use_listings_cache=False, **options)
    except ImportError as error:
        install = _INSTALL.get(protocol)
        how = f"; {install}" if install else f": {error}"
        raise SettingsError(f"{protocol}:// needs a package that is not installed{how}") from error
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{protocol}:// cannot be used: {error}") from error


def _remote_file(url: str, info: Mapping[str, Any]) -> RemoteFile:
    size = info.get("size")
    if info.get("type") == "directory":
        raise IsADirectoryError("it is a folder, not a file")
    tag = next((str(info[name]) for name in _TAGS if info.get(name)), "")
    if size is None:
        return RemoteFile(url=url, tag=tag, problem="the server does not say how large the file is")
    return RemoteFile(url=url, n_bytes=int(size), tag=tag)
