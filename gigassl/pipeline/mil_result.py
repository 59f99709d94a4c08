"""How a run of MIL models ended."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gigassl.evaluate.comparison import CompareSettings, compare
from gigassl.evaluate.predictions import Predictions
from gigassl.pipeline.evaluation import Question, splits_beside
from gigassl.pipeline.failures import Failure, failures_path
from gigassl.report.tables import as_text


@dataclass(frozen=True, kw_only=True, eq=False)
class MilResult:
    """How a run of MIL models ended.

    Attributes:
        out: the table of predictions.
        predictions: what it holds; None where the run was interrupted.
        question: the task and its splits.
        n_new, n_reused: models trained now, and found from before.
        failures: bags that could not be read.
        models: folder of the kept models; None where none are.
    """

    out: Path
    predictions: Predictions | None
    question: Question
    n_new: int
    n_reused: int
    failures: tuple[Failure, ...] = ()
    models: Path | None = None

    @property
    def interrupted(self) -> bool:
        """Whether the run was stopped before its end; what was done is kept."""
        return self.predictions is None

    @cached_property
    def scores(self) -> str:
        """The table of scores, and what to know of it."""
        if self.predictions is None:
            return ""
        return as_text(compare([self.predictions], settings=CompareSettings()))

    def sentence(self) -> str:
        """What happened, for people."""
        said = f"{self.n_new + self.n_reused} models"
        if self.n_reused:
            said += f" ({self.n_reused} from before)"
        if self.interrupted:
            return f"interrupted after {said}; give the same command again to go on"
        failed = f"; {len(self.failures)} bags failed, see {failures_path(self.out)}"
        kept = "" if self.models is None else f"; the models: {self.models}"
        return (
            f"{self.question.as_text()}\n\n{self.scores}\n{said}: {self.out}; their splits: "
            f"{splits_beside(self.out)}{kept}{failed if self.failures else ''}"
        )

    def summary(self) -> dict[str, Any]:
        """What happened, for machines."""
        return {
            "out": str(self.out),
            "splits": str(splits_beside(self.out)),
            "models": None if self.models is None else str(self.models),
            "interrupted": self.interrupted,
            "models_new": self.n_new,
            "models_reused": self.n_reused,
            "failed": len(self.failures),
            "notes": list(self.question.notes),
            "scores": self.scores,
        }
