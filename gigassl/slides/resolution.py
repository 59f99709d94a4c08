"""Resolution: how many micrometres a level-0 pixel of a slide measures, and who says so."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gigassl.errors import SlideError

Source = Literal["cohort", "file:mpp", "file:objective-power", "file:tiff-resolution", "option"]

SMALLEST_MPP = 0.05
LARGEST_MPP = 10.0
MAX_ASYMMETRY = 0.05
_UM_PER_UNIT = {"inch": 25_400.0, "centimeter": 10_000.0}
_WAY_OUT = "an 'mpp' column in the cohort overrides the file"


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Level-0 resolution of a slide.

    Attributes:
        mpp: micrometres per level-0 pixel.
        source: where the number comes from.
    """

    mpp: float
    source: Source


def find_resolution(
    properties: Mapping[str, str],
    *,
    cohort_mpp: float | None = None,
    default_mpp: float | None = None,
) -> Resolution:
    """The resolution (µm/px) of a slide: cohort column, then file, then the run's option.

    Args:
        properties: OpenSlide's properties of the slide.
        cohort_mpp: what the cohort table says of this slide.
        default_mpp: what ``--slide-mpp`` says of slides that do not say it themselves.

    Raises:
        SlideError: the resolution is unknown, differs between x and y, or cannot be true.
    """
    if cohort_mpp is not None:
        return Resolution(mpp=_plausible(cohort_mpp, said_by="the cohort"), source="cohort")
    in_file = _from_file(properties)
    if in_file is not None:
        return in_file
    if default_mpp is not None:
        return Resolution(mpp=_plausible(default_mpp, said_by="--slide-mpp"), source="option")
    raise SlideError(
        "no microns-per-pixel in the file; pass --slide-mpp or add an 'mpp' column to the cohort",
        stage="resolution",
    )


def _from_file(properties: Mapping[str, str]) -> Resolution | None:
    mpp_x = _number(properties, "openslide.mpp-x")
    mpp_y = _number(properties, "openslide.mpp-y")
    if mpp_x is not None or mpp_y is not None:
        # for a generic TIFF, OpenSlide's mpp is nothing but the TIFF resolution tags
        generic = properties.get("openslide.vendor") == "generic-tiff"
        return Resolution(
            mpp=_square(mpp_x, mpp_y), source="file:tiff-resolution" if generic else "file:mpp"
        )
    power = _number(properties, "openslide.objective-power")
    if power is not None and power > 0:
        return Resolution(
            mpp=_plausible(10.0 / power, said_by="the file"), source="file:objective-power"
        )
    return _from_tiff_tags(properties)


def _from_tiff_tags(properties: Mapping[str, str]) -> Resolution | None:
    unit_um = _UM_PER_UNIT.get(properties.get("tiff.ResolutionUnit", ""))
    per_unit_x = _number(properties, "tiff.XResolution")
    per_unit_y = _number(properties, "tiff.YResolution")
    if not unit_um or not per_unit_x or not per_unit_y:
        return None
    mpp_x, mpp_y = unit_um / per_unit_x, unit_um / per_unit_y
    # scanner files often carry a screen's 72 or 96 dpi here, which says nothing of the slide
    if not (_is_plausible(mpp_x) and _is_plausible(mpp_y)):
        return None
    return Resolution(mpp=_square(mpp_x, mpp_y), source="file:tiff-resolution")


def _square(mpp_x: float | None, mpp_y: float | None) -> float:
    known = [_plausible(mpp, said_by="the file") for mpp in (mpp_x, mpp_y) if mpp is not None]
    if max(known) / min(known) - 1 > MAX_ASYMMETRY:
        raise SlideError(
            f"its pixels are not square: {mpp_x:.5g} × {mpp_y:.5g} µm/px; {_WAY_OUT}",
            stage="resolution",
        )
    return sum(known) / len(known)


def _plausible(mpp: float, *, said_by: str) -> float:
    if not _is_plausible(mpp):
        raise SlideError(
            f"{said_by} gives {mpp:.5g} µm/px, outside what a slide can have "
            f"({SMALLEST_MPP:g} to {LARGEST_MPP:g}); {_WAY_OUT}",
            stage="resolution",
        )
    return mpp


def _is_plausible(mpp: float) -> bool:
    return math.isfinite(mpp) and SMALLEST_MPP <= mpp <= LARGEST_MPP


def _number(properties: Mapping[str, str], key: str) -> float | None:
    try:
        return float(properties[key])
    except (KeyError, ValueError):
        return None
