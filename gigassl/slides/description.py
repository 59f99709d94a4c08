"""Description of a slide file: what OpenSlide finds in it, its resolution known or not."""

from pathlib import Path
from typing import Any

from gigassl.errors import SlideError
from gigassl.slides.reader import open_handle
from gigassl.slides.resolution import find_resolution


def describe_slide(path: Path) -> dict[str, Any]:
    """Vendor, size, pyramid, stored tiles and resolution, in plain values.

    Raises:
        SlideError: the file cannot be opened as a slide.
    """
    with open_handle(path) as handle:
        properties = dict(handle.properties)
        width_l0, height_l0 = handle.dimensions
        levels = [
            {"width": width, "height": height, "downsample": round(downsample, 4)}
            for (width, height), downsample in zip(
                handle.level_dimensions, handle.level_downsamples, strict=True
            )
        ]
    found: dict[str, Any] = {
        "vendor": properties.get("openslide.vendor"),
        "width_l0": width_l0,
        "height_l0": height_l0,
        "levels": levels,
        "stored_tile_px": properties.get("openslide.level[0].tile-width"),
        "objective_power": properties.get("openslide.objective-power"),
    }
    try:
        resolution = find_resolution(properties)
    except SlideError as error:
        return {**found, "mpp": None, "mpp_problem": error.reason}
    return {**found, "mpp": resolution.mpp, "mpp_source": resolution.source}
