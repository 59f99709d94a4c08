"""Tiles as level-0 GeoJSON that QuPath opens: squares with colours and measurements."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from gigassl.bags.bag import Bag
from gigassl.errors import SlideError
from gigassl.files import written_whole
from gigassl.report.mosaic import PERCENTILES, components
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
    _save(
        path, coords=tiles.coords, side=tiles.side_l0, colours=tiles.colours,
        measurements=measurements,
    )  # fmt: skip


def save_bag_geojson(bag: Bag, path: Path) -> None:
    """Writes the tiles of a bag likewise, coloured by what they look like to their encoder.

    Colours and measurements are the first three principal components of the features, as red, green
    and blue from the 3rd to the 97th percentile.

    Raises:
        SlideError: the bag does not say how large its tiles are.
        MachineError: it cannot be written.
    """
    if bag.info.side_l0 is None:
        raise SlideError("its bag does not say how large its tiles are at level 0", stage="bag")
    scores = components(bag.features).astype(np.float64)
    low, high = np.percentile(scores, PERCENTILES, axis=0)
    levels = (scores - low) / np.where(high > low, high - low, 1.0)
    _save(
        path, coords=bag.coords, side=bag.info.side_l0,
        colours=np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8),
        measurements={f"component {k + 1}": scores[:, k] for k in range(scores.shape[1])},
    )  # fmt: skip


def _save(
    path: Path, *, coords: Int64[np.ndarray, "tile 2"], side: float,
    colours: UInt8[np.ndarray, "tile 3"],
    measurements: Mapping[str, Float64[np.ndarray, " tile"]],
) -> None:  # fmt: skip
    columns = {name: values.tolist() for name, values in measurements.items()}
    features = [
        _feature(corner, side=side, colour=colour, values={
            name: values[k] for name, values in columns.items() if np.isfinite(values[k])
        })
        for k, (corner, colour) in enumerate(
            zip(coords.tolist(), colours.tolist(), strict=True)
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
