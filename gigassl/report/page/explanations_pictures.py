"""Small pictures for a page: heat with clear places, JPEGs of bounded size, colours as CSS."""

from base64 import b64encode
from io import BytesIO

import cv2
import numpy as np
from jaxtyping import UInt8
from matplotlib import colormaps
from PIL import Image

from gigassl.report.tile_map import TileMap

MOST_PX = 480
"""Longer side of the heat, at most; enlarged by the page, so tiles keep their edges."""

_N_COLOURS = 127
_STOPS = 9


def heat_png(tiles: TileMap, *, limits: tuple[float, float]) -> bytes:
    """A PNG with a pixel for some px of the slide; clear where there is no tile.

    Args:
        tiles: scores and places.
        limits: scores that have the first and the last colour.
    """
    scores = tiles.picture
    most = max(scores.shape)
    if most > MOST_PX:
        size = tuple(max(1, round(length * MOST_PX / most)) for length in scores.shape[::-1])
        scores = cv2.resize(scores, size, interpolation=cv2.INTER_NEAREST)
    low, high = limits
    known = np.isfinite(scores)
    place = np.clip((np.nan_to_num(scores) - low) / (high - low), 0, 1)
    levels = np.where(known, 1 + np.rint(place * (_N_COLOURS - 1)), 0).astype(np.uint8)
    image = Image.fromarray(levels)
    image.putpalette(bytes([0, 0, 0, *_colours(tiles.colour_map, _N_COLOURS).ravel().tolist()]))
    file = BytesIO()
    image.save(file, "PNG", transparency=0, optimize=True)
    return file.getvalue()


def jpeg(pixels: UInt8[np.ndarray, "row col 3"], *, side_px: int) -> bytes:
    """A JPEG whose longer side has at most so many pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    file = BytesIO()
    image.save(file, "JPEG", quality=80, optimize=True)
    return file.getvalue()


def source(data: bytes, kind: str) -> str:
    """What the ``src`` of a picture inside the page is; ``kind`` is "jpeg" or "png"."""
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def gradient(colour_map: str) -> str:
    """A Matplotlib colour map as the stops of a CSS gradient."""
    return ",".join(
        f"rgb({red},{green},{blue})" for red, green, blue in _colours(colour_map, _STOPS).tolist()
    )


def _colours(colour_map: str, n: int) -> UInt8[np.ndarray, "n 3"]:
    rgb = colormaps[colour_map](np.linspace(0, 1, n))[:, :3]
    return np.asarray(np.rint(rgb * 255), dtype=np.uint8)
