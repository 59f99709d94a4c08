"""Neighbours: pairs of cells some steps apart, and sums over them, for all bags at once."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from gigassl.vectors.cells import Cells, cells_of_tiles, mean_in_cells
from gigassl.vectors.packed import PackedTiles


def on_grid(tiles: PackedTiles, *, cell: float) -> tuple[Float[Tensor, "cell dim"], Cells]:
    """The mean feature of the tiles of each cell, and where the cells lie.

    Args:
        tiles: tiles of many bags.
        cell: side of a cell in the unit of the coordinates.
    """
    cells, cell_of = cells_of_tiles(tiles, cell=cell, rounding="nearest")
    return mean_in_cells(tiles.features, cell_of, n_cells=len(cells)), cells


def pairs_at(cells: Cells, *, lag: int) -> tuple[Int64[Tensor, " pair"], Int64[Tensor, " pair"]]:
    """All pairs of cells ``lag`` steps apart along rows, columns or diagonals, each pair once.

    Returns:
        The rows of the one and of the other cell of each pair.
    """
    # an empty margin as wide as the lag keeps rows, columns and bags apart
    side = cells.xy.amax() + 1 + lag
    keys = (cells.bag * side + cells.xy[:, 0]) * side + cells.xy[:, 1]
    one, other = [], []
    for step in (1, side, side + 1, side - 1):
        wanted = keys + lag * step
        found = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        here = (keys[found] == wanted).nonzero().squeeze(1)
        one.append(here)
        other.append(found[here])
    return torch.cat(one), torch.cat(other)


def neighbour_sum(
    values: Float[Tensor, "cell dim"],
    pairs: tuple[Int64[Tensor, " pair"], Int64[Tensor, " pair"]],
) -> Float[Tensor, "cell dim"]:
    """For each cell the sum of the values of the cells it is paired with."""
    one, other = pairs
    total = torch.zeros_like(values)
    return total.index_add(0, one, values[other]).index_add(0, other, values[one])


def lag_covariance(
    values: Float[Tensor, "cell dim"], cells: Cells, *, lag: int,
    by_chance: Float[Tensor, "bag dim dim"] | None = None,
) -> Float[Tensor, "bag dim dim"]:  # fmt: skip
    """Mean outer product of the values of two cells at that lag, each pair met from both sides.

    Args:
        values: of mean zero in each bag.
        by_chance: what is taken away, where given.

    Returns:
        Symmetric matrices; zero for a bag without a pair.
    """
    pairs = pairs_at(cells, lag=lag)
    total = torch.bmm(_padded(values, cells).mT, _padded(neighbour_sum(values, pairs), cells))
    met = 2 * torch.bincount(cells.bag[pairs[0]], minlength=cells.n_bags)[:, None, None]
    mean = total / met.clamp(min=1).to(total.dtype)
    return mean if by_chance is None else torch.where(met > 0, mean - by_chance, 0.0)


def bag_covariance(values: Float[Tensor, "cell dim"], cells: Cells) -> Float[Tensor, "bag dim dim"]:
    """Mean outer product of the values of a cell with themselves; values of mean zero in bags."""
    rows = _padded(values, cells)
    count = torch.bincount(cells.bag, minlength=cells.n_bags)[:, None, None]
    return torch.bmm(rows.mT, rows) / count.to(rows.dtype)


def upper_triangles(matrices: Float[Tensor, "bag dim dim"]) -> Float[Tensor, "bag half"]:
    """The diagonal and what lies above it, row by row."""
    row, column = torch.triu_indices(*matrices.shape[1:], device=matrices.device)
    return matrices[:, row, column]


def _padded(values: Float[Tensor, "cell dim"], cells: Cells) -> Float[Tensor, "bag most dim"]:
    """The cells of each bag in a row of their own, zeros behind them."""
    count = torch.bincount(cells.bag, minlength=cells.n_bags)
    most = int(count.max())
    first = count.cumsum(0) - count
    place = cells.bag * most + torch.arange(len(cells), device=cells.bag.device) - first[cells.bag]
    rows = values.new_zeros(cells.n_bags * most, values.shape[1]).index_copy(0, place, values)
    return rows.view(cells.n_bags, most, -1)
