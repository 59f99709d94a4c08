"""What a search found, as the terminal, JSON and files show it."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gigassl.errors import SettingsError
from gigassl.files import written_whole
from gigassl.pipeline.failures import Failure
from gigassl.pipeline.search_columns import Cell
from gigassl.report.tables import MISSING, Grid, grid_as_text

HIT_SUFFIXES, SHEET_SUFFIXES = (".csv", ".parquet"), (".png", ".html")


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A slide that was found.

    Attributes:
        rank: 1 for the nearest.
        similarity: cosine, from -1 to 1.
        cells: what is shown beside.
    """

    rank: int
    slide_id: str
    patient_id: str
    similarity: float
    cells: Mapping[str, Cell]


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The slides nearest to a query.

    Attributes:
        query: what was searched for.
        asked: its own cells, where it is a slide of the table.
        hits: nearest first.
        wanted: number of hits asked for.
        searched: slides that could have been found.
        index: that was asked.
        notes: what must be known of labels, condition and query.
        out, sheet: files written, if wanted.
        failures: slides without a picture on the contact sheet, and why.
    """

    query: str
    asked: Mapping[str, Cell]
    hits: tuple[Hit, ...]
    wanted: int
    searched: int
    index: str
    notes: tuple[str, ...]
    out: Path | None = None
    sheet: Path | None = None
    failures: tuple[Failure, ...] = ()
    interrupted: bool = False

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        return {
            "query": self.query,
            "query_columns": dict(self.asked),
            "hits": [{**asdict(hit), "cells": dict(hit.cells)} for hit in self.hits],
            "wanted": self.wanted,
            "searched": self.searched,
            "index": self.index,
            "notes": list(self.notes),
            "out": None if self.out is None else str(self.out),
            "sheet": None if self.sheet is None else str(self.sheet),
            "failures": [asdict(failure) for failure in self.failures],
        }

    def sentence(self) -> str:
        """The hits as a table, and what must be known of them."""
        lines = [self._table(), ""] if self.hits else [f"no slide is near '{self.query}'"]
        lines += self.notes
        if len(self.hits) < self.wanted:
            lines.append(f"{len(self.hits)} of {self.wanted} hits: there are no more such slides")
        lines += [f"{f.slide_id}: no picture on the sheet: {f.reason}" for f in self.failures]
        lines += [f"hits in {self.out}"] if self.out is not None else []
        lines += [f"contact sheet in {self.sheet}"] if self.sheet is not None else []
        return "\n".join(lines)

    def _table(self) -> str:
        names = tuple(self.hits[0].cells)
        of_query = [f"{name} {_text(cell)}" for name, cell in self.asked.items()]
        said = f" ({', '.join(of_query)})" if of_query else ""
        rows = [
            (
                str(hit.rank),
                hit.slide_id,
                f"{hit.similarity:.4f}",
                hit.patient_id,
                *(_text(hit.cells[name]) for name in names),
            )
            for hit in self.hits
        ]
        grid = Grid(
            title=f"nearest to {self.query}{said} among {self.searched} slides",
            header=("rank", "slide", "similarity", "patient", *names),
            rows=tuple(rows),
        )
        return grid_as_text(grid)


def _text(cell: Cell) -> str:
    if cell is None:
        return MISSING
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def texts_of(cells: Mapping[str, Cell]) -> Iterator[str]:
    """The cells of a slide as lines of text; empty ones left out."""
    for name, cell in cells.items():
        if cell is not None:
            yield f"{name}: {_text(cell)}"


def refuse_suffix(path: Path, known: tuple[str, ...], *, what: str) -> None:
    """Refuses a file of a kind that is not written.

    Raises:
        SettingsError: its suffix is none of the known ones.
    """
    if path.suffix.lower() not in known:
        raise SettingsError(f"{what} ends in {' or '.join(known)}; got {path}")


def save_hits(result: SearchResult, path: Path) -> None:
    """Writes the hits as CSV or Parquet, nothing rounded.

    Raises:
        MachineError: it cannot be written.
    """
    columns = _columns(result)
    with written_whole(path) as part:
        if path.suffix.lower() == ".csv":
            with part.open("w", newline="", encoding="utf-8") as handle:
                writer = csv.writer(handle, lineterminator="\n")
                writer.writerow(columns)
                writer.writerows(zip(*columns.values(), strict=True))
        else:
            pq.write_table(pa.table(columns), part)


def _columns(result: SearchResult) -> dict[str, list[Cell]]:
    hits = result.hits
    columns: dict[str, list[Cell]] = {
        "query": [result.query] * len(hits),
        "rank": [hit.rank for hit in hits],
        "slide_id": [hit.slide_id for hit in hits],
        "patient_id": [hit.patient_id for hit in hits],
        "similarity": [hit.similarity for hit in hits],
    }
    for name in hits[0].cells if hits else ():
        free = f"labels_{name}" if name in columns else name
        columns[free] = [hit.cells[name] for hit in hits]
    return columns
