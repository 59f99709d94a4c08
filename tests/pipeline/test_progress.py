"""Progress: plain lines in a log, with counts, rates, ETA and failures."""

import errno
import os
import re
from pathlib import Path

import pytest

from gigassl.pipeline.progress import Reporter, Silent


def shown_on(terminal: int) -> str:
    """All that was written to a pseudo-terminal whose other side is closed."""
    found = b""
    with os.fdopen(terminal, "rb", buffering=0) as screen:
        while True:
            try:
                found += screen.read(65_536)
            except OSError as error:
                if error.errno != errno.EIO:  # which is how a terminal ends on Linux
                    raise
                return found.decode()


def test_lines_tell_slides_rates_eta_and_failures(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as stream, Reporter(stream, seconds_between_lines=0) as progress:
        progress.started(3)
        progress.tiles_done(32)
        progress.slide_done("a", failed=False)
        progress.slide_done("b", failed=True)
        progress.slide_done("c", failed=False)
    lines = log.read_text().splitlines()
    assert re.fullmatch(r"0/3 slides, 0\.00 slides/s, \d+ tiles/s, ETA unknown", lines[0])
    assert re.fullmatch(
        r"1/3 slides, [\d.]+ slides/s, \d+ tiles/s, ETA 0:00:0\d, last: a", lines[1]
    )
    assert ", 1 failed, " in lines[2]
    assert lines[3].startswith("3/3 slides")


def test_lines_are_rare_but_the_last_always_comes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as stream, Reporter(stream, seconds_between_lines=3600) as progress:
        progress.started(50)
        for number in range(50):
            progress.tiles_done(10)
            progress.slide_done(str(number), failed=False)
    (line,) = log.read_text().splitlines()
    assert line.startswith("50/50 slides")


def test_a_second_job_counts_from_zero(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as stream, Reporter(stream, seconds_between_lines=3600) as progress:
        for n_slides in (3, 2):
            progress.started(n_slides)
            for number in range(n_slides):
                progress.slide_done(str(number), failed=number == 0)
    first, second = log.read_text().splitlines()
    assert first.startswith("3/3 slides")
    assert second.startswith("2/2 slides")
    assert "1 failed" in second


def test_one_bar_ends_before_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = os.openpty()
    with (
        os.fdopen(theirs, "w") as terminal,
        Reporter(terminal) as progress,
        Reporter(terminal) as other,
    ):
        for reporter in (progress, other, progress):
            reporter.started(1)
            reporter.slide_done("a", failed=False)
    assert shown_on(ours).count("1/1") >= 3


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal, Reporter(terminal) as progress:
        progress.started(2)
        progress.tiles_done(5)
        progress.slide_done("a", failed=True)
        progress.slide_done("b", failed=False)
    shown = shown_on(ours)
    assert "2/2" in shown
    assert "1 failed" in shown


def test_silence_is_silent() -> None:
    quiet = Silent()
    quiet.started(1)
    quiet.tiles_done(1)
    quiet.slide_done("a", failed=False)
