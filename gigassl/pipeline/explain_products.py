"""Files of an explained slide: heatmap, tiles, GeoJSON, OME-TIFF, table of scores."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from PIL import Image

from gigassl.bags.bag import Bag
from gigassl.errors import SlideError
from gigassl.evaluate.explain.explanation import Explanation
from gigassl.evaluate.mask_agreement import Agreement, agreement, chance_agreement
from gigassl.files import written_whole
from gigassl.report.geojson import save_tiles_geojson
from gigassl.report.heatmap import save_heatmap
from gigassl.report.ome_overlay import save_ome_overlay
from gigassl.report.tile_map import TileMap
from gigassl.report.tile_scores import PICTURE, SCORES, save_scores
from gigassl.report.tile_sheet import SHEET, save_tile_sheet
from gigassl.slides.grid import TissueMask, tissue_fractions
from gigassl.slides.reader import Slide
from gigassl.vectors.groups import generator_of

PRODUCTS = 2
"""Version of the files of a slide: those of another one are made again."""

_THUMBNAIL_PX = 1600


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """A slide with scores of its tiles, ready to be drawn.

    Attributes:
        tiles: scores and places.
        scale: what a score is, in words.
        title: of the heatmap.
        share: of each tile that lies in the mask; None without a mask.
    """

    tiles: TileMap
    scale: str
    title: str
    share: Float64[np.ndarray, " tile"] | None = None


def tile_map(bag: Bag, explanation: Explanation, *, slide: Slide | None) -> TileMap:
    """Scores where the tiles of a bag lie.

    Raises:
        SlideError: the bag does not say how large its tiles are.
    """
    info = bag.info
    side = info.side_l0
    if side is None and info.tile_px and info.mpp_l0 and (info.effective_mpp or info.target_mpp):
        side = info.tile_px * (info.effective_mpp or info.target_mpp or 0.0) / info.mpp_l0
    if side is None:
        raise SlideError("its bag does not say how large its tiles are at level 0", stage="bag")
    right, bottom = (int(np.ceil(end)) for end in bag.coords.max(axis=0) + side)
    if slide is not None:
        right, bottom = slide.info.width_l0, slide.info.height_l0
    return TileMap(
        slide_id=info.slide_id,
        coords=bag.coords,
        side_l0=side,
        score=explanation.score,
        signed=explanation.meaning == "contribution",
        width_l0=info.width_l0 or right,
        height_l0=info.height_l0 or bottom,
        mpp_l0=info.mpp_l0,
    )


def save_products(scored: Scored, folder: Path, *, slide: Slide | None) -> None:
    """Writes all files of a slide but its record.

    ``heatmap.png``, with the slide ``slide.jpg`` and ``tiles.png``, ``tiles.geojson``,
    ``overlay.ome.tiff`` where the µm/px is known, ``scores.csv``.

    Args:
        scored: the slide.
        folder: of the slide; made if missing.
        slide: open; None where the file is not at hand.

    Raises:
        SlideError: its pixels are damaged.
        MachineError: disk full, read-only folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tiles = scored.tiles
    thumbnail = None
    if slide is not None:
        side_l0 = max(tiles.width_l0, tiles.height_l0)
        thumbnail = slide.thumbnail(slide.info.mpp * max(1.0, side_l0 / _THUMBNAIL_PX))
        with written_whole(folder / PICTURE) as part:
            Image.fromarray(thumbnail).save(part, "JPEG", quality=85)
        save_tile_sheet(slide, tiles, folder / SHEET, scale=scored.scale)
    save_heatmap(
        folder / "heatmap.png", tiles, title=scored.title, scale=scored.scale, thumbnail=thumbnail
    )
    measured = {scored.scale: tiles.score}
    if scored.share is not None:
        measured["share in the mask"] = scored.share
    save_tiles_geojson(tiles, folder / "tiles.geojson", measurements=measured)
    if tiles.mpp_l0 is not None:
        save_ome_overlay(tiles, folder / "overlay.ome.tiff", channel=scored.scale)
    save_scores(tiles, folder / SCORES, share=scored.share)


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskFound:
    """A slide's mask on its tiles.

    Attributes:
        share: of each tile that lies in it.
        agreement, chance: of the scores, and of the same scores shuffled; None where the mask
            covers nothing of the scored tiles, or all.
        in_tiles: share of the mask's area that lies in scored tiles; None for an empty mask.
        note: why there is no agreement; "" where there is.
    """

    share: Float64[np.ndarray, " tile"]
    agreement: Agreement | None
    chance: Agreement | None
    in_tiles: float | None
    note: str


def on_mask(tiles: TileMap, mask: TissueMask, *, seed: int) -> MaskFound:
    """How well the scores of a slide find its mask; tiles without a score take no part.

    Args:
        tiles: scores and places.
        mask: of the whole slide.
        seed: of the shuffled control, together with the slide's name.
    """
    share = tissue_fractions(mask, tiles.coords, side_l0=tiles.side_l0)
    known = np.isfinite(tiles.score)
    area_l0 = float(mask.mask.mean()) * mask.width_l0 * mask.height_l0
    covered = float(share[known].sum())
    in_tiles = min(1.0, covered * tiles.side_l0**2 / area_l0) if area_l0 else None
    if not 0 < covered < known.sum():
        what = "nothing" if covered == 0 else "everything"
        return MaskFound(share=share, agreement=None, chance=None, in_tiles=in_tiles,
                         note=f"the mask covers {what} of the scored tiles")  # fmt: skip
    return MaskFound(
        share=share,
        agreement=agreement(tiles.score[known], share[known]),
        chance=chance_agreement(
            tiles.score[known], share[known], generator=generator_of(seed, tiles.slide_id)
        ),
        in_tiles=in_tiles,
        note="",
    )
