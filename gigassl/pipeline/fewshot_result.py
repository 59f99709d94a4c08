"""How a few-shot run ended."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gigassl.evaluate.comparison import Comparison
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


def with_one_control_each(comparison: Comparison) -> Comparison:
    """The comparison with controls read by the first method's probe only, for a clear figure.

    Every probe reads the controls too; all of that stands in the tables.
    """
    methods = [row.method for table in comparison.tables for row in table.rows if not row.control]
    first = next(filter(None, map(_probe, methods)), "")
    tables = []
    for table in comparison.tables:
        rows = [row for row in table.rows if not row.control or _probe(row.method) in {"", first}]
        tables.append(replace(table, rows=tuple(rows)))
    return replace(comparison, tables=tuple(tables))


def _probe(method: str) -> str:
    """The probe of "vectors · probe"; "" of MIL models.

    >>> _probe("ours, mean · knn")
    'knn'
    """
    vectors, _, probe = method.rpartition(" · ")
    return probe if vectors else ""
