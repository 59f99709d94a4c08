"""The failures file: which slides were left out, at what stage, and why; never a silent gap."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gigassl.delimited import rows_of_text
from gigassl.errors import SettingsError, SlideError
from gigassl.files import written_whole
from gigassl.slides.cohort import Cohort, CohortSlide

COLUMNS = ("slide_id", "path", "stage", "reason", "detail")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One slide that could not be used."""

    slide_id: str
    path: str
    stage: str
    reason: str
    detail: str = ""

    @classmethod
    def of(cls, source: CohortSlide, error: SlideError) -> "Failure":
        """The failures-file row of a slide's error."""
        return cls(
            slide_id=source.slide_id, path=source.where, stage=error.stage,
            reason=error.reason, detail=error.detail,
        )  # fmt: skip


def missing_files(cohort: Cohort) -> list[Failure]:
    """The failures of slides whose file a cohort table names in vain."""
    missing = SlideError("the file that the cohort table names does not exist", stage="open")
    return [
        Failure.of(s, SlideError(s.remote.problem, stage="fetch") if s.remote else missing)
        for s in cohort.missing
    ]


def failures_path(out: Path) -> Path:
    """Where the failures of a table are listed.

    >>> failures_path(Path("run/vectors.parquet")).as_posix()
    'run/vectors.failures.csv'
    """
    return out.with_suffix(".failures.csv")


def save_failures(failures: Iterable[Failure], path: Path) -> None:
    """Writes the failures sorted by slide_id; without any, an older file is removed."""
    rows = sorted(failures, key=lambda failure: failure.slide_id)
    if not rows:
        path.unlink(missing_ok=True)
        return
    with written_whole(path) as part, part.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([getattr(row, column) for column in COLUMNS] for row in rows)


def with_failures(
    done: str, failures: Sequence[Failure], path: Path | str, *, what: str = "slides"
) -> str:
    """What was done, and below it how many slides failed and where they are listed."""
    if not failures:
        return done
    return f"{done}\n{len(failures)} {what} failed; the reasons are in {path}"


def read_failures(path: Path) -> Sequence[Failure]:
    """The failures listed in a file; none where there is no file.

    Raises:
        SettingsError: another table.
    """
    if not path.is_file():
        return []
    rows = rows_of_text(path.read_bytes(), where=str(path))
    if any(tuple(row) != COLUMNS for row in rows):
        raise SettingsError(f"{path} is no list of failures; expected {','.join(COLUMNS)}")
    return [Failure(**row) for row in rows]
