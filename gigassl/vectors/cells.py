"""Cells: the active cells of many bags on their sparse grids, and which cells see which."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from gigassl.vectors.packed import PackedTiles

Rounding = Literal["nearest", "down"]

# offsets of a 3 × 3 window, (dx, dy) row by row of x; number 4 is the centre
WINDOW = tuple((dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1))
CENTRE = 4
# published grids are compared as float32 after a division: what lies a hair below a cell is in it
_HAIR = 1e-4


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Active cells of ``n_bags`` bags, sorted by bag, then x, then y; each bag's begin at (0, 0).

    Attributes:
        xy: position of each cell.
        bag: which bag it belongs to; every bag has at least one cell.
        n_bags: number of bags.
    """

    xy: Int64[Tensor, "cell 2"]
    bag: Int64[Tensor, " cell"]
    n_bags: int

    def __len__(self) -> int:
        return len(self.bag)


@dataclass(frozen=True, kw_only=True)
class KernelMap:
    """Which input cell feeds which output cell through which position of the filter.

    Attributes:
        source, target: for each position, input and output cells of its pairs; no cell twice
            in one list.
        identity: the position that feeds every cell to itself, whose lists stay empty; or None.
        n_in, n_out: number of input and output cells.
    """

    source: tuple[Int64[Tensor, " _"], ...]
    target: tuple[Int64[Tensor, " _"], ...]
    identity: int | None
    n_in: int
    n_out: int

    @property
    def n_pairs(self) -> int:
        """Number of (input, output) pairs, each one product with a filter matrix."""
        own = 0 if self.identity is None else self.n_in
        return own + sum(len(pairs) for pairs in self.source)


def cells_of_tiles(
    tiles: PackedTiles, *, cell: float, rounding: Rounding
) -> tuple[Cells, Int64[Tensor, " tile"]]:
    """The cells that tiles lie in, and each tile's cell.

    Coordinates count from the smallest of each bag, so a bag may be shifted as a whole.

    Args:
        tiles: tiles of many bags.
        cell: side of a cell in the unit of the coordinates.
        rounding: a tile lies in the cell whose corner is "nearest" (grids whose steps are not
            exact), or that its corner lies in ("down": as published).
    """
    index = tiles.bag[:, None].expand(-1, 2)
    low = tiles.coords.new_zeros(tiles.n_bags, 2)
    low = low.scatter_reduce(0, index, tiles.coords, "amin", include_self=False)
    steps = (tiles.coords - low[tiles.bag]) / cell
    xy = (steps + (0.5 if rounding == "nearest" else _HAIR)).floor().long()
    return _distinct(xy, tiles.bag, n_bags=tiles.n_bags)


def _distinct(
    xy: Int64[Tensor, "entry 2"], bag: Int64[Tensor, " entry"], *, n_bags: int
) -> tuple[Cells, Int64[Tensor, " entry"]]:
    """The distinct cells of a list, sorted, and each entry's cell."""
    keys = _keys(xy, bag)
    in_order, order = keys.sort()
    is_new = torch.ones_like(in_order, dtype=torch.bool)
    is_new[1:] = in_order[1:] != in_order[:-1]
    cell_of = torch.empty_like(order)
    cell_of[order] = is_new.cumsum(0) - 1
    first = order[is_new]
    return Cells(xy=xy[first], bag=bag[first], n_bags=n_bags), cell_of


def _keys(xy: Int64[Tensor, "entry 2"], bag: Int64[Tensor, " entry"]) -> Int64[Tensor, " entry"]:
    """One number a cell, in the order of cells, with room on all sides: neighbours never wrap."""
    return (bag * _side(xy) + xy[:, 0] + 1) * _side(xy) + xy[:, 1] + 1


def _side(xy: Int64[Tensor, "entry 2"]) -> Int64[Tensor, ""]:
    return xy.amax() + 3


def mean_in_cells(
    values: Float[Tensor, "tile dim"], cell_of: Int64[Tensor, " tile"], *, n_cells: int
) -> Float[Tensor, "cell dim"]:
    """Mean of the tiles of each cell."""
    total = values.new_zeros(n_cells, values.shape[1]).index_add(0, cell_of, values)
    if n_cells == len(values):
        return total
    count = torch.bincount(cell_of, minlength=n_cells)
    return total / count[:, None].to(total.dtype)


def neighbours(cells: Cells) -> KernelMap:
    """Pairs of a submanifold 3 × 3 convolution: output cells are the input cells.

    Half of the offsets are searched among the sorted keys, the other half is their mirror image.
    """
    keys, side = _keys(cells.xy, cells.bag), _side(cells.xy)
    half = range(CENTRE + 1, len(WINDOW))
    steps = torch.stack([side * WINDOW[k][0] + WINDOW[k][1] for k in half])
    wanted = keys[None] + steps[:, None]
    at = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
    near, far = _pairs_of(keys[at] == wanted, at)
    nothing = keys.new_empty(0)
    return KernelMap(
        source=(*reversed(near), nothing, *far),
        target=(*reversed(far), nothing, *near),
        identity=CENTRE,
        n_in=len(cells),
        n_out=len(cells),
    )


def _pairs_of(
    hit: Bool[Tensor, "offset cell"], partner: Int64[Tensor, "offset cell"]
) -> tuple[list[Int64[Tensor, " _"]], list[Int64[Tensor, " _"]]]:
    """For each offset the cells that hit, and their partners; one wait for the device in all."""
    offset, cell = hit.nonzero(as_tuple=True)
    counts = torch.bincount(offset, minlength=len(hit)).tolist()
    return list(torch.split(cell, counts)), list(torch.split(partner[offset, cell], counts))


def strided(cells: Cells) -> tuple[Cells, KernelMap]:
    """Output cells and pairs of a 3 × 3 filter at stride 2 without padding.

    Output cell o covers input cells 2o to 2o + 2 on each axis, and is active where one of these
    is. Published networks enlarge the extent of the grid to 3 modulo 4, at least 7, and clip
    windows that reach beyond; here each bag has an extent of its own, so that no other bag
    changes its cells.
    """
    corner = torch.tensor(WINDOW, device=cells.xy.device) + 1  # position in the filter, from 0
    twice = cells.xy[None] - corner[:, None]
    out_xy = twice.div(2, rounding_mode="floor")
    last = (_extent(cells) - 3) // 2
    fits = (twice % 2 == 0) & (out_xy >= 0) & (out_xy <= last[cells.bag])
    position, source = fits.all(dim=2).nonzero(as_tuple=True)
    out, target = _distinct(
        out_xy[position, source], cells.bag[source], n_bags=cells.n_bags
    )  # fmt: skip
    counts = torch.bincount(position, minlength=len(WINDOW)).tolist()
    return out, KernelMap(
        source=torch.split(source, counts),
        target=torch.split(target, counts),
        identity=None,
        n_in=len(cells),
        n_out=len(out),
    )


def _extent(cells: Cells) -> Int64[Tensor, "bag 2"]:
    """Width and height of each bag's grid, each enlarged to 3 modulo 4 and at least 7."""
    bag = cells.bag[:, None].expand(-1, 2)
    size = cells.xy.new_zeros(cells.n_bags, 2).scatter_reduce(0, bag, cells.xy + 1, "amax")
    return (size + (3 - size) % 4).clamp(min=7)
