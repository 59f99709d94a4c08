"""A new slide as a query: embedded with the settings that the table's provenance holds."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from gigassl.errors import GigasslError, SettingsError, SlideError
from gigassl.pipeline.progress import Progress
from gigassl.pipeline.rows import slide_row
from gigassl.pipeline.search_query import Query, QueryOptions
from gigassl.pipeline.verify_settings import (
    Given,
    Rebuilt,
    VerifyOptions,
    other_versions,
    rebuilt,
)
from gigassl.slides.cohort import CohortSlide, is_bag, read_cohort
from gigassl.slides.reader import open_slide
from gigassl.vectors.row import SlideRow
from gigassl.vectors.table import SlideTable


def embedded_query(
    path: Path, table: SlideTable, *, options: QueryOptions, progress: Progress
) -> Query:  # fmt: skip
    """Embeds a slide (or bag) as the slides of a table were.

    Raises:
        SettingsError: the table does not say how, or something is not as it was.
        GigasslError: the slide cannot be read.
    """
    slides = read_cohort(path).slides
    if len(slides) != 1:
        raise SettingsError(f"{path} names {len(slides)} slides; give one slide file")
    source = _with_mpp(slides[0], options.slide_mpp)
    given = Given(
        encoder=options.encoder, slide_encoder=options.slide_encoder,
        options=VerifyOptions(
            device=options.device, workers=options.workers, masks=options.masks
        ),
    )  # fmt: skip
    made = rebuilt(table, [source], given=given)
    if made.changed:
        said = "; ".join(f"{name}: {old} → {new}" for name, (old, new) in made.changed.items())
        raise SettingsError(
            f"{path.name} cannot be embedded as the table's slides were ({said}), so that their "
            "similarity would mean nothing"
        )
    row = _embedded(source, made, table=table, progress=progress)
    versions = other_versions(table.provenance)
    older = ", ".join(f"{name} {old} → {new}" for name, (old, new) in versions.items())
    said_by = row.mpp_source if source.mpp is None else "--slide-mpp"
    mpp = "an unknown resolution" if row.mpp is None else f"{row.mpp:.4g} µm/px ({said_by})"
    notes = [f"{path.name} was embedded as the table's slides were: {row.n_tiles} tiles, {mpp}"]
    notes += [f"with other versions of {older}"] if older else []
    return Query(
        name=path.name, vector=row.embedding, slide_id=row.slide_id, patient_id=row.patient_id,
        source=source, notes=tuple(notes),
    )  # fmt: skip


def _with_mpp(source: CohortSlide, slide_mpp: float | None) -> CohortSlide:
    """The source with the user's µm/px, if its own file does not say it."""
    if slide_mpp is None or is_bag(source.path):
        return source
    with open_slide(source.path, default_mpp=slide_mpp) as slide:
        silent = slide.mpp_source == "option"
    return replace(source, mpp=slide_mpp) if silent else source


def _embedded(
    source: CohortSlide, made: Rebuilt, *, table: SlideTable, progress: Progress
) -> SlideRow:
    progress.started(1)
    with closing(made.job.outcomes([source], progress=progress)) as outcomes:
        for outcome in outcomes:
            if outcome.bag is None:
                break
            return slide_row(
                source, outcome.bag, encoding=made.encoding, settings_digest=table.settings_digest
            )
    why = SlideError("no features came back", stage="encode")
    failure = outcome.failure or why
    raise GigasslError(f"{source.path}: {failure}") from failure
