"""Outcome: what was true of the tested slides, in the form that metrics take."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from gigassl.evaluate.task import Kind


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """The truth about some slides (or patients).

    Attributes:
        kind: of the task.
        target: class number, value, or time under observation.
        n_classes: of the task; 0 unless it is a classification.
        event: survival only: whether the event was seen at that time (False: censored).
    """

    kind: Kind
    target: Float64[np.ndarray, " row"]
    n_classes: int = 0
    event: Bool[np.ndarray, " row"] | None = None

    def __len__(self) -> int:
        return len(self.target)

    @property
    def labels(self) -> Int64[np.ndarray, " row"]:
        """Class numbers."""
        return self.target.astype(np.int64)

    @property
    def died(self) -> Bool[np.ndarray, " row"]:
        """Whether the event was seen; everywhere, unless the outcome is a survival."""
        return np.ones(len(self), dtype=bool) if self.event is None else self.event

    def rows(self, rows: Int64[np.ndarray, " chosen"]) -> "Outcome":
        """Some of the rows, in that order."""
        return Outcome(
            kind=self.kind,
            target=self.target[rows],
            n_classes=self.n_classes,
            event=None if self.event is None else self.event[rows],
        )
