"""Progress of a training: a bar with the newest numbers on a terminal, plain lines in a log."""

import time
from typing import TextIO

from gigassl.pipeline.progress import LiveReporter, clock
from gigassl.training.monitors import LogRow, TrainingPlan

_ROWS_UNTIL_PROJECTED = 3
_LONGEST_SILENCE_S = 60.0


class TrainingReporter(LiveReporter):
    """Shows loss, collapse, rank, kNN accuracy, speed and ETA of a training."""

    def __init__(
        self, stream: TextIO | None = None, *, seconds_between_lines: float = 30.0
    ) -> None:
        super().__init__(stream, seconds_between_lines=seconds_between_lines)
        self._plan: TrainingPlan | None = None
        self._steps = self._rows = self._warm_steps = 0
        self._newest = ""

    def started(self, plan: TrainingPlan) -> None:
        """Says what is to come and starts the clock; may be called again for a next training."""
        self._plan = plan
        self._steps = self._rows = self._warm_steps = 0
        self._newest = ""
        self._say(plan.sentence())
        self._begin = self._last_line = time.monotonic()
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._bar.start()
            self._task = self._bar.add_task(
                "steps", total=plan.steps, completed=plan.steps_done, said=""
            )

    def step_done(self) -> None:
        """Moves the bar; a line, should none have come for a minute."""
        self._steps += 1
        if self._bar is not None and self._task is not None:
            said = self._newest or f"{1 / self._step_s():.3g} steps/s"
            self._bar.update(self._task, advance=1, said=said)
        elif self._plan is not None and self._silent_for(max(self._every, _LONGEST_SILENCE_S)):
            done = f"step {self._plan.steps_done + self._steps}/{self._plan.steps}"
            self._line(f"{done}, {1 / self._step_s():.3g} steps/s")

    def row_done(self, row: LogRow) -> None:
        """Shows the newest numbers; after a few rows says how long it will take."""
        if self._plan is None:
            return
        self._rows += 1
        self._newest = row.sentence()
        last = self._left() == 0
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, said=self._newest)
            if last:
                self._bar.stop()  # whatever comes next may show a bar of its own
        if self._rows == _ROWS_UNTIL_PROJECTED and not last:
            each = self._step_s() * self._steps / self._rows
            self._say(f"{each:.3g} s for each {self._plan.unit}: about {self._eta()} to go")
        if self._bar is None and (last or self._silent_for(self._every)):
            self._line(f"{self._plan.unit} {row.number}/{self._plan.rows}, {self._newest}")
        if self._rows == 1:  # in which much is done for the first time: not one to project from
            self._begin, self._warm_steps = time.monotonic(), self._steps

    def _left(self) -> int:
        """Steps to go."""
        return 0 if self._plan is None else self._plan.steps - self._plan.steps_done - self._steps

    def _step_s(self) -> float:
        seconds = max(time.monotonic() - self._begin, 1e-9)
        return seconds / max(1, self._steps - self._warm_steps)

    def _eta(self) -> str:
        return clock(self._step_s() * self._left())

    def _silent_for(self, seconds: float) -> bool:
        return time.monotonic() - self._last_line >= seconds

    def _line(self, said: str) -> None:
        self._last_line = time.monotonic()
        print(f"{said}, ETA {self._eta()}", file=self._stream, flush=True)

    def _say(self, sentence: str) -> None:
        if self._bar is not None:
            self._bar.console.print(sentence, highlight=False)
        else:
            print(sentence, file=self._stream, flush=True)
