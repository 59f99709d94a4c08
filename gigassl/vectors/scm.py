"""The slide encoder of Giga-SSL: ResNet18's last stage as a sparse convolution over tiles."""

from jaxtyping import Float
from torch import Tensor, nn

from gigassl.vectors.cells import KernelMap, Rounding, cells_of_tiles, mean_in_cells, neighbours
from gigassl.vectors.cells import strided as strided_map
from gigassl.vectors.packed import PackedTiles, mean_of_bags
from gigassl.vectors.sparse import SparseConv2d, average


class SparseConvEncoder(nn.Module):
    """A strided and a plain residual block on the cells of each bag, then the mean over cells.

    Giga-SSL (arXiv 2212.03273), written from its description; 8,393,728 parameters at its widths
    of 256 and 512. Tiles in one cell are averaged first. The grid of each bag has an extent of
    its own, so a vector does not depend on what else is in the batch.

    Args:
        dim: width of the tile features.
        cell: side of a grid cell in the unit of the coordinates.
        width: length of the vectors.
        rounding: which cell a tile lies in, see ``cells_of_tiles``.
    """

    def __init__(
        self, *, dim: int, cell: float, width: int = 512, rounding: Rounding = "nearest"
    ) -> None:
        super().__init__()
        self.cell, self.width = cell, width
        self.rounding: Rounding = rounding
        self.blocks = nn.ModuleList([StridedBlock(dim, width), PlainBlock(width)])

    def forward(self, tiles: PackedTiles) -> Float[Tensor, "bag width"]:
        """One vector a bag."""
        cells, cell_of = cells_of_tiles(tiles, cell=self.cell, rounding=self.rounding)
        rows = mean_in_cells(tiles.features, cell_of, n_cells=len(cells))
        out_cells, down = strided_map(cells)
        around = neighbours(out_cells)
        rows = self.blocks[0](rows, down=down, around=around)
        rows = self.blocks[1](rows, around=around)
        return mean_of_bags(rows, out_cells.bag, n_bags=tiles.n_bags)


class StridedBlock(nn.Module):
    """Residual block that halves the grid; its shortcut is an average pool and a 1 × 1 layer."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = SparseConv2d(dim, width), nn.BatchNorm1d(width)
        self.conv2, self.norm2 = SparseConv2d(width, width), nn.BatchNorm1d(width)
        self.skip, self.skip_norm = nn.Linear(dim, width, bias=False), nn.BatchNorm1d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(
        self, rows: Float[Tensor, "cell dim"], *, down: KernelMap, around: KernelMap
    ) -> Float[Tensor, "out width"]:
        """Output cells of input cells."""
        inner = self.relu(self.norm1(self.conv1(rows, down)))
        inner = self.norm2(self.conv2(inner, around))
        short = self.skip_norm(self.skip(average(rows, down)))
        out: Tensor = self.relu(inner + short)
        return out


class PlainBlock(nn.Module):
    """Residual block on one grid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = SparseConv2d(width, width), nn.BatchNorm1d(width)
        self.conv2, self.norm2 = SparseConv2d(width, width), nn.BatchNorm1d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(
        self, rows: Float[Tensor, "cell width"], *, around: KernelMap
    ) -> Float[Tensor, "cell width"]:
        """Cells after the block."""
        inner = self.relu(self.norm1(self.conv1(rows, around)))
        inner = self.norm2(self.conv2(inner, around))
        out: Tensor = self.relu(inner + rows)
        return out
