"""Contact sheet of the tiles with the highest and the lowest scores of a slide."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, Int64, UInt8
from PIL import Image, ImageDraw, ImageFont

from gigassl.errors import GigasslError
from gigassl.files import written_whole
from gigassl.report.tile_map import TileMap
from gigassl.slides.reader import Slide

SHEET = "tiles.png"

N_SHOWN = 8
"""Tiles of each row, at most."""

_SIDE_PX, _GAP_PX, _TITLE_PX, _SCORE_PX = 150, 6, 30, 22
_FRAME_PX = 4
_ROW_PX = _TITLE_PX + _SIDE_PX + _SCORE_PX + _GAP_PX

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
    height, width = _size(len(rows))
    sheet = Image.new("RGB", (width, height), "white")
    for place, row in enumerate(rows):
        _draw_row(sheet, slide, tiles, row=row, top=place * _ROW_PX)
    with written_whole(path) as part:
        sheet.save(part, "PNG")


def cut_tiles(
    path: Path, score: Float64[np.ndarray, " tile"]
) -> dict[int, UInt8[np.ndarray, "row col 3"]]:
    """The tiles of a sheet without frame and score, by their number.

    Args:
        path: of a sheet that was written of the same scores.
        score: of each tile; NaN for none.

    Raises:
        GigasslError: the sheet is damaged, or not one of these scores.
    """
    rows = [numbers for numbers in highest_and_lowest(score) if len(numbers)]
    try:
        with Image.open(path) as sheet:
            pixels = np.asarray(sheet.convert("RGB"))
    except OSError as error:
        raise GigasslError(f"{path} is damaged; explain the slide again") from error
    if pixels.shape[:2] != _size(len(rows)):
        raise GigasslError(f"{path} is not a sheet of these scores; explain the slide again")
    side, found = _SIDE_PX - 2 * _FRAME_PX, {}
    for row, numbers in enumerate(rows):
        for place, number in enumerate(numbers.tolist()):
            left, upper = _corner(place, row * _ROW_PX)
            top, begin = upper + _FRAME_PX, left + _FRAME_PX
            found[number] = pixels[top : top + side, begin : begin + side]
    return found


def highest_and_lowest(
    score: Float64[np.ndarray, " tile"],
) -> tuple[Int64[np.ndarray, " high"], Int64[np.ndarray, " low"]]:
    """Numbers of the tiles with the highest scores, and with the lowest; the extreme ones first.

    Of few tiles, each stands in one of them only.
    """
    known = np.flatnonzero(np.isfinite(score))
    order = known[np.argsort(-score[known], kind="stable")]
    n_first = min(N_SHOWN, -(-len(order) // 2))
    return order[:n_first], order[n_first:][::-1][:N_SHOWN]


def _size(n_rows: int) -> tuple[int, int]:
    """Height and width of a sheet."""
    return n_rows * _ROW_PX, N_SHOWN * (_SIDE_PX + _GAP_PX) + _GAP_PX


def _corner(place: int, top: int) -> tuple[int, int]:
    """Left and upper pixel of a tile in the row that begins at ``top``."""
    return _GAP_PX + place * (_SIDE_PX + _GAP_PX), top + _TITLE_PX


def _rows(tiles: TileMap, scale: str) -> list[Row]:
    # the default font has Latin letters only, so that the scale is said without others
    said = scale.encode("ascii", "replace").decode()
    titles = (f"highest: {said}", f"lowest: {said}")
    rows = zip(titles, highest_and_lowest(tiles.score), strict=True)
    return [(title, numbers) for title, numbers in rows if len(numbers)]


def _draw_row(sheet: Image.Image, slide: Slide, tiles: TileMap, *, row: Row, top: int) -> None:
    title, numbers = row
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=17)
    pen.text((_GAP_PX, top + 5), title, fill="black", font=font)
    small = ImageFont.load_default(size=14)
    for place, number in enumerate(numbers.tolist()):
        left, upper = _corner(place, top)
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
