"""How an inductive evaluation ended, for people and for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gigassl.evaluate.comparison import Comparison
from gigassl.pipeline.evaluation import Question
from gigassl.pipeline.failures import Failure
from gigassl.report.numbers import as_records
from gigassl.report.tables import as_text


@dataclass(frozen=True, kw_only=True)
class InductiveResult:
    """What an inductive evaluation found.

    Attributes:
        out: the predictions.
        question: the task and its splits.
        comparison: the scores.
        n_trained: slide encoders, one a distinct training set.
        seen: sentences on the test slides that encoders saw.
        failures: bags that could not be read.
    """

    out: Path
    question: Question
    comparison: Comparison
    n_trained: int
    seen: Sequence[str]
    failures: Sequence[Failure]
    interrupted: bool = False

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        return {
            "out": str(self.out),
            "trained": self.n_trained,
            "notes": [*self.question.notes, *self.seen],
            "comparison": as_records(self.comparison),
            "failures": [asdict(failure) for failure in self.failures],
        }

    def sentence(self) -> str:
        """The result as text."""
        return "\n".join(
            [
                self.question.as_text(),
                as_text(self.comparison),
                *self.seen,
                f"{self.out}: {self.n_trained} slide encoders were pretrained",
            ]
        )
