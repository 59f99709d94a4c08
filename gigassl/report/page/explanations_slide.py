"""One explained slide on a page: heat of each system over its picture, and the extreme tiles."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup
from scipy.stats import rankdata

from gigassl.errors import GigasslError
from gigassl.evaluate.explain.record import ExplainedSlide, scale_of
from gigassl.evaluate.mask_agreement import Agreement
from gigassl.report.page.explanations_pictures import gradient, heat_png, jpeg, source
from gigassl.report.page.section import rendered
from gigassl.report.tables import number
from gigassl.report.tile_map import TileMap
from gigassl.report.tile_scores import PICTURE, SCORES, read_scores
from gigassl.report.tile_sheet import SHEET, cut_tiles, highest_and_lowest

SHOWN_TILES = 6
"""Tiles of each gallery."""

_PICTURE_PX, _TILE_PX = 640, 112
_RANKS = "place among the slide's tiles: the same scale for all"
_VALUES = "each system's own values"

Colours = Literal["ranks", "values"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Explained:
    """One slide by one system.

    Attributes:
        system: what the page calls it.
        record: what was explained.
        tiles: scores and places.
        picture: of the whole slide; None where explaining had no slide file.
        cut: pixels of the tiles of the sheet, by their number.
    """

    system: str
    record: ExplainedSlide
    tiles: TileMap
    picture: UInt8[np.ndarray, "row col 3"] | None
    cut: dict[int, UInt8[np.ndarray, "tile_row tile_col 3"]]

    @classmethod
    def read(cls, folder: Path, record: ExplainedSlide, *, system: str) -> "Explained":
        """Reads what ``gigassl explain`` wrote of a slide.

        Raises:
            GigasslError: files that are damaged or not there.
        """
        tiles = read_scores(folder / SCORES, record)
        sheet = folder / SHEET
        return cls(
            system=system,
            record=record,
            tiles=tiles,
            picture=_picture(folder / PICTURE),
            cut=cut_tiles(sheet, tiles.score) if sheet.is_file() else {},
        )


def slide_panel(explained: Sequence[Explained]) -> Markup:
    """All systems of one slide beside one another, in two ways of colouring, and their galleries.

    The picture of the slide stands in the page once, whatever the number of heatmaps on it.
    """
    first = explained[0]
    picture = next((each.picture for each in explained if each.picture is not None), None)
    ways: tuple[tuple[str, Colours], ...] = ((_RANKS, "ranks"), (_VALUES, "values"))
    return rendered(
        "explained.html",
        slide_id=first.record.slide_id,
        picture=None if picture is None else source(jpeg(picture, side_px=_PICTURE_PX), "jpeg"),
        width=first.tiles.width_l0,
        height=first.tiles.height_l0,
        ways=[(name, [_heat(each, way) for each in explained]) for name, way in ways],
        galleries=[_galleries(each) for each in explained if each.cut],
        words=[_words(each.record) | {"system": each.system} for each in explained],
    )


def ranked(tiles: TileMap) -> TileMap:
    """The tiles with their places, 0 (lowest) to 100, instead of their scores; ties share one."""
    known = np.isfinite(tiles.score)
    place = np.full(len(tiles.score), np.nan)
    n = int(known.sum())
    place[known] = 100 * (rankdata(tiles.score[known]) - 1) / max(n - 1, 1)
    return replace(tiles, score=place, signed=False)


def _heat(each: Explained, way: Colours) -> dict[str, Any]:
    """A heatmap as its template takes it: picture, how much of the slide it covers, legend."""
    tiles = ranked(each.tiles) if way == "ranks" else each.tiles
    limits = (0.0, 100.0) if way == "ranks" else tiles.limits
    rows, cols = tiles.picture.shape
    ends = ["lowest tile", "highest tile"]
    if way == "values":
        ends = [f"{limits[0]:.3g}", *(["0"] if tiles.signed else []), f"{limits[1]:.3g}"]
    return {
        "system": each.system,
        "source": source(heat_png(tiles, limits=limits), "png"),
        "across": f"{100 * cols * tiles.l0_per_px / tiles.width_l0:.3f}",
        "down": f"{100 * rows * tiles.l0_per_px / tiles.height_l0:.3f}",
        "gradient": gradient(tiles.colour_map),
        "ends": ends,
        "scale": scale_of(each.record),
    }


def _galleries(each: Explained) -> dict[str, Any]:
    high, low = highest_and_lowest(each.tiles.score)
    rows = [
        {
            "title": title,
            "tiles": [_tile(each, number) for number in numbers[:SHOWN_TILES].tolist()],
        }
        for title, numbers in (("highest", high), ("lowest", low))
        if len(numbers)
    ]
    return {"system": each.system, "scale": scale_of(each.record), "rows": rows}


def _tile(each: Explained, number: int) -> dict[str, Any]:
    red, green, blue = each.tiles.colours[number].tolist()
    x, y = each.tiles.coords[number].tolist()
    return {
        "source": source(jpeg(each.cut[number], side_px=_TILE_PX), "jpeg"),
        "score": f"{each.tiles.score[number]:.3g}",
        "frame": f"rgb({red},{green},{blue})",
        "where": f"x {x}, y {y}",
    }


def _words(record: ExplainedSlide) -> dict[str, Any]:
    """What was explained, in words."""
    answer = record.answer[record.explained]
    if record.asked:
        asked = {"predicted": "the predicted class", "true": "the true class"}
        why = asked.get(record.asked, "the class asked for")
        what = f"'{record.explained}' ({why}), probability {answer:.3f}"
    else:
        what = f"the {record.explained}, {answer:.3g}"
    truth = record.y_true
    right = "" if not truth or not record.asked else _verdict(record)
    return {
        "what": what,
        "right": right,
        "how": record.how,
        "model": record.model,
        "learned_from": record.learned_from,
        "unseen": record.n_unseen,
        "mask": _on_mask(record.agreement, record.chance),
    }


def _verdict(record: ExplainedSlide) -> str:
    said = max(record.answer, key=lambda name: record.answer[name])
    if said == record.y_true:
        return f"the true class is '{record.y_true}', as predicted"
    return f"the true class is '{record.y_true}', predicted was '{said}'"


def _on_mask(agreement: Agreement | None, chance: Agreement | None) -> str:
    if agreement is None or chance is None:
        return ""
    return f"pixel AUC with the mask {number(agreement.auc)} (shuffled {number(chance.auc)})"


def _picture(path: Path) -> UInt8[np.ndarray, "row col 3"] | None:
    if not path.is_file():
        return None
    found = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if found is None:
        raise GigasslError(f"{path} is damaged; explain the slide again")
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB), dtype=np.uint8)
