"""Slides far from all others, and slides whose views disagree."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int64
from markupsafe import Markup

from gigassl.report.page.atlas import SHOWN_NEIGHBOURS
from gigassl.report.page.cohort import histogram
from gigassl.report.page.projection import Neighbourhood
from gigassl.report.page.section import Section, heading, joined_parts, paragraph, rendered

_LISTED = 12
_NOISE = 1e-12  # cosines that differ by less are rounded, not different
_SD_OF_MAD = 1.4826  # deviation of a normal distribution whose median absolute deviation is one


def distances(near: Neighbourhood) -> Float64[np.ndarray, " slide"]:
    """Mean cosine distance to the nearest ten slides, from 0 to 2; 0 without other slides."""
    if near.rows.shape[1] == 0:
        return np.zeros(len(near.rows))
    found: Float64[np.ndarray, " slide"] = 1 - near.similarities[:, :SHOWN_NEIGHBOURS].mean(axis=1)
    return found


def outliers_section(
    slide_ids: Sequence[str], *, near: Neighbourhood, spread: Float[np.ndarray, " slide"]
) -> Section | None:
    """Slides to look at first; None where there are too few to compare.

    Args:
        slide_ids: in the order of the map.
        near: nearest slides of each.
        spread: how much the views of a slide differ; NaN where not known.
    """
    if len(slide_ids) < 3:
        return None
    parts = [
        heading("Far from all others"),
        *_ranked(slide_ids, distances(near), title="mean cosine distance to the nearest slides"),
        heading("Views that disagree"),
    ]
    if np.isnan(spread).all():
        parts.append(paragraph("These vectors have no views: each is made of all tiles at once."))
    else:
        parts += _ranked(slide_ids, spread, title="view spread")
    lead = (
        "A slide that resembles no other may be another stain, organ or scanner, pen, blur or "
        "little tissue. Deviations are from the median, in units of the robust standard deviation "
        "(1.4826 MAD)."
    )
    return Section(
        anchor="outliers", title="Outliers", lead=lead, body=joined_parts(parts)
    )  # fmt: skip


def _ranked(
    slide_ids: Sequence[str], values: Float[np.ndarray, " slide"], *, title: str
) -> list[Markup]:
    known = values[~np.isnan(values)]
    z = robust_z(values)
    shown = [
        {
            "row": int(row),
            "id": slide_ids[row],
            "value": f"{values[row]:.4g}",
            "z": f"{z[row]:+.1f}",
        }
        for row in _largest(values)
    ]
    cards = rendered("slides.html", slides=shown, unit="SD")
    return [histogram(known, title=title, alt=f"Histogram of the {title}"), cards]


def robust_z(values: Float[np.ndarray, " slide"]) -> Float64[np.ndarray, " slide"]:
    """Deviation of each value from the median, in robust standard deviations; 0 where all agree."""
    middle = np.nanmedian(values)
    scale = _SD_OF_MAD * np.nanmedian(np.abs(values - middle))
    z: Float64[np.ndarray, " slide"] = (
        (values - middle) / scale if scale > _NOISE else np.zeros_like(values)
    ).astype(np.float64)
    return z


def _largest(values: Float[np.ndarray, " slide"]) -> Int64[np.ndarray, " listed"]:
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")
    kept: Int64[np.ndarray, " listed"] = order[: min(_LISTED, int((~np.isnan(values)).sum()))]
    return kept
