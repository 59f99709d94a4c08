"""Progress of MIL: a bar of fitted models with rate and ETA on a terminal, plain lines in a log."""

import time
from typing import TextIO

from gigassl.evaluate.mil.training import EpochLoss
from gigassl.pipeline.progress import LiveReporter, clock


class MilReporter(LiveReporter):
    """Shows how many models are fitted, epochs/s, the newest losses and the time to go."""

    def __init__(
        self, stream: TextIO | None = None, *, seconds_between_lines: float = 30.0
    ) -> None:
        super().__init__(stream, seconds_between_lines=seconds_between_lines)
        self._total = self._before = self._done = self._epochs = 0

    def started(self, n_fits: int, *, n_done: int) -> None:
        """Notes the number of models and starts the clock."""
        self._total, self._before, self._done = n_fits, n_done, n_done
        self._begin = self._last_line = time.monotonic()
        if n_done:
            print(f"{n_done} of {n_fits} models were fitted before", file=self._stream, flush=True)
        if self._bar is not None and n_fits > n_done:
            self._bar.start()
            self._task = self._bar.add_task("models", total=n_fits, completed=n_done, said="")

    def epoch_done(self, loss: EpochLoss, *, epochs: int) -> None:
        """Counts an epoch; refreshes the bar, or prints a line when one is due."""
        self._epochs += 1
        said = f"epoch {loss.epoch}/{epochs}, {newest(loss)}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, said=f"{self._rate()}, {said}")
        elif time.monotonic() - self._last_line >= self._every:
            self._line(said)

    def fitted(self, title: str) -> None:
        """Counts a model."""
        self._done += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, said=self._rate())
            if self._done == self._total:
                self._bar.stop()
        elif self._done == self._total or time.monotonic() - self._last_line >= self._every:
            self._line(f"last: {title}")

    def _rate(self) -> str:
        seconds = max(time.monotonic() - self._begin, 1e-9)
        return f"{self._epochs / seconds:.3g} epochs/s"

    def _line(self, said: str) -> None:
        self._last_line = time.monotonic()
        here = self._done - self._before
        each = (self._last_line - self._begin) / here if here else None
        eta = "ETA unknown" if each is None else f"ETA {clock(each * (self._total - self._done))}"
        done = f"{self._done}/{self._total} models"
        print(f"{done}, {self._rate()}, {eta}, {said}", file=self._stream, flush=True)


def newest(loss: EpochLoss) -> str:
    """The losses of an epoch in one short line.

    >>> newest(EpochLoss(epoch=3, train=0.5, validation=None))
    'loss 0.5000'
    """
    watched = "" if loss.validation is None else f", validation {loss.validation:.4f}"
    return f"loss {loss.train:.4f}{watched}"
