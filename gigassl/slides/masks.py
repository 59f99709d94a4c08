"""Tissue masks from outside: a PNG of the slide, or level-0 GeoJSON as QuPath writes it."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float64

from gigassl.errors import SlideError
from gigassl.files import written_whole
from gigassl.slides.grid import TissueMask

_SHRINK = 32  # a mask read from GeoJSON has one pixel for this many of level 0
_MOST_PX = 8192
_ASPECT_TOLERANCE = 0.02
_TISSUE_RGB = (0, 150, 60)
_IGNORED = "ignore"  # QuPath's classes "Ignore*" mark regions that are not to be used

# the key under which each kind of GeoJSON object holds its parts
_PARTS_OF = {
    "FeatureCollection": "features",
    "Feature": "geometry",
    "GeometryCollection": "geometries",
}

Ring = Float64[np.ndarray, "_ 2"]  # the rings of a polygon differ in length
Mask = Bool[np.ndarray, "row col"]


def read_mask(
    path: Path, *, width_l0: int, height_l0: int, may_be_empty: bool = False
) -> TissueMask:
    """Reads a tissue mask of a slide from ``.png`` or ``.geojson`` / ``.json``.

    A PNG may have any size with the slide's aspect (within 2 %); what is not black is tissue.
    GeoJSON may be a FeatureCollection, a Feature, a geometry or a list of them; regions of a class
    whose name begins with "Ignore" are left out.

    Args:
        path: the mask file.
        width_l0, height_l0: size of the slide in level-0 pixels.
        may_be_empty: a picture that marks nothing is a mask too.

    Raises:
        SlideError: unreadable, empty, of another shape than the slide, or outside it.
    """
    reads = _mask_from_png if path.suffix.lower() == ".png" else _mask_from_geojson
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise _problem(path, "does not exist") from error
    except (PermissionError, IsADirectoryError) as error:
        raise _problem(path, f"cannot be read: {error.strerror}") from error
    mask = reads(path, content, size_l0=(width_l0, height_l0))
    if not mask.any() and not may_be_empty:
        raise _problem(path, "marks no tissue at all")
    return TissueMask(mask=mask, width_l0=width_l0, height_l0=height_l0)


def save_geojson(tissue: TissueMask, path: Path) -> None:
    """Writes the outlines of a mask as level-0 GeoJSON that QuPath opens, a polygon for each piece.

    Outlines follow the edges of the mask's pixels, so reading the file back gives the same mask.

    Raises:
        MachineError: disk full, read-only folder.
    """
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": rings},
            "properties": {
                "objectType": "annotation",
                "classification": {"name": "Tissue", "color": list(_TISSUE_RGB)},
            },
        }
        for rings in _outlines(tissue)
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def _problem(path: Path, what: str) -> SlideError:
    return SlideError(f"its tissue mask {path.name} {what}", stage="tissue")


def _mask_from_png(path: Path, content: bytes, *, size_l0: tuple[int, int]) -> Mask:
    # decoding an empty buffer is an error of its own in OpenCV
    try:
        image = cv2.imdecode(np.frombuffer(content or b"\0", np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:  # a picture beyond OpenCV's limit of pixels
        raise _problem(path, f"is not a readable PNG: {error.err}") from error
    if image is None:
        raise _problem(path, "is not a readable PNG")
    planes = image if image.ndim == 3 else image[..., None]
    if planes.shape[2] == 4:  # what is transparent is no tissue; a mask of alpha alone is one too
        colours, alpha = planes[..., :3], planes[..., 3] > 0
        coloured = np.asarray((colours > 0).any(axis=2))
        mask = alpha & coloured if coloured.any() else alpha
    else:
        mask = np.asarray((planes > 0).any(axis=2))
    height, width = mask.shape
    off = (width / height) / (size_l0[0] / size_l0[1]) - 1
    # the smaller side of a tiny mask is a rounded number of pixels
    if abs(off) > _ASPECT_TOLERANCE + 1 / min(width, height):
        raise _problem(
            path,
            f"has {width} × {height} px, another shape than the slide ({size_l0[0]} × {size_l0[1]} "
            "px); a mask must cover the whole slide",
        )
    return mask


def _mask_from_geojson(path: Path, content: bytes, *, size_l0: tuple[int, int]) -> Mask:
    try:
        document = json.loads(content)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _problem(path, f"is not readable GeoJSON: {error}") from error
    try:
        polygons = [[_ring(ring) for ring in polygon] for polygon in _polygons(document)]
    except (
        TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError
    ) as error:  # fmt: skip
        raise _problem(path, f"is not valid GeoJSON: {error}") from error
    polygons = [polygon for polygon in polygons if polygon]
    if not polygons:
        raise _problem(path, "holds no polygon (Polygon or MultiPolygon)")
    _require_inside(path, polygons, size_l0=size_l0)
    shrink = max(1.0, min(_SHRINK, min(size_l0) / 256), max(size_l0) / _MOST_PX)
    rows, cols = (max(1, round(length / shrink)) for length in reversed(size_l0))
    scale = np.array([cols / size_l0[0], rows / size_l0[1]])
    mask = np.zeros((rows, cols), dtype=bool)
    for polygon in polygons:
        _fill(mask, [ring * scale for ring in polygon])
    return mask


def _polygons(thing: Any) -> Iterator[list[Any]]:
    """The coordinates of every polygon in a GeoJSON object of any kind."""
    if isinstance(thing, list):
        for part in thing:
            yield from _polygons(part)
        return
    if not isinstance(thing, Mapping):
        raise TypeError(f"expected an object, found {type(thing).__name__}")
    kind = str(thing.get("type"))
    if kind in _PARTS_OF:
        if not _class_of(thing).startswith(_IGNORED):
            yield from _polygons(thing[_PARTS_OF[kind]] or [])
    elif kind == "Polygon":
        yield thing["coordinates"]
    elif kind == "MultiPolygon":
        yield from thing["coordinates"]


def _class_of(feature: Mapping[str, Any]) -> str:
    """Name of a QuPath feature's class in lower case; empty where it has none."""
    given = (feature.get("properties") or {}).get("classification") or {}
    name = given.get("name") if isinstance(given, Mapping) else given
    return str(name or "").lower()


def _ring(coordinates: Any) -> Ring:
    """Points of a ring; a height, which GeoJSON allows, is dropped."""
    points = np.array([point[:2] for point in coordinates], dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        raise ValueError("a ring needs at least three points with finite x and y")
    return points


def _require_inside(path: Path, polygons: list[list[Ring]], *, size_l0: tuple[int, int]) -> None:
    points = np.concatenate([ring for polygon in polygons for ring in polygon])
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    slack = 0.01 * max(size_l0) + 1
    if min(left, top) < -slack or right > size_l0[0] + slack or bottom > size_l0[1] + slack:
        raise _problem(
            path,
            f"reaches outside the slide: x {left:.0f} to {right:.0f}, y {top:.0f} to {bottom:.0f}, "
            f"the slide has {size_l0[0]} × {size_l0[1]} px; coordinates must be level-0 pixels",
        )


def _fill(mask: Mask, rings: list[Ring]) -> None:
    """Sets the pixels whose centre lies inside a polygon with holes (even-odd rule), in place."""
    rows, cols = mask.shape
    points = np.concatenate(rings)
    top = max(0, math.floor(points[:, 1].min()))
    bottom = min(rows, math.ceil(points[:, 1].max()) + 1)
    if top >= bottom:
        return
    # toggles[row, col]: an edge crosses the row's middle line just left of this pixel's centre
    toggles = np.zeros((bottom - top, cols + 1), dtype=np.int64)
    for ring in rings:
        start, end = ring, np.roll(ring, -1, axis=0)
        first, last = (
            np.clip(np.ceil(edge(start[:, 1], end[:, 1]) - 0.5), top, bottom).astype(np.int64)
            for edge in (np.minimum, np.maximum)
        )
        counts = last - first
        edge_ids = np.repeat(np.arange(len(ring)), counts)
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        row_ids = first[edge_ids] + steps
        a, b = start[edge_ids], end[edge_ids]
        x = a[:, 0] + (row_ids + 0.5 - a[:, 1]) * (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1])
        col_ids = np.clip(np.ceil(x - 0.5), 0, cols).astype(np.int64)
        np.add.at(toggles, (row_ids - top, col_ids), 1)
    mask[top:bottom] |= (np.cumsum(toggles, axis=1)[:, :cols] % 2).astype(bool)


def _outlines(tissue: TissueMask) -> Iterator[list[list[list[float]]]]:
    """Rings of each piece of tissue, the outer one first, in level-0 pixels."""
    rows, cols = tissue.mask.shape
    # each pixel doubled: OpenCV's contour runs through pixel centres, and (p + 1) // 2 of the
    # doubled ones is the edge of the original
    doubled = tissue.mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if tree is None:
        return
    scale = np.array([tissue.width_l0 / cols, tissue.height_l0 / rows])
    rings = [_corners((contour[:, 0, :] + 1) // 2) * scale for contour in contours]
    for outer, (_, _, child, parent) in enumerate(tree[0]):
        if parent >= 0:
            continue
        polygon = [rings[outer]]
        hole = int(child)
        while hole >= 0:
            polygon.append(rings[hole])
            hole = int(tree[0][hole][0])
        yield [[*ring.tolist(), ring[0].tolist()] for ring in polygon]


def _corners(points: np.ndarray) -> np.ndarray:
    """A closed outline without repeated points and without points on a straight line."""
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return np.asarray(points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]])
