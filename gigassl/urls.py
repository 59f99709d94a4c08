"""URLs of files in stores: what is one, what of it may be shown, and the file name at its end."""

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit

from gigassl.errors import SettingsError

WEB = ("http", "https")
"""Protocols of servers that list nothing and take nothing."""

_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*)://")


def is_url(place: object) -> bool:
    """Whether a place is written as a URL of a store (``file://`` is a local path).

    >>> is_url("s3://bucket/slides"), is_url("C:/slides"), is_url("file:///slides")
    (True, False, False)
    """
    return isinstance(place, str) and protocol_of(place) != "file"


def place_of(text: str) -> Path | str:
    """A URL as it is, anything else as a local path.

    >>> place_of("s3://bucket/slides")
    's3://bucket/slides'
    """
    if is_url(text):
        return text
    return Path(unquote(urlsplit(text).path)) if text.startswith("file://") else Path(text)


def protocol_of(url: str) -> str:
    """The part before ``://``, in small letters; ``file`` where there is none."""
    found = _URL.match(url)
    return found.group(1).lower() if found else "file"


def shown(url: str) -> str:
    """A URL without what may be secret: signatures in the query, passwords.

    >>> shown("https://me:secret@host/a.svs?sig=abc")
    'https://host/a.svs'
    """
    if protocol_of(url) not in WEB:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def path_of(url: str) -> PurePosixPath:
    """The place inside the store: bucket and key, or host and path.

    >>> path_of("https://host/a%20b.svs?x=1").as_posix()
    'host/a b.svs'
    """
    plain = unquote(shown(url)) if protocol_of(url) in WEB else url
    return PurePosixPath(plain.partition("://")[2].lstrip("/"))


def name_of(url: str) -> str:
    """The file name at the end of a URL: one that stays in the folder it is put into.

    Raises:
        SettingsError: it ends in no name that a file can have.
    """
    name = path_of(url).name
    if not is_plain(name):
        raise SettingsError(f"{shown(url)} does not end in a file name")
    return name


def is_plain(name: str) -> bool:
    """Whether a name holds nothing that would lead out of a folder.

    >>> is_plain("a.svs"), is_plain("../a.svs")
    (True, False)
    """
    return name not in {"", ".", ".."} and not any(sign in name for sign in "/\\\0")


def joined(url: str, name: str) -> str:
    """The URL of a file below another.

    >>> joined("s3://bucket/slides/", "a.svs")
    's3://bucket/slides/a.svs'
    """
    return f"{url.rstrip('/')}/{name}"


def folder_of(url: str) -> str:
    """The URL without its last part.

    >>> folder_of("s3://bucket/slides/a.svs")
    's3://bucket/slides'
    """
    return url.rpartition("/")[0]


def beside(place: Path | str, rename: Callable[[Path], Path]) -> Path | str:
    """A path or URL with another file name.

    >>> beside("s3://bucket/v.parquet", lambda path: path.with_suffix(".csv"))
    's3://bucket/v.csv'
    """
    if isinstance(place, Path):
        return rename(place)
    return joined(folder_of(place), rename(Path(name_of(place))).name)
