"""Search: the slides of a table that are nearest to a slide, a new slide file, or a vector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from gigassl.errors import SettingsError
from gigassl.pipeline.output import claimed
from gigassl.pipeline.progress import Progress, Silent
from gigassl.pipeline.search_columns import SearchColumns, search_columns
from gigassl.pipeline.search_query import Query, QueryOptions, read_query
from gigassl.pipeline.search_result import (
    HIT_SUFFIXES,
    SHEET_SUFFIXES,
    Hit,
    SearchResult,
    refuse_suffix,
    save_hits,
)
from gigassl.slides.cohort import Cohort, read_cohort
from gigassl.vectors.search import Searcher
from gigassl.vectors.table import SlideTable, open_table


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What may be found, and how it is shown.

    Attributes:
        k: how many hits.
        where: condition on columns of the table and of ``labels`` (see ``parse_where``).
        labels: table of labels of slides or patients.
        show: columns to show; None: those of the condition and the first of the labels.
        exclude_patient: leave out all slides of the query's patient.
        index: as ``Searcher``; "auto" compares a single query with every row.
        slides: folder or table of the slides, for the pictures of a contact sheet.
        slide_dir: where the slides of a table without paths lie.
        new: how a slide that is not in the table is embedded.
    """

    k: int = 10
    where: str | None = None
    labels: Path | None = None
    show: Sequence[str] | None = None
    exclude_patient: bool = False
    index: str = "auto"
    slides: Path | None = None
    slide_dir: Path | None = None
    new: QueryOptions = field(default_factory=QueryOptions)


def search(
    vectors: Path, query: str | Float[np.ndarray, "..."], out: Path | None = None, *,
    sheet: Path | None = None, options: SearchOptions | None = None,
    progress: Progress | None = None,
) -> SearchResult:  # fmt: skip
    """Finds the slides of a table that are most similar to a query, nearest first.

    Conditions hold before hits are counted: there are ``k`` of them wherever so many slides satisfy
    them. The query slide itself is never among them, however it is given.

    Args:
        vectors: table of ``gigassl embed`` or ``import-vectors``.
        query: a slide_id of it; a slide (or bag) file, embedded with the settings of the table's
            provenance; ``other.parquet#SLIDE_ID``; a ``.npy`` file of one vector; or a vector.
        out: CSV or Parquet file for the hits.
        sheet: PNG or HTML file for a contact sheet; needs ``options.slides``.

    Raises:
        SettingsError: a query, condition or option that cannot be used.
        GigasslError: the table cannot be read, or the slide cannot be embedded.

    Example::

        gigassl.search(Path("vectors.parquet"), "slide 7").hits[0].slide_id
    """
    options = options or SearchOptions()
    slides = _refused(out, sheet, options)
    table = open_table(vectors)
    columns = search_columns(table, options.labels, where=options.where, show=options.show)
    asked = read_query(query, table, options=options.new, progress=progress or Silent())
    row_of = {name: row for row, name in enumerate(table.slide_ids)}
    asked = _as_labelled(asked, row_of, columns=columns)
    among = _among(table, asked, columns=columns, exclude_patient=options.exclude_patient)
    searcher = Searcher(table, index=options.index, n_queries=1)
    wanted = asked.vector if asked.row is None else asked.name
    near = searcher.nearest(wanted, k=options.k, among=among)
    found = [(one, row_of[one.slide_id]) for one in near]
    notes = (*asked.notes, *columns.notes)
    if options.exclude_patient:
        notes += columns.patients_note()
    result = SearchResult(
        query=asked.name,
        asked={} if asked.row is None else columns.cells(asked.row),
        hits=tuple(
            Hit(
                rank=rank, slide_id=one.slide_id, patient_id=columns.patients[row],
                similarity=one.similarity, cells=columns.cells(row),
            )
            for rank, (one, row) in enumerate(found, start=1)
        ),
        wanted=options.k, searched=int(among.sum()), index=searcher.index,
        notes=notes, out=out, sheet=sheet,
    )  # fmt: skip
    return _kept(result, asked, slides=slides, progress=progress or Silent())


def _as_labelled(query: Query, row_of: Mapping[str, int], *, columns: SearchColumns) -> Query:
    """The query with the patient that the labels say, where it stands in the table."""
    row = None if query.slide_id is None else row_of.get(query.slide_id)
    if row is None:
        return query
    note = f"'{query.slide_id}' stands in the table too and is left out"
    notes = query.notes if query.row is not None else (*query.notes, note)
    return replace(query, patient_id=columns.patients[row], notes=notes)


def _refused(out: Path | None, sheet: Path | None, options: SearchOptions) -> Cohort | None:
    """The slides of the sheet, once all that can be refused early is."""
    if out is not None:
        refuse_suffix(out, HIT_SUFFIXES, what="-o names the file of the hits and")
    if sheet is None:
        return None
    refuse_suffix(sheet, SHEET_SUFFIXES, what="--sheet names the contact sheet and")
    if options.slides is None:
        raise SettingsError("a contact sheet needs the slides for its pictures: --slides FOLDER")
    return read_cohort(options.slides, slide_dir=options.slide_dir)


def _among(
    table: SlideTable, query: Query, *, columns: SearchColumns, exclude_patient: bool
) -> Bool[np.ndarray, " slide"]:
    """The rows that may be found: never the query itself."""
    among = columns.kept.copy()
    if query.slide_id is not None:
        among &= np.array([name != query.slide_id for name in table.slide_ids])
    if exclude_patient:
        if query.patient_id is None:
            raise SettingsError(
                f"{query.name} is a vector and says nothing of its patient; leave "
                "--exclude-patient away, or name the patient: --where \"patient_id != '…'\""
            )
        among &= np.array([name != query.patient_id for name in columns.patients])
    return among


def _kept(
    result: SearchResult, query: Query, *, slides: Cohort | None, progress: Progress
) -> SearchResult:
    """The result, written where that is wanted."""
    if result.out is not None:
        with claimed(result.out):
            save_hits(result, result.out)
    if result.sheet is None or slides is None:
        return result
    from gigassl.pipeline.search_sheet import save_sheet

    with claimed(result.sheet):
        failures = save_sheet(result, query, result.sheet, slides=slides, progress=progress)
    return replace(result, failures=failures)
