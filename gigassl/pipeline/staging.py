"""Slides of a store as local files: fetched ahead, within a bound, removed after their use."""

import logging
import shutil
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gigassl.errors import SlideError
from gigassl.pipeline.fetching import ChangedError, SlideFiles, fetch, files_of
from gigassl.pipeline.room import Room, StoppedError
from gigassl.pipeline.run_folder import RunFolder
from gigassl.slides.cohort import CohortSlide
from gigassl.store_errors import StoreError
from gigassl.stores import RemoteFile, Stores, StoreSettings

log = logging.getLogger("gigassl")

# downloads at once, and slides fetched that nobody has asked for yet
_AHEAD = 4
_VERSIONS = 3


@dataclass(frozen=True, kw_only=True)
class _Copy:
    """A slide's local files; ``folder`` holds nothing else."""

    main: Path
    folder: Path
    n_bytes: int


class Staging:
    """Local copies of slides; those of local files are the files themselves.

    One object serves all threads of a process. Sent to another process, it begins there anew with
    the same settings, and a bound of its own.
    """

    def __init__(self, settings: StoreSettings | None = None) -> None:
        self.settings = settings or StoreSettings()
        self.room = Room(round(self.settings.cache_gb * 1e9))
        self._stores = Stores(self.settings)
        self._lock = threading.RLock()
        self._copies: dict[str, Future[_Copy]] = {}
        self._expected: deque[CohortSlide] = deque()
        self._asked: set[str] = set()
        self._unasked: set[str] = set()
        self._folder: RunFolder | None = None
        self._fetchers: ThreadPoolExecutor | None = None
        self._stop = threading.Event()

    def __reduce__(self) -> tuple[Any, ...]:
        return Staging, (self.settings,)

    @contextmanager
    def ahead(self, sources: Sequence[CohortSlide]) -> Iterator[None]:
        """Inside, slides are fetched a few ahead in this order; leaving it stops every download."""
        with self._lock:
            self._expected = deque(source for source in sources if source.remote is not None)
            self._asked.clear()
            self._fetch_ahead()
        try:
            yield
        finally:
            self._end()

    def local(self, source: CohortSlide) -> CohortSlide:
        """The slide as a local file, once that is there; call ``done`` when it is used no more.

        Raises:
            SlideError: it cannot be fetched, or is larger than the cache.
            MachineError: the disk is full.
        """
        if source.remote is None:
            return source
        with self._lock:
            self._asked.add(source.slide_id)
            future = self._copies.get(source.slide_id) or self._begin(source, source.remote)
            self._unasked.discard(source.slide_id)
            self._fetch_ahead()
        try:
            return replace(source, path=future.result().main, remote=None)
        except BaseException:
            self.done(source)
            raise

    def done(self, source: CohortSlide) -> None:
        """Removes the copy of a slide, if there is one."""
        with self._lock:
            future = self._copies.pop(source.slide_id, None)
        if future is not None:
            self._forget(future)
        self._tidy()

    def _remove(self, copy: _Copy) -> None:
        shutil.rmtree(copy.folder, ignore_errors=True)
        self.room.give_back(copy.n_bytes)

    def _fetch_ahead(self) -> None:
        while self._expected and len(self._unasked) < _AHEAD:
            source = self._expected.popleft()
            if source.remote is not None and source.slide_id not in self._asked:
                self._unasked.add(source.slide_id)
                self._begin(source, source.remote)

    def _begin(self, source: CohortSlide, remote: RemoteFile) -> "Future[_Copy]":
        if self._folder is None:
            self._folder = RunFolder(self.settings.cache_dir)
        if self._fetchers is None:
            self._fetchers = ThreadPoolExecutor(_AHEAD, thread_name_prefix="fetch")
        ticket = self.room.ticket()
        folder = self._folder.path / str(ticket)
        future = self._fetchers.submit(
            self._fetched, remote, folder, ticket=ticket, stop=self._stop
        )
        future.add_done_callback(lambda _: self.room.leave(ticket))
        self._copies[source.slide_id] = future
        return future

    def _fetched(
        self, remote: RemoteFile, folder: Path, *, ticket: int, stop: threading.Event
    ) -> _Copy:
        try:
            for _ in range(_VERSIONS):
                slide = files_of(remote, self._stores, stop=stop)
                self._refuse_large(slide)
                self.room.take(ticket, slide.n_bytes, stop=stop)
                with suppress(ChangedError):
                    return self._copy(slide, folder, stop=stop)
                log.info("%s changed while it was fetched; it is fetched anew", remote.name)
        except (StoreError, StoppedError) as error:
            reason = error.reason if isinstance(error, StoreError) else str(error)
            raise SlideError(f"it cannot be fetched: {reason}", stage="fetch") from error
        raise SlideError(
            "it changes at its source again and again while it is fetched; embed it when whoever "
            "writes it is done", stage="fetch",
        )  # fmt: skip

    def _refuse_large(self, slide: SlideFiles) -> None:
        if slide.n_bytes > self.room.n_bytes:
            raise SlideError(
                f"it takes {slide.n_bytes / 1e9:.3g} GB, more than the local cache of "
                f"{self.room.n_bytes / 1e9:.3g} GB; raise --cache-gb", stage="fetch",
            )  # fmt: skip

    def _copy(self, slide: SlideFiles, folder: Path, *, stop: threading.Event) -> _Copy:
        """Room for the slide is taken already; it is given back where this fails."""
        try:
            main = fetch(slide, folder, stores=self._stores, stop=stop)
        except BaseException:
            self._remove(_Copy(main=folder, folder=folder, n_bytes=slide.n_bytes))
            raise
        return _Copy(main=main, folder=folder, n_bytes=slide.n_bytes)

    def _end(self) -> None:
        with self._lock:
            self._expected.clear()
            fetchers, self._fetchers = self._fetchers, None
            stop, self._stop = self._stop, threading.Event()
        self.room.stop_waiting(stop)
        if fetchers is not None:
            fetchers.shutdown(cancel_futures=True)
        with self._lock:
            for slide_id in self._unasked:
                self._forget(self._copies.pop(slide_id))
            self._unasked.clear()
        self._tidy()

    def _forget(self, future: "Future[_Copy]") -> None:
        if not future.cancel() and future.exception() is None:
            self._remove(future.result())

    def _tidy(self) -> None:
        with self._lock:
            if not self._copies and self._folder is not None:
                self._folder.remove()
                self._folder = None
