"""Tile scores: the table of an explained slide's tiles, written and read again."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from gigassl.errors import GigasslError
from gigassl.evaluate.explain.record import ExplainedSlide
from gigassl.files import written_whole
from gigassl.report.tile_map import TileMap

SCORES, PICTURE = "scores.csv", "slide.jpg"
"""Names of the table, and of the slide's picture beside it."""

COLUMNS = ("slide_id", "x", "y", "side_l0", "score")


def save_scores(
    tiles: TileMap, path: Path, *, share: Float64[np.ndarray, " tile"] | None = None
) -> None:
    """Writes one row a tile; a tile without a score has an empty one.

    Args:
        tiles: scores and places.
        path: file to write.
        share: of each tile that lies in a mask; None without a mask.

    Raises:
        MachineError: it cannot be written.
    """
    more: Mapping[str, np.ndarray] = {} if share is None else {"mask_share": share}
    columns = [tiles.score, *more.values()]
    with written_whole(path) as part, part.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([*COLUMNS, *more])
        for k, (x, y) in enumerate(tiles.coords.tolist()):
            numbers = ["" if np.isnan(c[k]) else repr(float(c[k])) for c in columns]
            writer.writerow([tiles.slide_id, x, y, repr(float(tiles.side_l0)), *numbers])


def read_scores(path: Path, record: ExplainedSlide) -> TileMap:
    """The tiles of an explained slide; one whose record has no size is as large as its tiles.

    Raises:
        GigasslError: there is no such table, or it is damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
        coords = np.array([[int(row["x"]), int(row["y"])] for row in rows], dtype=np.int64)
        score = np.array([float(row["score"] or "nan") for row in rows], dtype=np.float64)
        side_l0 = float(rows[0]["side_l0"])
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise GigasslError(
            f"{path} is no table of tile scores of `gigassl explain`; explain the slide again"
        ) from error
    right, bottom = (int(np.ceil(end)) for end in coords.max(axis=0) + side_l0)
    return TileMap(
        slide_id=record.slide_id,
        coords=coords,
        side_l0=side_l0,
        score=score,
        signed=record.meaning == "contribution",
        width_l0=record.width_l0 or right,
        height_l0=record.height_l0 or bottom,
        mpp_l0=record.mpp_l0,
    )
