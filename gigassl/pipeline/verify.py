"""Verify: a random sample of a table's rows, made again from the slides, must be what it holds."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from gigassl.errors import SlideError
from gigassl.pipeline.progress import Progress, Silent
from gigassl.pipeline.rows import slide_row
from gigassl.pipeline.sources import Outcome
from gigassl.pipeline.verify_result import MIN_COSINE, VerifiedRow, VerifyResult
from gigassl.pipeline.verify_settings import (
    Given,
    Rebuilt,
    VerifyOptions,
    as_made,
    other_versions,
    rebuilt,
)
from gigassl.slides.cohort import Cohort, CohortSlide, read_cohort
from gigassl.tiles.engine import TileEncoder
from gigassl.vectors.row import SlideRow
from gigassl.vectors.slide_model import SlideModel
from gigassl.vectors.table import SlideTable, open_table

_MPP_TOLERANCE = 1e-9
_FACTS = ("n_tiles", "n_views", "mpp", "effective_mpp", "width_l0", "height_l0")


def verify(
    vectors: Path, slides: Path | str | Cohort, *, encoder: TileEncoder | str | None = None,
    slide_encoder: SlideModel | str | None = None, options: VerifyOptions | None = None,
    progress: Progress | None = None,
) -> VerifyResult:  # fmt: skip
    """Makes a random sample of a table's rows again, with the settings of its own provenance.

    A row is confirmed where the vector made again has a cosine of at least 0.9999 with the stored
    one, and the slide's file, size, resolution and number of tiles are those of the row. Writes
    nothing.

    Args:
        vectors: a table that ``embed`` wrote.
        slides: folder, file or CSV of the slides, or of bags of them; or its URL.
        encoder: tile encoder, or where its weights are, for those that have no public name.
        slide_encoder: slide encoder, or its file, where the table was made by one.

    Raises:
        SettingsError: the table does not say how its rows were made, or names weights or masks
            that were not given.
        GigasslError: the table cannot be read.
        MachineError: disk, memory or file handles.

    Example::

        gigassl.verify(Path("vectors.parquet"), Path("slides")).certified
    """
    options = options or VerifyOptions()
    table = open_table(vectors)
    drawn = _drawn(table, options)
    if not isinstance(slides, Cohort):
        slides = read_cohort(slides, slide_dir=options.slide_dir, stores=options.stores)
    by_id = {slide.slide_id: slide for slide in slides.slides}
    there = [row for row in drawn if row.slide_id in by_id]
    sources = [
        as_made(by_id[row.slide_id], mpp=row.mpp, mpp_source=row.mpp_source) for row in there
    ]
    given = Given(encoder=encoder, slide_encoder=slide_encoder, options=options)
    made = rebuilt(table, sources, given=given) if sources else None
    found = {row.slide_id: row for row in _lacking(drawn, by_id)}
    if made is not None:
        again = _made_again(there, sources, made=made, progress=progress or Silent())
        found |= {row.slide_id: row for row in again}
    return VerifyResult(
        table=vectors,
        population=len(table),
        seed=options.seed,
        rows=[found[row.slide_id] for row in drawn],
        changed={} if made is None else made.changed,
        versions=other_versions(table.provenance),
        from_bags=made is not None and made.from_bags,
    )


def _drawn(table: SlideTable, options: VerifyOptions) -> Sequence[SlideRow]:
    """The sample, in the order of the table."""
    chance = np.random.default_rng(options.seed)
    size = min(options.sample, len(table))
    picked = np.sort(chance.choice(len(table), size=size, replace=False))
    return SlideTable(data=table.data.take(picked), provenance={}).rows()


def _lacking(rows: Sequence[SlideRow], there: Mapping[str, CohortSlide]) -> Iterator[VerifiedRow]:
    for row in rows:
        if row.slide_id not in there:
            reason = f"no file of that slide_id (it was {row.file})"
            yield VerifiedRow(slide_id=row.slide_id, verdict="missing", reason=reason)


def _made_again(
    rows: Sequence[SlideRow], sources: Sequence[CohortSlide], *, made: Rebuilt, progress: Progress
) -> Iterator[VerifiedRow]:
    progress.started(len(rows))
    by_id = {row.slide_id: row for row in rows}
    with closing(made.job.outcomes(sources, progress=progress)) as outcomes:
        for outcome in outcomes:
            yield _verdict(by_id[outcome.source.slide_id], outcome, made=made)


def _verdict(row: SlideRow, outcome: Outcome, *, made: Rebuilt) -> VerifiedRow:
    if outcome.bag is None:
        reason = "no features came back" if outcome.failure is None else outcome.failure.reason
        return VerifiedRow(slide_id=row.slide_id, verdict="unreadable", reason=reason)
    try:
        again = slide_row(
            outcome.source, outcome.bag, encoding=made.encoding, settings_digest=row.settings_digest
        )
    except SlideError as error:
        return VerifiedRow(slide_id=row.slide_id, verdict="unreadable", reason=error.reason)
    differs = list(_differing_facts(row, again, same_inputs=made.same_inputs))
    if len(row.embedding) != len(again.embedding):
        differs.append(f"vector {len(row.embedding)} → {len(again.embedding)} wide")
        return VerifiedRow(slide_id=row.slide_id, verdict="differs", reason="; ".join(differs))
    stored, new = row.embedding.astype(np.float64), again.embedding.astype(np.float64)
    cosine = float(stored @ new / (np.linalg.norm(stored) * np.linalg.norm(new)))
    same_file = row.slide_digest in {"", again.slide_digest}
    is_same = cosine >= MIN_COSINE and not differs
    return VerifiedRow(
        slide_id=row.slide_id,
        verdict="same" if is_same else "differs" if same_file else "other file",
        cosine=cosine,
        difference=float(np.abs(stored - new).max()),
        reason="; ".join(differs),
    )


def _differing_facts(row: SlideRow, again: SlideRow, *, same_inputs: bool) -> Iterator[str]:
    """Facts of a row that are not as they were; what the row does not say is left out."""
    if row.slide_digest and row.slide_digest != again.slide_digest:
        yield f"slide file (size, quickhash): digest {row.slide_digest} → {again.slide_digest}"
    elif same_inputs and row.inputs_digest and row.inputs_digest != again.inputs_digest:
        yield f"tissue mask: digest of inputs {row.inputs_digest} → {again.inputs_digest}"
    for name in _FACTS:
        old, new = getattr(row, name), getattr(again, name)
        if old is not None and not _equal(old, new):
            yield f"{name} {old} → {new}"


def _equal(old: float, new: float | None) -> bool:
    return new is not None and abs(old - new) <= _MPP_TOLERANCE * abs(old)
