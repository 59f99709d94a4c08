"""Progress of a training: a bar with the newest numbers on a terminal, plain lines in a log."""

import time
from typing import TextIO

from gigassl.pipeline.progress import LiveReporter, clock
from gigassl.vectors.pretrain.monitors import EpochRow, Plan

_EPOCHS_UNTIL_PROJECTED = 3


class TrainingReporter(LiveReporter):
    """Shows loss, collapse, rank, kNN accuracy, slides/s and ETA of a training."""

    def __init__(
        self, stream: TextIO | None = None, *, seconds_between_lines: float = 30.0
    ) -> None:
        super().__init__(stream, seconds_between_lines=seconds_between_lines)
        self._plan: Plan | None = None
        self._steps = self._epochs = self._warm_steps = 0

    def started(self, plan: Plan) -> None:
        """Says what is to come and starts the clock; may be called again for a next training."""
        self._plan = plan
        self._steps = self._epochs = self._warm_steps = 0
        self._say(plan.sentence())
        self._begin = self._last_line = time.monotonic()
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._bar.start()
            done = plan.epochs_done * plan.n_batches
            self._task = self._bar.add_task("steps", total=plan.steps, completed=done, said="")

    def step_done(self) -> None:
        """Moves the bar."""
        self._steps += 1
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)

    def epoch_done(self, row: EpochRow) -> None:
        """Shows the newest numbers; after a few epochs says how long it will take."""
        self._epochs += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, said=newest(row))
            if self._plan is not None and row.epoch == self._plan.epochs:
                self._bar.stop()  # whatever comes next may show a bar of its own
        if self._plan is None:
            return
        step_s = (time.monotonic() - self._begin) / (self._steps - self._warm_steps)
        left = step_s * (self._plan.steps - row.epoch * self._plan.n_batches)
        if self._epochs == 1:  # in which much is done for the first time: not one to project from
            self._begin, self._warm_steps = time.monotonic(), self._steps
        if self._epochs == _EPOCHS_UNTIL_PROJECTED and row.epoch < self._plan.epochs:
            each = step_s * self._plan.n_batches
            self._say(f"{each:.3g} s an epoch: about {clock(left)} to go")
        due = time.monotonic() - self._last_line >= self._every
        if self._bar is None and (due or row.epoch == self._plan.epochs):
            self._last_line = time.monotonic()
            done = f"epoch {row.epoch}/{self._plan.epochs}"
            print(f"{done}, {newest(row)}, ETA {clock(left)}", file=self._stream, flush=True)

    def _say(self, sentence: str) -> None:
        if self._bar is not None:
            self._bar.console.print(sentence, highlight=False)
        else:
            print(sentence, file=self._stream, flush=True)


def newest(row: EpochRow) -> str:
    """The numbers of an epoch in one short line."""
    shape = row.geometry
    knn = "" if row.knn_accuracy is None else f", kNN {row.knn_accuracy:.3f}"
    return (
        f"loss {row.loss:.4f}, rank {shape.effective_rank:.1f}, collapse {shape.collapse:.2f}, "
        f"align {shape.alignment:.3f}, uniform {shape.uniformity:.2f}{knn}, lr {row.lr:.2g}, "
        f"{row.slides_per_s:.0f} slides/s"
    )
