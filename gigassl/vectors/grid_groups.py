"""Grid groups: compressed slides as groups of rows of a tile store, one a turned variant."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64

from gigassl.bags.bag import Bag
from gigassl.bags.lattice import TileCells, tile_cells
from gigassl.errors import SettingsError, SlideError
from gigassl.tiles.turns import N_VARIANTS, turned_cells, turned_shape


@dataclass(frozen=True, kw_only=True)
class GridGroups:
    """Where the tiles of some slides lie, in each of their variants.

    Attributes:
        cells: (row, column) of each tile: slide after slide, variant after variant.
        coords: (x, y) of each tile in level-0 px: as stored in variant 0, on the grid of the turned
            slide in the others.
        shapes: rows and columns of each variant's grid.
    """

    cells: Int32[np.ndarray, "row 2"]
    coords: Int64[np.ndarray, "row 2"]
    shapes: Int64[np.ndarray, "slide variant 2"]


def grid_groups(bags: Sequence[Bag]) -> GridGroups:
    """The groups of some bags: eight of each where all hold the variants, one where none does.

    Raises:
        SettingsError: some hold them and others do not, or the tiles of one lie on no grid.
    """
    n_variants = _n_variants(bags)
    cells, coords, shapes = list[np.ndarray](), list[np.ndarray](), list[list[tuple[int, int]]]()
    for bag in bags:
        found = _cells_of(bag)
        turned = [
            turned_cells(found.cells, variant, shape=found.shape) for variant in range(n_variants)
        ]
        cells += turned
        coords += [bag.coords, *(_corners(each, found) for each in turned[1:])]
        shapes.append([turned_shape(found.shape, variant) for variant in range(n_variants)])
    return GridGroups(
        cells=np.concatenate(cells).astype(np.int32),
        coords=np.concatenate(coords),
        shapes=np.array(shapes, dtype=np.int64),
    )


def _n_variants(bags: Sequence[Bag]) -> int:
    with_them, without = (
        [bag.info.slide_id for bag in bags if (bag.variants is not None) == held]
        for held in (True, False)
    )
    if with_them and without:
        raise SettingsError(
            f"the bags of {len(with_them)} slides hold turned variants, those of {len(without)} do "
            f"not (first '{without[0]}'); encode them all with `gigassl encode --variants`"
        )
    return N_VARIANTS if with_them else 1


def _cells_of(bag: Bag) -> TileCells:
    try:
        return tile_cells(bag)
    except SlideError as error:
        raise SettingsError(
            f"slide '{bag.info.slide_id}' is no image of features: {error.reason}"
        ) from error


def _corners(cells: Int64[np.ndarray, "tile 2"], found: TileCells) -> Int64[np.ndarray, "tile 2"]:
    corners: Int64[np.ndarray, "tile 2"] = np.rint(cells[:, ::-1] * found.step_l0).astype(np.int64)
    return corners
