"""What re-embedding a sample of a table's rows showed: row by row, and for the whole table."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gigassl.evaluate.finite_population import LEVEL, most_bad
from gigassl.pipeline.verify_settings import Differences
from gigassl.report.tables import MISSING, Grid, grid_as_text

MIN_COSINE = 0.9999
"""Least cosine of a stored vector with one made again, at equal precision and backend."""

Verdict = Literal["same", "differs", "other file", "missing", "unreadable"]


@dataclass(frozen=True, kw_only=True)
class VerifiedRow:
    """One row of the sample.

    Attributes:
        verdict: "same", or why the row is not confirmed.
        cosine: of the stored vector with the one made again; None where none could be made.
        difference: largest absolute difference of their elements.
        reason: what else differs, or why there is no vector.
    """

    slide_id: str
    verdict: Verdict
    cosine: float | None = None
    difference: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """What verifying a table showed.

    Attributes:
        table: its file.
        population: rows of the table.
        seed: that the sample was drawn with.
        rows: of the sample.
        changed: settings and digests that are not those of the table.
        versions: of packages that are not those which the table was made with.
        from_bags: bags were read, so that no tile was encoded again.
    """

    table: Path
    population: int
    seed: int
    rows: Sequence[VerifiedRow]
    changed: Differences
    versions: Differences
    from_bags: bool
    interrupted: bool = False

    @property
    def unconfirmed(self) -> Sequence[VerifiedRow]:
        """Rows of the sample that are not what re-embedding gives."""
        return [row for row in self.rows if row.verdict != "same"]

    @property
    def failures(self) -> Sequence[object]:
        """All that speaks against the table; empty where it is certified."""
        return [*self.unconfirmed, *self.changed]

    @property
    def certified(self) -> bool:
        """Every sampled row is confirmed, with the settings of the table."""
        return not self.failures

    @property
    def most_differing(self) -> float:
        """The largest share of rows that can differ, at 95 % confidence."""
        n_bad = len(self.unconfirmed)
        return most_bad(n_bad, sample=len(self.rows), population=self.population) / self.population

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        return {
            "table": str(self.table),
            "certified": self.certified,
            "min_cosine": MIN_COSINE,
            "population": self.population,
            "sample": len(self.rows),
            "seed": self.seed,
            "unconfirmed": len(self.unconfirmed),
            "most_differing": self.most_differing,
            "confidence": LEVEL,
            "from_bags": self.from_bags,
            "changed": {name: list(pair) for name, pair in self.changed.items()},
            "versions": {name: list(pair) for name, pair in self.versions.items()},
            "rows": [asdict(row) for row in self.rows],
        }

    def sentence(self) -> str:
        """The rows as a table, and below it what they say of the whole."""
        said = any(row.reason for row in self.rows)
        header = ("slide_id", "cosine", "largest difference", "verdict", *(["reason"] * said))
        title = f"{self.table}: {len(self.rows)} of {self.population:,} rows, seed {self.seed}"
        cells = tuple(_cells(row)[: len(header)] for row in self.rows)
        grid = Grid(title=title, header=header, rows=cells)
        lines = [grid_as_text(grid), "", *self._differences(), self._verdict(), self._statement()]
        return "\n".join(lines)

    def _differences(self) -> Sequence[str]:
        lines = [f"changed: {name}: {old} → {new}" for name, (old, new) in self.changed.items()]
        if self.versions:
            said = ", ".join(f"{name} {old} → {new}" for name, (old, new) in self.versions.items())
            lines.append(f"other versions than the table was made with: {said}")
        return lines

    def _verdict(self) -> str:
        again = (
            "made again from the bags (no tile was encoded)" if self.from_bags else "re-embedded"
        )
        if self.certified:
            return f"certified: every sampled row {again} has cosine ≥ {MIN_COSINE}"
        return f"not certified: {self._against()}"

    def _against(self) -> str:
        if not self.unconfirmed:
            return "the rows agree, but not with the settings that the table says"
        n_bad = f"{len(self.unconfirmed)} of {len(self.rows)} sampled rows are not confirmed"
        if self.changed:
            return f"{n_bad}; the settings above are not those of the table"
        if self.versions:
            return f"{n_bad}; install the versions above to tell them from other causes"
        if all(row.verdict == "missing" for row in self.unconfirmed):
            return f"{n_bad}, since their slides are not there"
        return f"{n_bad}; settings and versions are the table's, so rows or slides changed"

    def _statement(self) -> str:
        n, n_bad = len(self.rows), len(self.unconfirmed)
        if n == self.population:
            return f"all {n:,} rows were made again; {n_bad or 'none'} differ or lack a slide"
        return (
            f"with {n:,} of {self.population:,} rows sampled and {n_bad or 'none'} differing, at "
            f"most {_rounded_up(100 * self.most_differing)} % of rows can differ, at {LEVEL:.0%} "
            "confidence"
        )


def _cells(row: VerifiedRow) -> tuple[str, ...]:
    cosine = MISSING if row.cosine is None else f"{row.cosine:.7f}"
    difference = MISSING if row.difference is None else f"{row.difference:.2g}"
    return (row.slide_id, cosine, difference, row.verdict, row.reason)


def _rounded_up(percent: float) -> str:
    """Two significant digits; a limit is never rounded down.

    >>> _rounded_up(13.21), _rounded_up(0.0301), _rounded_up(100.0)
    ('14', '0.031', '100')
    """
    if percent <= 0:
        return "0"
    digits = 1 - math.floor(math.log10(percent))
    # ten digits first: what is a hair above for floating point only is not rounded up
    raised = math.ceil(round(percent * 10**digits, 10)) / 10**digits
    return f"{raised:.{max(0, digits)}f}"
