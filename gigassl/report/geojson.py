"""Tiles as level-0 GeoJSON that QuPath opens: squares with colours and measurements."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from gigassl.files import written_whole
from gigassl.report.tile_map import TileMap


def save_tiles_geojson(
    tiles: TileMap, path: Path, *, measurements: Mapping[str, Float64[np.ndarray, " tile"]]
) -> None:
    """Writes a FeatureCollection, one feature a tile: drag it onto the slide in QuPath.

    Objects are QuPath's tiles: they have the colour of the heatmap, and "Measurement maps" of
    QuPath colour them by any measurement. A tile without a score has none.

    Args:
        tiles: places and colours.
        path: file to write.
        measurements: name → value of each tile; NaN is left out.

    Raises:
        MachineError: it cannot be written.
    """
    columns = {name: values.tolist() for name, values in measurements.items()}
    features = [
        _feature(corner, side=tiles.side_l0, colour=colour, values={
            name: values[k] for name, values in columns.items() if np.isfinite(values[k])
        })
        for k, (corner, colour) in enumerate(
            zip(tiles.coords.tolist(), tiles.colours.tolist(), strict=True)
        )
    ]  # fmt: skip
    text = json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False)
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def _feature(
    corner: list[int], *, side: float, colour: list[int], values: Mapping[str, float]
) -> dict[str, object]:
    x, y = corner
    right, bottom = round(x + side, 3), round(y + side, 3)
    ring = [[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "tile", "color": colour, "measurements": dict(values)},
    }
