"""External tissue masks: PNG and GeoJSON in the shapes QuPath writes, and what is refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gigassl.errors import SlideError
from gigassl.slides.grid import TissueMask
from gigassl.slides.masks import read_mask, save_geojson

SIZE: Mapping[str, Any] = {"width_l0": 32_000, "height_l0": 16_000}
SQUARE = [[3200, 3200], [9600, 3200], [9600, 9600], [3200, 9600], [3200, 3200]]
HOLE = [[4800, 4800], [6400, 4800], [6400, 6400], [4800, 6400], [4800, 4800]]
POLYGON: dict[str, Any] = {"type": "Polygon", "coordinates": [SQUARE, HOLE]}


@pytest.fixture(scope="module")
def outlines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outlines")


def feature(geometry: Any, name: str | None = None) -> dict[str, Any]:
    properties = {"objectType": "annotation"}
    if name is not None:
        return {
            "type": "Feature",
            "geometry": geometry,
            "properties": properties | {"classification": {"name": name, "color": [1, 2, 3]}},
        }
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def written(tmp_path: Path, document: Any) -> Path:
    path = tmp_path / "s.geojson"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@pytest.mark.parametrize(
    "document",
    [
        {"type": "FeatureCollection", "features": [feature(POLYGON)], "crs": {"type": "name"}},
        feature(POLYGON, "Tumor"),
        POLYGON,
        [feature(POLYGON)],
        {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE]]},
        [feature(POLYGON), feature({"type": "Point", "coordinates": [1, 1]})],
        [
            feature(POLYGON),
            feature({"type": "Polygon", "coordinates": [SQUARE]}, "Ignore*"),
        ],
        {"type": "GeometryCollection", "geometries": [POLYGON]},
    ],
    ids=["collection", "feature", "bare", "list", "multi", "point", "ignored", "geometries"],
)
def test_geojson_of_every_shape(tmp_path: Path, document: Any) -> None:
    tissue = read_mask(written(tmp_path, document), **SIZE)
    rows, cols = tissue.mask.shape
    assert (tissue.width_l0, tissue.height_l0) == (32_000, 16_000)
    expected = (6400**2 - 1600**2) / (32_000 * 16_000)
    assert tissue.mask.mean() == pytest.approx(expected, rel=1e-3)
    at = [(4000, 4000), (5600, 5600), (20_000, 4000)]
    seen = [bool(tissue.mask[y * rows // 16_000, x * cols // 32_000]) for x, y in at]
    assert seen == [True, False, False]


@settings(max_examples=60)
@given(
    mask=arrays(bool, st.tuples(st.integers(3, 24), st.integers(3, 24))).filter(
        lambda mask: mask.any()
    )
)
def test_saved_outlines_read_back_as_the_same_mask(outlines: Path, mask: np.ndarray) -> None:
    path = outlines / "s.geojson"
    rows, cols = mask.shape
    tissue = TissueMask(mask=mask, width_l0=cols * 512, height_l0=rows * 512)
    save_geojson(tissue, path)
    again = read_mask(path, width_l0=cols * 512, height_l0=rows * 512).mask
    at_rows, at_cols = (
        ((np.arange(n) + 0.5) * again.shape[axis] / n).astype(int)
        for axis, n in enumerate(mask.shape)
    )
    assert (again[at_rows][:, at_cols] == mask).all()
    assert again.mean() == pytest.approx(mask.mean(), rel=0.12)


def test_png_of_any_size_and_kind(tmp_path: Path) -> None:
    mask = np.zeros((100, 200), dtype=np.uint8)
    mask[20:60, 30:90] = 1
    images: dict[str, np.ndarray] = {
        "grey": mask,
        "sixteen": mask.astype(np.uint16),
        "colour": np.stack([mask, 0 * mask, 0 * mask], axis=2),
        "alpha": np.stack([0 * mask] * 3 + [mask], axis=2),
        "both": np.stack([mask] * 3 + [0 * mask + 255], axis=2),
    }
    for name, image in images.items():
        path = tmp_path / f"{name}.png"
        cv2.imwrite(str(path), image)
        assert (read_mask(path, **SIZE).mask == (mask > 0)).all(), name


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("{", "is not readable GeoJSON"),
        ("", "is not readable GeoJSON"),
        ("7", "is not valid GeoJSON: expected an object, found int"),
        ({"type": "FeatureCollection"}, "is not valid GeoJSON: 'features'"),
        ({"type": "FeatureCollection", "features": []}, "holds no polygon"),
        ({"type": "Polygon", "coordinates": [[[1, 2], [3, 4]]]}, "at least three points"),
        ({"type": "Polygon", "coordinates": [[[10**400, 2], [3, 4], [5, 6]]]}, "not valid GeoJSON"),
        ({"type": "Polygon", "coordinates": [[["a", 2], [3, 4], [5, 6]]]}, "not valid GeoJSON"),
        (
            {"type": "Polygon", "coordinates": [[[0, 0], [64_000, 0], [0, 9]]]},
            "reaches outside the slide: x 0 to 64000.*level-0 pixels",
        ),
        ({"type": "Polygon", "coordinates": [[[5, 5], [6, 5], [6, 6]]]}, "marks no tissue"),
    ],
)
def test_bad_geojson_is_refused(tmp_path: Path, document: Any, sentence: str) -> None:
    with pytest.raises(SlideError, match=sentence) as caught:
        read_mask(written(tmp_path, document), **SIZE)
    assert caught.value.stage == "tissue"


def test_bad_png_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.png"
    with pytest.raises(SlideError, match=r"s\.png does not exist"):
        read_mask(path, **SIZE)
    for content in (b"", b"not a picture"):
        path.write_bytes(content)
        with pytest.raises(SlideError, match="is not a readable PNG"):
            read_mask(path, **SIZE)
    cv2.imwrite(str(path), np.zeros((100, 200), dtype=np.uint8))
    with pytest.raises(SlideError, match="marks no tissue at all"):
        read_mask(path, **SIZE)
    cv2.imwrite(str(path), np.full((100, 100), 255, dtype=np.uint8))
    with pytest.raises(SlideError, match="100 × 100 px, another shape than the slide"):
        read_mask(path, **SIZE)
