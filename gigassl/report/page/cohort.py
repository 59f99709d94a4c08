"""What is in a cohort, what is missing from it, and where the vectors came from."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from gigassl.report.page.figure import figure
from gigassl.report.page.section import (
    Cell,
    Section,
    facts,
    folded,
    joined_parts,
    notes,
    paragraph,
    rendered,
    table,
)
from gigassl.vectors.table import SlideTable

_BINS = 40
_MOST_LISTED = 500


def cohort_section(
    slides: SlideTable, *, more: Mapping[str, Cell], remarks: Sequence[str] = ()
) -> Section:
    """How many slides, patients and tiles, at what resolution.

    Args:
        slides: the table of vectors.
        more: further facts, such as the encoder.
        remarks: what was left out of the page, and why.
    """
    tiles = _known(slides, "n_tiles")
    numbers: dict[str, Cell] = {
        "slides": len(slides),
        "patients": len(set(slides.patient_ids)),
        "tiles": int(tiles.sum()) if len(tiles) else None,
        "tiles a slide, median": int(np.median(tiles)) if len(tiles) else None,
        "numbers a vector": slides.dim,
        **more,
    }
    parts = [facts(numbers), _resolutions(slides)]
    if len(np.unique(tiles)) > 1:
        parts.append(
            histogram(tiles, title="tiles a slide", alt="Histogram of the number of tiles a slide")
        )
    return Section(
        anchor="cohort", title="Cohort", body=joined_parts([*parts, notes(remarks)])
    )  # fmt: skip


def histogram(values: Float[np.ndarray, " some"], *, title: str, alt: str) -> Markup:
    """How many slides have which value.

    Args:
        values: at least one.
        title: of the horizontal axis.
        alt: what is drawn, for who does not see it.
    """
    counts, edges = np.histogram(values, bins=_BINS)
    bars = {
        "type": "bar",
        "x": (edges[:-1] + edges[1:]) / 2,
        "y": counts,
        "width": float(edges[1] - edges[0]),
        "customdata": np.stack([edges[:-1], edges[1:]], axis=1),
        "hovertemplate": "%{customdata[0]:.4g} to %{customdata[1]:.4g}: %{y} slides<extra></extra>",
        "marker": {"color": "var(--accent)", "line": {"width": 0}},
    }
    layout = {
        "xaxis": {"title": {"text": title}},
        "yaxis": {"title": {"text": "slides"}},
        "bargap": 0.08,
        "margin": {"t": 12, "r": 12, "l": 60, "b": 50},
    }
    return figure([bars], layout=layout, alt=alt, height_px=220)


def _resolutions(slides: SlideTable) -> Markup:
    """Which resolutions the slides have, and who said so."""
    columns = ("mpp", "mpp_source", "effective_mpp")
    rows = Counter(zip(*(slides.data[name].to_pylist() for name in columns), strict=True))
    ordered = sorted(rows.items(), key=lambda item: (-item[1], str(item[0])))
    grouped: Counter[tuple[str | None, str, str | None]] = Counter()
    for (mpp, source, effective), count in ordered:
        grouped[_micrometres(mpp), source or "not known", _micrometres(effective)] += count
    return table(
        ("level 0, µm/px", "said by", "tiles read at, µm/px", "slides"),
        [(*key, count) for key, count in grouped.most_common()],
    )


def _micrometres(mpp: float | None) -> str | None:
    return None if mpp is None else f"{mpp:.3f}"


def _known(slides: SlideTable, column: str) -> Float[np.ndarray, " known"]:
    values = [value for value in slides.data[column].to_pylist() if value is not None]
    return np.array(values, dtype=np.float64)


def failures_section(failures: Sequence[Mapping[str, str]], *, listed_in: str) -> Section:
    """What could not be used: how often for which reason, then one by one.

    Args:
        failures: ``slide_id``, ``stage``, ``reason`` and ``detail`` of each.
        listed_in: name of the file that lists them all.
    """
    if not failures:
        body = paragraph("No slide is listed as failed.")
        return Section(anchor="failures", title="Failures", body=body)
    counted = Counter((each["stage"], each["reason"]) for each in failures).most_common()
    summary = table(
        ("stage", "reason", "slides"), [(stage, reason, n) for (stage, reason), n in counted]
    )
    names = ("slide_id", "stage", "reason", "detail")
    rows = [[each[name] for name in names] for each in failures[:_MOST_LISTED]]
    parts = [summary, folded(f"The slides ({len(failures):,})", table(names, rows))]
    if len(failures) > _MOST_LISTED:
        parts.append(paragraph(f"The first {_MOST_LISTED}; all are listed in {listed_in}."))
    n = len(failures)
    lead = f"{n:,} {'slide' if n == 1 else 'slides'} could not be used."
    return Section(anchor="failures", title="Failures", lead=lead, body=joined_parts(parts))


def provenance_section(
    text: str, *, files: Sequence[Sequence[Cell]], settings: Mapping[str, Cell]
) -> Section:
    """Where everything on the page came from.

    Args:
        text: what ``gigassl inspect`` says of the vectors.
        files: role, name and digest of each file that was read.
        settings: of the page itself.
    """
    parts = [
        table(("what", "file", "SHA-256, first half"), files),
        folded("Vectors, as gigassl inspect shows them", rendered("text.html", text=text)),
        folded(
            "This page", table(("setting", "value"), [(k, v) for k, v in settings.items()])
        ),
    ]  # fmt: skip
    lead = (
        "Files that were read, and the settings that made the vectors; equal ones give this page."
    )
    return Section(
        anchor="provenance", title="Provenance", lead=lead, body=joined_parts(parts)
    )  # fmt: skip
