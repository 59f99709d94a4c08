"""Progress of a long job: a bar with rate and ETA on a terminal, plain lines in a log file."""

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, TextIO, TypeVar, runtime_checkable

_Reporter = TypeVar("_Reporter", bound="LiveReporter")


@runtime_checkable
class Progress(Protocol):
    """What a long job tells about itself; any object with these methods will do."""

    def started(self, n_slides: int) -> None:
        """The job begins: so many slides to do."""

    def tiles_done(self, n_tiles: int) -> None:
        """So many more tiles were encoded."""

    def slide_done(self, slide_id: str, *, failed: bool) -> None:
        """A slide is finished, or was given up."""


class Silent:
    """Says nothing; the default of the Python API."""

    def started(self, n_slides: int) -> None:
        """Ignores the start."""

    def tiles_done(self, n_tiles: int) -> None:
        """Ignores the tiles."""

    def slide_done(self, slide_id: str, *, failed: bool) -> None:
        """Ignores the slide."""


class LiveReporter(AbstractContextManager[Any]):
    """What reporters share: a live bar on a terminal, else a line every few seconds."""

    def __init__(
        self, stream: TextIO | None = None, *, seconds_between_lines: float = 30.0
    ) -> None:
        self._stream = stream or sys.stderr
        self._every = seconds_between_lines
        self._bar = live_bar(self._stream)
        self._task = None
        self._begin = self._last_line = time.monotonic()

    def __enter__(self: _Reporter) -> _Reporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class Reporter(LiveReporter):
    """Shows slides/s, tiles/s and ETA: a live bar on a terminal, a line every few seconds else."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        seconds_between_lines: float = 30.0,
        what: str = "slides",
    ) -> None:
        super().__init__(stream, seconds_between_lines=seconds_between_lines)
        self._what = what
        self._total = self._done = self._failed = self._tiles = 0

    def started(self, n_slides: int) -> None:
        """Notes the number of slides and starts the clock; may be called again for a next job."""
        self._total, self._done, self._failed, self._tiles = n_slides, 0, 0, 0
        self._begin = self._last_line = time.monotonic()
        if self._bar is not None and n_slides:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=n_slides, said="")

    def tiles_done(self, n_tiles: int) -> None:
        """Counts tiles; refreshes the bar, or prints a line when one is due."""
        self._tiles += n_tiles
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, said=self._rates())
        elif time.monotonic() - self._last_line >= self._every:
            self._line("")

    def slide_done(self, slide_id: str, *, failed: bool) -> None:
        """Counts a slide; failures are always printed."""
        self._done += 1
        self._failed += failed
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, said=self._rates())
            if self._done == self._total:  # a terminal shows one live bar; the next may be another
                self._bar.stop()
        elif self._done == self._total or time.monotonic() - self._last_line >= self._every:
            self._line(f", last: {slide_id}")

    def _rates(self) -> str:
        seconds = max(time.monotonic() - self._begin, 1e-9)
        failed = f", {self._failed} failed" if self._failed else ""
        tiles = f", {self._tiles / seconds:.0f} tiles/s" if self._what == "slides" else ""
        return f"{self._done / seconds:.2f} {self._what}/s{tiles}{failed}"

    def _line(self, ending: str) -> None:
        self._last_line = time.monotonic()
        elapsed = self._last_line - self._begin
        left = elapsed / self._done * (self._total - self._done) if self._done else None
        eta = "ETA unknown" if left is None else f"ETA {clock(left)}"
        done = f"{self._done}/{self._total} {self._what}"
        print(f"{done}, {self._rates()}, {eta}{ending}", file=self._stream, flush=True)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> clock(3725)
    '1:02:05'
    """
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}"


def live_bar(stream: TextIO):  # type: ignore[no-untyped-def]  # rich is imported only where it shows
    """A bar with rate and ETA, whose tasks have a field ``said``; None where no terminal is."""
    if not stream.isatty():
        return None
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"), TimeElapsedColumn(), TextColumn("ETA"),
        TimeRemainingColumn(elapsed_when_finished=True), console=Console(file=stream),
    )  # fmt: skip
