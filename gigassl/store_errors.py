"""What stores say when they do not give or take a file, and how often they are asked again."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from gigassl.errors import GigasslError
from gigassl.urls import WEB, protocol_of, shown

_Found = TypeVar("_Found")

_LASTING = (
    FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError,
    NotImplementedError, ValueError,
)  # fmt: skip
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}
# errors of the libraries below fsspec that are no OSError
_NETWORK_ERRORS = (
    ("aiohttp", "ClientError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
)


class StoreError(GigasslError):
    """A store did not give or take a file.

    Attributes:
        reason: the sentence without the URL.
        lasting: asking again would not help: no such file, no permission, no credentials.
        absent: there is no such file.
    """

    def __init__(
        self, url: str, reason: str, *, lasting: bool = False, absent: bool = False
    ) -> None:
        super().__init__(f"{shown(url)}: {reason}")
        self.reason, self.lasting, self.absent = reason, lasting, absent


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often a store is asked again after a dropped connection; pauses double."""

    attempts: int = 7
    first_pause_s: float = 0.5

    def insisting(
        self, action: Callable[[], _Found], *, stop: threading.Event | None = None
    ) -> _Found:
        """What the action gives, tried again while its failure may pass.

        Args:
            stop: once set, no further attempt is made.

        Raises:
            StoreError: it failed for good, or every time.
        """
        stopped = stop or threading.Event()
        for attempt in range(self.attempts - 1):
            try:
                return action()
            except StoreError as error:
                if error.lasting or stopped.wait(self.first_pause_s * 2**attempt):
                    raise
        return action()


@contextmanager
def told(url: str) -> Iterator[None]:
    """What a store's library says, as one kind of error."""
    try:
        yield
    except FileNotFoundError as error:
        raise _not_found(url, error.__cause__) from error
    except PermissionError as error:
        raise StoreError(url, "no permission to use the file", lasting=True) from error
    except _LASTING as error:
        raise StoreError(url, _sentence(error), lasting=True) from error
    except _passing_errors() as error:
        if type(error).__name__ in _NO_CREDENTIALS:
            reason = "no credentials found; give them as the store's own tools take them"
            raise StoreError(url, reason, lasting=True) from error
        raise StoreError(url, f"out of reach ({_sentence(error)})") from error


def _not_found(url: str, cause: BaseException | None) -> StoreError:
    """What is behind "not found": fsspec says so of whatever goes wrong with a web server."""
    said = getattr(cause, "status", None)
    if protocol_of(url) not in WEB or cause is None or said in {404, 410}:
        return StoreError(url, "there is no such file", lasting=True, absent=True)
    if said in {401, 403}:
        return StoreError(url, "no permission to use the file", lasting=True)
    return StoreError(url, f"out of reach ({_sentence(cause)})")


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _passing_errors() -> tuple[type[Exception], ...]:
    """Errors that another attempt may not meet, of the libraries that are loaded."""
    loaded = [
        (sys.modules[module], name) for module, name in _NETWORK_ERRORS if module in sys.modules
    ]
    return (OSError, EOFError, *(getattr(module, name) for module, name in loaded))
