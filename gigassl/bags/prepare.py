"""Preparing a slide: open it, find its tissue, lay its tiles; reading pixels comes after."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from gigassl.errors import SlideError
from gigassl.slides.cohort import CohortSlide, is_bag
from gigassl.slides.grid import GridSettings, TileGrid, TissueMask, make_grid
from gigassl.slides.masks import read_mask
from gigassl.slides.reader import Slide, open_slide
from gigassl.slides.tile_reader import TileReader
from gigassl.slides.tissue import TissueSettings, find_tissue, thumbnail_mpp

MASK_SUFFIXES = (".png", ".geojson", ".json")
_EDGE_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class TileSettings:
    """Everything that decides which pixels of a slide reach the tile encoder.

    Attributes:
        grid: tile size, resolution, overlap, tissue threshold.
        tissue: how tissue is found; None keeps every tile (``--tissue none``).
        external_masks: tissue comes from a mask file per slide instead of the detector.
        default_mpp: µm/px for slides whose file and cohort row do not say it (``--slide-mpp``).
        scaled_dct: shrink JPEG tiles while decoding: faster, pixels differ slightly.
        fast: decode JPEG tiles directly where that was found identical to OpenSlide (on pyramid
            levels of fractional downsample OpenSlide itself interpolates between whole pixels).
    """

    grid: GridSettings = field(default_factory=GridSettings)
    tissue: TissueSettings | None = field(default_factory=TissueSettings)
    external_masks: bool = False
    default_mpp: float | None = None
    scaled_dct: bool = False
    fast: bool = True


@dataclass(frozen=True, kw_only=True)
class SeenSlide:
    """An open slide, looked at from afar; close it, or lay its tiles.

    Attributes:
        tissue: None where every tile is to be kept.
        thumbnail: the picture the tissue was found on; None where none was made.
        inputs_digest: see ``inputs_digest``; taken before the slide was read.
    """

    slide: Slide
    inputs_digest: str
    tissue: TissueMask | None
    thumbnail: UInt8[np.ndarray, "row col 3"] | None


@dataclass(frozen=True, kw_only=True)
class PreparedSlide:
    """An open slide whose tiles can be read; close it when done.

    ``afterwards`` is called when it has been closed, each time.
    """

    slide: Slide
    inputs_digest: str
    grid: TileGrid
    tiles: TileReader
    afterwards: Callable[[], None] | None = None

    def close(self) -> None:
        """Closes the slide and lets go of what was decoded, however long this record is kept."""
        self.tiles.let_go()
        self.slide.close()
        if self.afterwards is not None:
            self.afterwards()


def look_at(
    source: CohortSlide, settings: TileSettings, *, masks: Path | None = None,
    want_thumbnail: bool = False,
) -> SeenSlide:  # fmt: skip
    """Opens a slide and finds its tissue.

    Args:
        masks: folder with ``<slide_id>.png`` or ``.geojson`` tissue masks, if those are used.
        want_thumbnail: make a thumbnail also where the tissue does not come from it.

    Raises:
        SlideError: it cannot be opened, has no resolution, or no usable mask.
    """
    inputs = inputs_digest(source, masks=masks)
    slide = open_slide(source.path, cohort_mpp=source.mpp, default_mpp=settings.default_mpp)
    try:
        thumbnail = None
        if (settings.tissue is not None and masks is None) or want_thumbnail:
            mpp = thumbnail_mpp(slide.info, settings.tissue or TissueSettings())
            thumbnail = slide.thumbnail(mpp)
        tissue = _tissue_of(slide, settings, mask=mask_path(source, masks), thumbnail=thumbnail)
    except BaseException:
        slide.close()
        raise
    return SeenSlide(slide=slide, inputs_digest=inputs, tissue=tissue, thumbnail=thumbnail)


def lay_tiles(seen: SeenSlide, settings: TileSettings) -> PreparedSlide:
    """Decides a slide's tiles and how they are read.

    Raises:
        SlideError: no tissue, no room for a tile, coarser than the target. The slide stays open.
    """
    grid = make_grid(seen.slide.info, settings.grid, tissue=seen.tissue)
    tiles = TileReader(seen.slide, grid, fast=settings.fast, scaled_dct=settings.scaled_dct)
    return PreparedSlide(slide=seen.slide, inputs_digest=seen.inputs_digest, grid=grid, tiles=tiles)


def mask_path(source: CohortSlide, masks: Path | None) -> Path | None:
    """The mask file of a slide in the folder of masks.

    Raises:
        SlideError: masks are used and this slide has none.
    """
    if masks is None:
        return None
    for suffix in MASK_SUFFIXES:
        path = masks / f"{source.slide_id}{suffix}"
        if path.is_file():
            return path
    wanted = " or ".join(f"{source.slide_id}{suffix}" for suffix in MASK_SUFFIXES)
    raise SlideError(f"no tissue mask in {masks}; expected {wanted}", stage="tissue")


def _tissue_of(
    slide: Slide, settings: TileSettings, *, mask: Path | None,
    thumbnail: UInt8[np.ndarray, "row col 3"] | None,
) -> TissueMask | None:  # fmt: skip
    width_l0, height_l0 = slide.info.width_l0, slide.info.height_l0
    if mask is not None:
        return read_mask(mask, width_l0=width_l0, height_l0=height_l0)
    if settings.tissue is None or thumbnail is None:
        return None
    # the thumbnail's own resolution: its size is a whole number of pixels
    mpp = slide.info.mpp * width_l0 / thumbnail.shape[1]
    found = find_tissue(thumbnail, mpp=mpp, settings=settings.tissue)
    return TissueMask(mask=found, width_l0=width_l0, height_l0=height_l0)


def inputs_digest(source: CohortSlide, *, masks: Path | None = None) -> str:
    """What of a slide's own inputs would change its vector: file size, cohort mpp, mask.

    Needs no opening of a slide, so that a resume over many thousand stays quick, and no download;
    of a bag file the first and last 64 KiB count as well, since a bag encoded anew has the same
    size.

    Raises:
        SlideError: masks are used and this slide has none, its store does not know its size, or a
            bag in a store, whose content counts.
        OSError: no such file.
    """
    n_bytes = source.n_bytes()
    total = hashlib.sha256(f"{n_bytes}|{source.mpp}".encode())
    if is_bag(source.path):
        if source.remote is not None:
            raise SlideError("the bag's content is not known before it is fetched", stage="fetch")
        with source.path.open("rb") as handle:
            total.update(handle.read(_EDGE_BYTES))
            handle.seek(max(0, n_bytes - _EDGE_BYTES))
            total.update(handle.read())
    mask = mask_path(source, masks)
    if mask is not None:
        total.update(mask.read_bytes())
    return total.hexdigest()[:16]
