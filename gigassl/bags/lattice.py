"""Lattice: which cell of a regular grid each tile of a bag lies in, exact or inferred."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from gigassl.bags.bag import Bag
from gigassl.bags.info import BagInfo
from gigassl.errors import SlideError
from gigassl.tiles.turns import Shape

TOLERANCE = 0.02
"""How far a tile may lie off its cell, as a share of the step: origins are rounded."""

_LEAST_TOLERANCE_L0 = 1.5
# chance meetings of tiles that lie on different grids are rarer than neighbours
_SMALL_GAP = 0.05

Axis = Float64[np.ndarray, " tile"]


@dataclass(frozen=True, kw_only=True)
class TileCells:
    """Where the tiles of a bag lie on the grid of their slide.

    Attributes:
        cells: (row, column) of each tile.
        shape: rows and columns of the slide's grid; up to the last tile where the size of the
            slide is not known.
        origin_l0: (x, y) of the top-left corner of cell (0, 0), level-0 px.
        step_l0: distance of neighbouring cells in level-0 px, not rounded.
    """

    cells: Int64[np.ndarray, "tile 2"]
    shape: Shape
    origin_l0: tuple[float, float]
    step_l0: float


def tile_cells(bag: Bag) -> TileCells:
    """Finds the cells of a bag's tiles.

    Bags of ours say their step; that of other tools' is what they say, corrected by where the tiles
    lie, or else inferred from neighbours.

    Raises:
        SlideError: tiles overlap though nothing says so, lie on no common grid or in one cell, or
            there are too few to tell.
    """
    corners, said = bag.coords.astype(np.float64), _said_step(bag.info)
    if bag.info.layout == "gigassl" and said is not None:
        found = _exact(corners, said)
    else:
        gaps = _neighbour_gaps(corners)
        _refuse_overlap(gaps, said=said)
        found = _fitted(corners, _close_step(gaps, said or _small_gap(gaps, len(corners))))
    _refuse_off_grid(corners, found)
    _refuse_shared_cells(found)
    return _with_shape(found, bag.info)


def _said_step(info: BagInfo) -> float | None:
    if info.side_l0 is None:
        return None
    if not (info.overlap_px and info.tile_px):
        return info.side_l0
    return info.side_l0 * (info.tile_px - info.overlap_px) / info.tile_px


def _exact(corners: Float64[np.ndarray, "tile 2"], step: float) -> TileCells:
    cells = np.rint(corners[:, ::-1] / step).astype(np.int64)
    return TileCells(cells=cells, shape=(0, 0), origin_l0=(0.0, 0.0), step_l0=step)


def _fitted(corners: Float64[np.ndarray, "tile 2"], step: float) -> TileCells:
    """Least squares of all corners on one step and an origin for each axis."""
    index = np.stack([_indices(corners[:, axis], step) for axis in (0, 1)], axis=1)
    from_mean = index - index.mean(axis=0)
    if from_mean.any():
        step = float((from_mean * corners).sum() / (from_mean**2).sum())
    first = (corners - index * step).mean(axis=0)
    # cells are counted from the slide's edge, not from the first tile
    before = np.floor((first + _tolerance(step)) / step)
    x, y = (first - before * step).tolist()
    cells = (index + before).astype(np.int64)[:, ::-1]
    return TileCells(
        cells=np.ascontiguousarray(cells), shape=(0, 0), origin_l0=(x, y), step_l0=step
    )


def _refuse_overlap(gaps: Float64[np.ndarray, " gap"], *, said: float | None) -> None:
    if said is not None and gaps.size and gaps.min() < said - _tolerance(said):
        raise _problem(
            f"its tiles overlap: by its file they are {said:.0f} px apart, and some lie "
            f"{gaps.min():.0f} px apart; encode the slide with `gigassl encode`"
        )


def _small_gap(gaps: Float64[np.ndarray, " gap"], n_tiles: int) -> float:
    """About the distance of neighbours, where the file does not say it."""
    if not gaps.size:
        raise _problem(
            f"its file does not say how far its {n_tiles} tiles lie apart, and no two of them "
            "lie in one row or column; encode the slide with `gigassl encode`"
        )
    return float(np.quantile(gaps, _SMALL_GAP, method="lower"))


def _close_step(gaps: Float64[np.ndarray, " gap"], step: float) -> float:
    """The mean distance of neighbours: rounded origins lie a pixel nearer or farther."""
    close = gaps[np.rint(gaps / step) == 1]
    return float(close.mean()) if close.size else step


def _neighbour_gaps(corners: Float64[np.ndarray, "tile 2"]) -> Float64[np.ndarray, " gap"]:
    """Distances of each tile from the next one of its row, and of its column."""
    found = []
    for along, across in ((0, 1), (1, 0)):
        order = np.lexsort((corners[:, along], corners[:, across]))
        steps = np.diff(corners[order], axis=0)
        found.append(steps[steps[:, across] == 0, along])
    gaps = np.concatenate(found)
    return gaps[gaps > 0]


def _indices(values: Axis, step: float) -> Axis:
    """Steps of each value from the least one, from gap to gap, so that no error adds up."""
    known, where = np.unique(values, return_inverse=True)
    index = np.concatenate([[0.0], np.cumsum(np.rint(np.diff(known) / step))])
    found: Axis = index[where]
    return found


def _tolerance(step: float) -> float:
    return min(max(_LEAST_TOLERANCE_L0, TOLERANCE * step), step / 4)


def _refuse_off_grid(corners: Float64[np.ndarray, "tile 2"], found: TileCells) -> None:
    wanted = found.cells[:, ::-1] * found.step_l0 + np.array(found.origin_l0)
    off = np.abs(corners - wanted).max(axis=1)
    worst = int(off.argmax())
    if off[worst] > _tolerance(found.step_l0):
        x, y = corners[worst]
        raise _problem(
            f"its tiles lie on no common grid: with {found.step_l0:.1f} px from tile to tile, the "
            f"one at ({x:.0f}, {y:.0f}) is {off[worst]:.1f} px off; encode the slide with "
            "`gigassl encode`"
        )


def _refuse_shared_cells(found: TileCells) -> None:
    unique, count = np.unique(found.cells, axis=0, return_counts=True)
    if len(unique) < len(found.cells):
        row, col = unique[count.argmax()]
        raise _problem(
            f"{count.max()} tiles lie in one cell of its grid (row {row}, column {col}); "
            "encode the slide with `gigassl encode`"
        )


def _with_shape(found: TileCells, info: BagInfo) -> TileCells:
    if (found.cells < 0).any():
        raise _problem("tiles lie outside of the slide; encode the slide with `gigassl encode`")
    rows, cols = (int(n) + 1 for n in found.cells.max(axis=0))
    side = info.side_l0 or found.step_l0
    x, y = found.origin_l0
    shape = (
        max(rows, _count(info.height_l0, first=y, step=found.step_l0, side=side)),
        max(cols, _count(info.width_l0, first=x, step=found.step_l0, side=side)),
    )
    return TileCells(
        cells=found.cells, shape=shape, origin_l0=found.origin_l0, step_l0=found.step_l0
    )


def _count(length_l0: int | None, *, first: float, step: float, side: float) -> int:
    """Whole tiles along a slide; 0 where its size is not known."""
    if length_l0 is None:
        return 0
    return int(np.floor((length_l0 - first - side) / step + 1e-6)) + 1


def _problem(reason: str) -> SlideError:
    return SlideError(reason, stage="grid")
