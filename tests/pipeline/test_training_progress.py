"""Progress of a training: lines in a log, a bar on a terminal."""

import os
from pathlib import Path

import pytest

from gigassl.pipeline.training_progress import TrainingReporter
from tests.pipeline.test_progress import shown_on
from tests.pipeline.test_training_log import plan, row, tile_plan, tile_row


def tell(progress: TrainingReporter, *, epochs: int, done: int = 0) -> None:
    progress.started(plan(done=done))
    for epoch in range(done + 1, epochs + 1):
        for _ in range(2):
            progress.step_done()
        progress.row_done(row(epoch))


def test_lines_tell_the_plan_the_projected_time_and_the_newest_numbers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as stream, TrainingReporter(stream, seconds_between_lines=0) as progress:
        tell(progress, epochs=9)
    lines = log.read_text().splitlines()
    assert lines[0].startswith("8 slides of 8 patients, batches of 4: 9 epochs × 2 = 18 steps")
    assert lines[1] == (
        "epoch 1/9, loss 1.2500, rank 3.5, collapse 0.25, align 0.500, uniform -1.50, kNN 0.500, "
        "lr 0.1, 80 slides/s, ETA 0:00:00"
    )
    assert sum("s for each epoch: about 0:00:00 to go" in line for line in lines) == 1
    assert lines[-1].startswith("epoch 9/9")
    assert len(lines) == 1 + 9 + 1


def test_lines_are_rare_but_the_last_always_comes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as stream, TrainingReporter(stream) as progress:
        tell(progress, epochs=9, done=4)
    lines = log.read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:] if "epoch " in line[:6]] == ["epoch 9/9"]


def test_a_terminal_gets_a_bar_with_the_newest_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "180")
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal, TrainingReporter(terminal) as progress:
        tell(progress, epochs=9)
    shown = shown_on(ours)
    assert "18/18" in shown
    assert "9 epochs × 2 = 18 steps" in shown
    assert "rank 3.5" in shown
    assert "kNN 0.500" in shown


def test_a_tile_encoder_is_told_of_in_rounds(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as stream, TrainingReporter(stream, seconds_between_lines=0) as progress:
        progress.started(tile_plan(done=1_000_000))
        progress.step_done()
        progress.row_done(tile_row(3))
    first, second = log.read_text().splitlines()
    assert first == (
        "moco: 12,000 tiles of 30 files of 20 patients, batches of 256, 2 of them a step: "
        "1,250,000 steps (5.33e+04 epochs) at learning rate 0.06 on 2 × cuda, 7 parameters"
    )
    assert second.startswith(
        "round 3/3, loss 0.5000, rank 3.5, collapse 0.25, align 0.500, uniform -1.50, lr 0.25, "
        "512 tiles/s, 12 % waiting, 3 files skipped, ETA "
    )


def test_long_rounds_are_not_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(0, 100_000, 25))
    monkeypatch.setattr("time.monotonic", lambda: float(next(seconds)))
    log = tmp_path / "log"
    with log.open("w") as stream, TrainingReporter(stream) as progress:
        progress.started(tile_plan(done=1_249_990))
        for _ in range(9):
            progress.step_done()
    lines = log.read_text().splitlines()[1:]
    assert 2 <= len(lines) <= 5
    assert all(line.startswith("step 1249") and " steps/s, ETA 0:0" in line for line in lines)
