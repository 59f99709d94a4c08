"""What a training tells about itself, whatever it trains: its plan, its steps, rows of its log."""

from typing import Protocol, runtime_checkable

from gigassl.training.geometry import Geometry


@runtime_checkable
class TrainingPlan(Protocol):
    """What is about to be trained, said before it starts.

    Attributes:
        unit: what a row of the log is of, "epoch" or "round".
        steps, rows: of the whole training.
        steps_done, rows_done: before it was interrupted; 0 in a new one.
    """

    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def rows(self) -> int: ...  # noqa: D102
    @property
    def steps_done(self) -> int: ...  # noqa: D102
    @property
    def rows_done(self) -> int: ...  # noqa: D102

    def sentence(self) -> str:
        """The plan in one line."""


@runtime_checkable
class LogRow(Protocol):
    """What an epoch, or a round of steps, did.

    Attributes:
        number: counted from 1.
        geometry: of the vectors that its steps computed.
    """

    @property
    def number(self) -> int: ...  # noqa: D102
    @property
    def geometry(self) -> Geometry: ...  # noqa: D102

    def sentence(self) -> str:
        """Its numbers in one short line."""


@runtime_checkable
class Monitor(Protocol):
    """What is told of a training; any object with these methods will do."""

    def started(self, plan: TrainingPlan) -> None:
        """Training begins, or goes on from ``plan.steps_done``."""

    def step_done(self) -> None:
        """One more step."""

    def row_done(self, row: LogRow) -> None:
        """One more row of the log."""


class Quiet:
    """Says nothing; the default of the Python API."""

    def started(self, plan: TrainingPlan) -> None:
        """Ignores the start."""

    def step_done(self) -> None:
        """Ignores the step."""

    def row_done(self, row: LogRow) -> None:
        """Ignores the row."""


class Monitors(Quiet):
    """Tells several monitors the same."""

    def __init__(self, *monitors: Monitor) -> None:
        self.monitors = monitors

    def started(self, plan: TrainingPlan) -> None:
        """Tells all of the start."""
        for monitor in self.monitors:
            monitor.started(plan)

    def step_done(self) -> None:
        """Tells all of a step."""
        for monitor in self.monitors:
            monitor.step_done()

    def row_done(self, row: LogRow) -> None:
        """Tells all of a row."""
        for monitor in self.monitors:
            monitor.row_done(row)


def measured(loss: float, shape: Geometry, knn_accuracy: float | None) -> str:
    """The numbers that every training watches, in one short line."""
    knn = "" if knn_accuracy is None else f", kNN {knn_accuracy:.3f}"
    return (
        f"loss {loss:.4f}, rank {shape.effective_rank:.1f}, collapse {shape.collapse:.2f}, "
        f"align {shape.alignment:.3f}, uniform {shape.uniformity:.2f}{knn}"
    )
