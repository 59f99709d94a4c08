"""The contact sheet of a search: a picture of the query and of each hit, from the slides."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from gigassl.errors import SlideError
from gigassl.pipeline.failures import Failure
from gigassl.pipeline.progress import Progress
from gigassl.pipeline.search_query import Query
from gigassl.pipeline.search_result import Hit, SearchResult, texts_of
from gigassl.report.contact_sheet import PICTURE_PX, Card, save_contact_sheet
from gigassl.slides.cohort import Cohort, CohortSlide, is_bag
from gigassl.slides.reader import open_slide

_ANY_MPP = 1.0  # a picture of the whole slide needs none


def save_sheet(
    result: SearchResult, query: Query, path: Path, *, slides: Cohort, progress: Progress
) -> tuple[Failure, ...]:
    """Writes the query and its hits; returns the slides without a picture, and why.

    Raises:
        MachineError: the sheet cannot be written, or no file handles left.
    """
    files = {slide.slide_id: slide for slide in slides.slides}
    if query.source is not None and query.slide_id is not None:
        files[query.slide_id] = query.source
    names = [hit.slide_id for hit in result.hits]
    progress.started(len(names) + 1)
    failures = list[Failure]()
    first = _card(
        query.name, ("query", *_patient(query), *texts_of(result.asked)),
        shown=_shown(query.slide_id, files), progress=progress, failures=failures,
    )  # fmt: skip
    cards = [first]
    for hit in result.hits:
        shown = _shown(hit.slide_id, files)
        cards.append(
            _card(hit.slide_id, _lines(hit), shown=shown, progress=progress, failures=failures)
        )
    save_contact_sheet(cards, path, title=f"{len(names)} slides nearest to {query.name}")
    return tuple(failures)


def _patient(query: Query) -> Sequence[str]:
    return () if query.patient_id is None else (f"patient {query.patient_id}",)


def _lines(hit: Hit) -> tuple[str, ...]:
    return (
        f"{hit.rank}: similarity {hit.similarity:.4f}",
        f"patient {hit.patient_id}",
        *texts_of(hit.cells),
    )


def _shown(name: str | None, files: Mapping[str, CohortSlide]) -> CohortSlide | SlideError | None:
    """The slide to show; why it cannot be; None for a vector, which looks like nothing."""
    if name is None:
        return None
    found = files.get(name)
    if found is None:
        return SlideError("no file of that name in the slides", stage="open")
    if is_bag(found.path):
        return SlideError("a bag of features has no picture", stage="open")
    return found


def _card(
    title: str, lines: tuple[str, ...], *, shown: CohortSlide | SlideError | None,
    progress: Progress, failures: list[Failure],
) -> Card:  # fmt: skip
    picture, why = None, "a vector"
    if shown is not None:
        try:
            if isinstance(shown, SlideError):
                raise shown
            picture = _picture(shown)
        except SlideError as error:
            path = shown.where if isinstance(shown, CohortSlide) else ""
            why = error.reason
            failures.append(
                Failure(slide_id=title, path=path, stage=error.stage, reason=why,
                        detail=error.detail)
            )  # fmt: skip
    progress.slide_done(title, failed=shown is not None and picture is None)
    return Card(title=title, lines=lines, picture=picture, why_none=why)


def _picture(source: CohortSlide) -> UInt8[np.ndarray, "row col 3"]:
    with open_slide(source.path, cohort_mpp=source.mpp, default_mpp=_ANY_MPP) as slide:
        longest = max(slide.info.width_l0, slide.info.height_l0)
        pixels = slide.thumbnail(slide.info.mpp * max(1.0, longest / PICTURE_PX))
    rows, cols = pixels.shape[:2]
    factor = PICTURE_PX / max(rows, cols)
    size = (max(1, round(cols * factor)), max(1, round(rows * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=how), dtype=np.uint8)
