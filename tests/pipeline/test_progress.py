"""Progress: plain lines in a log, with counts, rates, ETA and failures."""

import os
import re
from pathlib import Path

import pytest

from gigassl.pipeline.progress import Reporter, Silent


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


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal, Reporter(terminal) as progress:
        progress.started(2)
        progress.tiles_done(5)
        progress.slide_done("a", failed=True)
        progress.slide_done("b", failed=False)
    with os.fdopen(ours, "rb", buffering=0) as screen:
        shown = screen.read(65_536).decode()
    assert "2/2" in shown
    assert "1 failed" in shown


def test_silence_is_silent() -> None:
    quiet = Silent()
    quiet.started(1)
    quiet.tiles_done(1)
    quiet.slide_done("a", failed=False)
