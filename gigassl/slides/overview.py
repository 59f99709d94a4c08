"""Overview picture of a slide: its thumbnail with the tissue outlined and the kept tiles drawn."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from gigassl.files import written_whole
from gigassl.slides.grid import SlideInfo, TileGrid, TissueMask

Rgb = UInt8[np.ndarray, "row col 3"]

_SIDE_PX = 1600
_BAR_PX = 84  # height of the caption
_TISSUE_RGB = (0, 150, 60)
_TILE_RGB = (20, 60, 200)
_SMALLEST_OUTLINED_PX = 9.0  # tiles drawn smaller than this merge into one outline


def save_overview(
    path: Path,
    *,
    thumbnail: UInt8[np.ndarray, "row col 3"],
    slide_id: str,
    info: SlideInfo,
    tissue: TissueMask | None,
    grid: TileGrid | None,
) -> None:
    """Writes a PNG of about 1,600 px: thumbnail, tissue contour, kept tiles, scale bar, the facts.

    Args:
        path: file to write; its folder is made if missing.
        thumbnail: RGB picture of the whole slide.
        slide_id: written below the picture.
        info: size and resolution of the slide.
        tissue: outlined in green; None draws no outline.
        grid: kept tiles, outlined in blue; None where no tile could be laid.
    """
    canvas = _enlarged(thumbnail, info)
    scale = canvas.shape[1] / info.width_l0
    if grid is not None:
        _draw_tiles(canvas, grid, scale=scale)
    if tissue is not None:
        _draw_tissue(canvas, tissue)
    picture = _with_caption(canvas, _facts(info, grid, tissue=tissue), slide_id=slide_id)
    _draw_scale_bar(picture, um_per_px=info.mpp / scale)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part:
        picture.save(part, "PNG")


def _enlarged(thumbnail: Rgb, info: SlideInfo) -> UInt8[np.ndarray, "out_row out_col 3"]:
    factor = _SIDE_PX / max(info.width_l0, info.height_l0)
    size = (max(1, round(info.width_l0 * factor)), max(1, round(info.height_l0 * factor)))
    shrinks = size[0] < thumbnail.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(thumbnail, size, interpolation=how), dtype=np.uint8)


def _draw_tissue(canvas: Rgb, tissue: TissueMask) -> None:
    rows, cols = canvas.shape[:2]
    grown = cv2.resize(tissue.mask.astype(np.uint8), (cols, rows), interpolation=cv2.INTER_NEAREST)
    _outline(canvas, grown, rgb=_TISSUE_RGB, thickness=3)


def _outline(canvas: Rgb, mask: np.ndarray, *, rgb: tuple[int, int, int], thickness: int) -> None:
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(canvas, contours, -1, rgb, thickness, cv2.LINE_AA)


def _draw_tiles(canvas: Rgb, grid: TileGrid, *, scale: float) -> None:
    """Outlines each tile, or where tiles are tiny the region that they cover."""
    corners = np.rint(grid.coords * scale).astype(np.int64)
    ends = np.rint((grid.coords + grid.side_l0) * scale).astype(np.int64)
    covered = np.zeros(canvas.shape[:2], dtype=np.uint8)
    for (x0, y0), (x1, y1) in zip(corners.tolist(), ends.tolist(), strict=True):
        covered[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = 1
    tinted = (canvas * 0.88 + np.array(_TILE_RGB) * 0.12).astype(np.uint8)
    canvas[covered > 0] = tinted[covered > 0]
    if grid.side_l0 * scale < _SMALLEST_OUTLINED_PX:
        _outline(canvas, covered, rgb=_TILE_RGB, thickness=1)
        return
    for (x0, y0), (x1, y1) in zip(corners.tolist(), ends.tolist(), strict=True):
        cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), _TILE_RGB, 1)


def _facts(info: SlideInfo, grid: TileGrid | None, *, tissue: TissueMask | None) -> str:
    # Pillow's own font has neither × nor µ
    size = f"{info.width_l0:,} x {info.height_l0:,} px at {info.mpp:.4g} um/px"
    area = "" if tissue is None else f"   |   {tissue.mask.mean():.0%} tissue"
    if grid is None:
        return f"{size}{area}   |   no tiles"
    tiles = f"{len(grid):,} of {grid.n_candidates:,} tiles of {grid.tile_px} px"
    return f"{size}{area}   |   {tiles} at {grid.plan.mpp:.4g} um/px"


def _with_caption(canvas: Rgb, facts: str, *, slide_id: str) -> Image.Image:
    """The picture on white, never narrower than its caption, with two lines of text below."""
    big, small = ImageFont.load_default(size=28), ImageFont.load_default(size=22)
    rows, cols = canvas.shape[:2]
    text_px = max(big.getlength(slide_id), small.getlength(facts))
    width = max(cols, int(text_px) + 32)
    picture = Image.new("RGB", (width, rows + _BAR_PX), "white")
    picture.paste(Image.fromarray(canvas), ((width - cols) // 2, 0))
    pen = ImageDraw.Draw(picture)
    pen.text((16, rows + 8), slide_id, fill="black", font=big)
    pen.text((16, rows + 46), facts, fill=(60, 60, 60), font=small)
    return picture


def _draw_scale_bar(picture: Image.Image, *, um_per_px: float) -> None:
    """A bar of a round length, about an eighth of the picture's longer side, on the lower right."""
    wished_um = _SIDE_PX / 8 * um_per_px
    decade = 10.0 ** np.floor(np.log10(wished_um))
    length_um = max(step * decade for step in (1, 2, 5) if step * decade <= wished_um)
    length_px = round(length_um / um_per_px)
    label = f"{length_um / 1000:g} mm"
    right, bottom = picture.width - 24, picture.height - _BAR_PX - 20
    left = right - length_px
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=26)
    text_px = font.getlength(label)
    middle = (left + right) / 2
    box = (min(left, middle - text_px / 2) - 12, bottom - 50, right + 12, bottom + 10)
    pen.rectangle(box, fill="white", outline=(120, 120, 120))
    pen.rectangle((left, bottom - 8, right, bottom), fill="black")
    pen.text((middle - text_px / 2, bottom - 46), label, fill="black", font=font)
