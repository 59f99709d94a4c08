"""The map of slides: hover for a slide, click for its nearest ten, colour, filter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gigassl.report.page.columns import Column
from gigassl.report.page.figure import page_json
from gigassl.report.page.projection import Neighbourhood, SlideMap
from gigassl.report.page.section import Section, rendered

SHOWN_NEIGHBOURS = 10
_SIMILARITY_STEPS = 10_000  # cosines travel as whole numbers, a third of the bytes


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Thumbnails of slides.

    Attributes:
        inside: of each slide a JPEG in base64, "" where there is none; empty unless they stand in
            the page.
        files: of each slide its file in ``folder``; empty unless they lie beside the page.
        folder: relative to the page, with a slash at its end.
    """

    inside: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    folder: str = ""

    @property
    def count(self) -> int:
        """Slides that have one."""
        return sum(bool(each) for each in (*self.inside, *self.files))


def atlas_section(
    slides: Mapping[str, Sequence[str]], *, maps: Sequence[SlideMap], near: Neighbourhood,
    columns: Sequence[Column], pictures: Pictures, first_column: str,
) -> Section:  # fmt: skip
    """The map of a cohort, and the data about its slides that other sections draw on.

    Args:
        slides: ``slide_id`` and ``patient_id`` of each slide.
        maps: at least one; the first is shown first.
        near: nearest slides of each, at least those that are shown.
        columns: to colour and filter by.
        pictures: of the slides.
        first_column: coloured by at first.
    """
    names = list(slides["slide_id"])
    shown = min(SHOWN_NEIGHBOURS, near.rows.shape[1])
    similar = (near.similarities[:, :shown] * _SIMILARITY_STEPS).round().astype(int)
    data: dict[str, Any] = {
        "ids": names,
        "patients": list(slides["patient_id"]),
        "maps": [
            {"name": m.name, "x": m.xy[:, 0], "y": m.xy[:, 1], "axes": m.axes, "said": m.said}
            for m in maps
        ],
        "columns": [column.as_record() for column in columns],
        "first": first_column,
        "k": shown,
        "near": near.rows[:, :shown].ravel(),
        "similar": similar.ravel(),
        "steps": _SIMILARITY_STEPS,
        "folder": pictures.folder,
        "pictured": pictures.count > 0,
    }
    body = rendered(
        "atlas.html",
        data=page_json(data),
        pictures=page_json(pictures.inside or pictures.files),
        maps=[m.name for m in maps],
        columns=_grouped(columns),
        first=first_column,
        n_slides=len(names),
        shown=shown,
    )
    lead = (
        f"Each point is a slide; points that lie together have similar vectors. Click one to see "
        f"its {shown} nearest slides by cosine similarity."
    )
    return Section(anchor="map", title="Map", lead=lead, body=body)


def _grouped(columns: Sequence[Column]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for column in columns:
        found.setdefault(column.group, []).append(column.name)
    return found
