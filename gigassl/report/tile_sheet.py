"""Contact sheet of the tiles with the highest and the lowest scores of a slide."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image, ImageDraw, ImageFont

from gigassl.files import written_whole
from gigassl.report.tile_map import TileMap
from gigassl.slides.reader import Slide

N_SHOWN = 8
"""Tiles of each row, at most."""

_SIDE_PX, _GAP_PX, _TITLE_PX, _SCORE_PX = 150, 6, 30, 22
_FRAME_PX = 4

Row = tuple[str, Int64[np.ndarray, " tile"]]


def save_tile_sheet(slide: Slide, tiles: TileMap, path: Path, *, scale: str) -> None:
    """Writes a PNG with a row of the highest and one of the lowest scores, framed in their colours.

    Of a slide with few tiles, each stands in one row only.

    Args:
        slide: open; its pixels are read.
        tiles: scores and places.
        path: file to write.
        scale: what a score is.

    Raises:
        SlideError: the stored pixels are damaged.
        MachineError: it cannot be written.
    """
    rows = _rows(tiles, scale)
    height = sum(_TITLE_PX + _SIDE_PX + _SCORE_PX + _GAP_PX for _ in rows)
    width = N_SHOWN * (_SIDE_PX + _GAP_PX) + _GAP_PX
    sheet = Image.new("RGB", (width, height), "white")
    top = 0
    for title, numbers in rows:
        _draw_row(sheet, slide, tiles, row=(title, numbers), top=top)
        top += _TITLE_PX + _SIDE_PX + _SCORE_PX + _GAP_PX
    with written_whole(path) as part:
        sheet.save(part, "PNG")


def _rows(tiles: TileMap, scale: str) -> list[Row]:
    known = np.flatnonzero(np.isfinite(tiles.score))
    order = known[np.argsort(-tiles.score[known], kind="stable")]
    n_first = min(N_SHOWN, -(-len(order) // 2))
    first, last = order[:n_first], order[n_first:][::-1][:N_SHOWN]
    # the default font has Latin letters only, so that the scale is said without others
    said = scale.encode("ascii", "replace").decode()
    rows = [(f"highest: {said}", first), (f"lowest: {said}", last)]
    return [(title, numbers) for title, numbers in rows if len(numbers)]


def _draw_row(sheet: Image.Image, slide: Slide, tiles: TileMap, *, row: Row, top: int) -> None:
    title, numbers = row
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=17)
    pen.text((_GAP_PX, top + 5), title, fill="black", font=font)
    small = ImageFont.load_default(size=14)
    for place, number in enumerate(numbers.tolist()):
        left, upper = _GAP_PX + place * (_SIDE_PX + _GAP_PX), top + _TITLE_PX
        frame = tuple(tiles.colours[number].tolist())
        pen.rectangle((left, upper, left + _SIDE_PX - 1, upper + _SIDE_PX - 1), fill=frame)
        pixels = _pixels(slide, tiles, number, side_px=_SIDE_PX - 2 * _FRAME_PX)
        sheet.paste(Image.fromarray(pixels), (left + _FRAME_PX, upper + _FRAME_PX))
        pen.text(
            (left, upper + _SIDE_PX + 2),
            f"{tiles.score[number]:.3g}",
            fill=(60, 60, 60),
            font=small,
        )


def _pixels(
    slide: Slide, tiles: TileMap, number: int, *, side_px: int
) -> UInt8[np.ndarray, "row col 3"]:
    wished = tiles.side_l0 / side_px
    downsamples = slide.info.downsamples
    level = max((k for k, d in enumerate(downsamples) if d <= wished), default=0,
                key=lambda k: downsamples[k])  # fmt: skip
    x, y = tiles.coords[number].tolist()
    read_px = max(1, round(tiles.side_l0 / downsamples[level]))
    region = slide.read_region(x, y, level=level, width=read_px, height=read_px)
    how = cv2.INTER_AREA if read_px > side_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(region, (side_px, side_px), interpolation=how), dtype=np.uint8)
