"""How a few-shot run ended."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gigassl.pipeline.compare import CompareResult
from gigassl.pipeline.evaluation import Question
from gigassl.pipeline.failures import Failure

SPLITS = "splits"


@dataclass(frozen=True, kw_only=True, eq=False)
class FewshotResult:
    """How a few-shot run ended.

    Attributes:
        out: folder of everything that was written.
        question: the task and all its draws.
        notes: what was left out.
        compared: tables and learning curves; None where the run was interrupted.
        failures: bags that could not be read.
    """

    out: Path
    question: Question
    notes: tuple[str, ...]
    compared: CompareResult | None
    failures: tuple[Failure, ...] = ()

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped before its end; finished MIL models are kept."""
        return self.compared is None

    def sentence(self) -> str:
        """Notes, leaks, tables, and where it all is."""
        if self.compared is None:
            return "interrupted; give the same command again to go on"
        head = "\n".join([self.question.as_text(), *self.notes])
        return f"{head}\n\n{self.compared.sentence()}"

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        return {
            "out": str(self.out),
            "splits": str(self.out / SPLITS),
            "interrupted": self.interrupted,
            "notes": [*self.question.notes, *self.notes],
            "leaks": list(self.question.leaks.warnings()),
            "failed": len(self.failures),
            **({} if self.compared is None else self.compared.summary()),
        }
