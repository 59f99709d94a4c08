"""Tile grid: where the tiles of a slide lie, from which level they are read, their tissue."""

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64, Int64

from gigassl.errors import SettingsError, SlideError
from gigassl.units import l0_from_px


@dataclass(frozen=True, kw_only=True)
class SlideInfo:
    """Facts of one slide that the geometry needs.

    Attributes:
        width_l0, height_l0: size in level-0 pixels.
        mpp: level-0 resolution in µm/px.
        downsamples: level-0 pixels per pixel of each pyramid level, finest first.
    """

    width_l0: int
    height_l0: int
    mpp: float
    downsamples: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, kw_only=True)
class GridSettings:
    """Wishes for the tiles.

    Attributes:
        tile_px: side of a tile in px at ``target_mpp``.
        target_mpp: resolution at which tiles are read, µm/px.
        overlap_px: px shared by neighbouring tiles.
        min_tissue: a tile is kept when at least this fraction of it is tissue.
        mpp_tolerance: a pyramid level this close (relative) to the target is read as it is.
        allow_upsampling: enlarge slides that are coarser than the target, instead of refusing them.
    """

    tile_px: int = 224
    target_mpp: float = 0.5
    overlap_px: int = 0
    min_tissue: float = 0.5
    mpp_tolerance: float = 0.02
    allow_upsampling: bool = False

    def __post_init__(self) -> None:
        if self.tile_px < 1:
            raise SettingsError(f"tile size must be at least 1 px; got {self.tile_px}")
        if not 0.0 < self.target_mpp < math.inf:
            raise SettingsError(
                f"target mpp must be a positive number of µm/px; got {self.target_mpp}"
            )
        if not 0 <= self.overlap_px < self.tile_px:
            raise SettingsError(
                f"overlap must be 0 to {self.tile_px - 1} px (tile size - 1); got {self.overlap_px}"
            )
        if not 0.0 <= self.min_tissue <= 1.0:
            raise SettingsError(f"min tissue is a fraction from 0 to 1; got {self.min_tissue}")


GRID_PRESETS = {"giga-ssl": GridSettings(tile_px=224, target_mpp=1.0, min_tissue=0.1)}
"""Published tile grids by name."""


@dataclass(frozen=True, kw_only=True)
class ReadPlan:
    """How a tile of a slide is read: from which level, and by how much it is shrunk.

    Attributes:
        level: pyramid level to read.
        downsample: level-0 pixels per pixel of that level.
        mpp: effective µm/px of the tile that results.
        scale: pixels of the level per pixel of the tile; exactly 1.0 means read as it is.
        read_px: side of the region to read, in pixels of the level.
    """

    level: int
    downsample: float
    mpp: float
    scale: float
    read_px: int


@dataclass(frozen=True, kw_only=True)
class TissueMask:
    """Where a slide holds tissue: a boolean image that covers the whole slide.

    Attributes:
        mask: True where tissue.
        width_l0, height_l0: the size in level-0 pixels that the image covers.
    """

    mask: Bool[np.ndarray, "row col"]
    width_l0: int
    height_l0: int


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """Kept tiles of one slide, row by row.

    Attributes:
        coords: (x, y) of each tile's top-left corner, level-0 px.
        tissue: tissue fraction of each tile.
        tile_px: side of a tile in px as it goes to the encoder.
        side_l0: side of a tile in level-0 px (not rounded).
        plan: how the tiles are read.
    """

    coords: Int64[np.ndarray, "tile 2"]
    tissue: Float64[np.ndarray, " tile"]
    tile_px: int
    side_l0: float
    plan: ReadPlan
    n_candidates: int = field(default=0)

    def __len__(self) -> int:
        return len(self.coords)


def plan_reading(info: SlideInfo, settings: GridSettings) -> ReadPlan:
    """Chooses the coarsest pyramid level that is still as fine as the target.

    A level within ``mpp_tolerance`` of the target is read as it is; its own mpp is then the
    effective one.

    Raises:
        SlideError: the slide is coarser than the target and upsampling is not allowed.
    """
    target = settings.target_mpp
    level_mpps = [info.mpp * downsample for downsample in info.downsamples]
    fine_enough = [
        i for i, mpp in enumerate(level_mpps) if mpp <= target * (1 + settings.mpp_tolerance)
    ]
    if not fine_enough and not settings.allow_upsampling:
        raise SlideError(
            f"its finest resolution, {info.mpp:.4g} µm/px, is coarser than the target {target:g}; "
            f"choose --target-mpp {info.mpp:.3g} or more, or pass --allow-upsampling",
            stage="grid",
        )
    level = max(fine_enough, key=lambda i: level_mpps[i], default=0)
    downsample, level_mpp = info.downsamples[level], level_mpps[level]
    if abs(level_mpp / target - 1) <= settings.mpp_tolerance:
        return ReadPlan(
            level=level, downsample=downsample, mpp=level_mpp, scale=1.0, read_px=settings.tile_px
        )
    scale = target / level_mpp
    read_px = max(1, round(settings.tile_px * scale))
    return ReadPlan(level=level, downsample=downsample, mpp=target, scale=scale, read_px=read_px)


def lattice(
    info: SlideInfo, settings: GridSettings, *, plan: ReadPlan
) -> tuple[Int64[np.ndarray, "tile 2"], float]:
    """All tile corners of a slide, row by row, and the tile's side in level-0 px.

    Origins are ``round(i * step)``, never accumulated; tiles that would leave the slide are
    dropped.
    """
    side_l0 = l0_from_px(settings.tile_px, mpp=plan.mpp, mpp_l0=info.mpp)
    step_l0 = l0_from_px(settings.tile_px - settings.overlap_px, mpp=plan.mpp, mpp_l0=info.mpp)
    xs, ys = (
        _origins(length, step_l0=step_l0, side_l0=plan.read_px * plan.downsample)
        for length in (info.width_l0, info.height_l0)
    )
    grid_y, grid_x = np.meshgrid(ys, xs, indexing="ij")
    return np.stack([grid_x.ravel(), grid_y.ravel()], axis=1), side_l0


def _origins(length_l0: int, *, step_l0: float, side_l0: float) -> Int64[np.ndarray, " origin"]:
    count = max(0, int((length_l0 - side_l0) / step_l0) + 2)
    origins = np.rint(np.arange(count) * step_l0).astype(np.int64)
    # a level's size is rounded down, so its last pixel may end a fraction of a level-0 px early
    inside: Int64[np.ndarray, " origin"] = origins[origins + side_l0 <= length_l0 + 1e-6]
    return inside


def tissue_fractions(
    tissue: TissueMask, coords: Int64[np.ndarray, "tile 2"], *, side_l0: float
) -> Float64[np.ndarray, " tile"]:
    """Fraction of each tile that is tissue, exact to fractions of a mask pixel (integral image)."""
    rows, cols = tissue.mask.shape
    integral = np.zeros((rows + 1, cols + 1))
    integral[1:, 1:] = tissue.mask.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    x0, x1 = (np.clip((coords[:, 0] + d) * cols / tissue.width_l0, 0, cols) for d in (0.0, side_l0))
    y0, y1 = (
        np.clip((coords[:, 1] + d) * rows / tissue.height_l0, 0, rows) for d in (0.0, side_l0)
    )
    inside = (
        _bilinear(integral, y1, x1)
        - _bilinear(integral, y0, x1)
        - _bilinear(integral, y1, x0)
        + _bilinear(integral, y0, x0)
    )
    area = np.maximum((x1 - x0) * (y1 - y0), 1e-12)
    fractions: Float64[np.ndarray, " tile"] = np.clip(inside / area, 0.0, 1.0)
    return fractions


def _bilinear(
    image: Float64[np.ndarray, "row col"],
    y: Float64[np.ndarray, " point"],
    x: Float64[np.ndarray, " point"],
) -> Float64[np.ndarray, " point"]:
    row = np.minimum(y.astype(np.int64), image.shape[0] - 2)
    col = np.minimum(x.astype(np.int64), image.shape[1] - 2)
    dy, dx = y - row, x - col
    top = image[row, col] * (1 - dx) + image[row, col + 1] * dx
    bottom = image[row + 1, col] * (1 - dx) + image[row + 1, col + 1] * dx
    result: Float64[np.ndarray, " point"] = top * (1 - dy) + bottom * dy
    return result


def make_grid(info: SlideInfo, settings: GridSettings, *, tissue: TissueMask | None) -> TileGrid:
    """The kept tiles of a slide; with ``tissue=None`` every tile of the lattice is kept.

    Raises:
        SlideError: the slide is smaller than one tile, coarser than the target, or holds too
            little tissue.
    """
    plan = plan_reading(info, settings)
    coords, side_l0 = lattice(info, settings, plan=plan)
    if len(coords) == 0:
        raise SlideError(
            f"the slide ({info.width_l0} × {info.height_l0} px at level 0) is smaller than "
            f"one tile ({side_l0:.0f} px); choose a smaller --tile-px or --target-mpp",
            stage="grid",
        )
    fractions = (
        np.ones(len(coords))
        if tissue is None
        else tissue_fractions(tissue, coords, side_l0=side_l0)
    )
    kept = (
        fractions >= settings.min_tissue if tissue is not None else np.ones(len(coords), dtype=bool)
    )
    if not kept.any():
        raise SlideError(
            f"no tissue found: no tile holds ≥ {settings.min_tissue:.0%} tissue "
            f"(best: {fractions.max():.0%}); lower --min-tissue, "
            "or look at the slide with --overviews DIR",
            stage="tissue",
        )
    return TileGrid(
        coords=coords[kept],
        tissue=fractions[kept],
        tile_px=settings.tile_px,
        side_l0=side_l0,
        plan=plan,
        n_candidates=len(coords),
    )
