"""Slide encoders that are blind to position: the mean of tiles, and of an MLP's output on them."""

from jaxtyping import Float
from torch import Tensor, nn

from gigassl.vectors.packed import PackedTiles, mean_of_bags


class MeanOfTiles(nn.Module):
    """The mean of the tiles' features: the control that every slide encoder has to beat."""

    def __init__(self, *, dim: int, cell: float = 1.0) -> None:
        super().__init__()
        self.width = dim

    def forward(self, tiles: PackedTiles) -> Float[Tensor, "bag dim"]:
        """Mean feature of each bag."""
        return mean_of_bags(tiles.features, tiles.bag, n_bags=tiles.n_bags)


class ResidualMlp(nn.Module):
    """Two residual blocks on each tile, then the mean over tiles: the ``mlp`` of Giga-SSL.

    Democratizing computational pathology (bioRxiv 2023.12.04.569894). 1,056,256 parameters at
    its widths of 256 and 512.
    """

    def __init__(
        self, *, dim: int, cell: float = 1.0, width: int = 512, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.width = width
        self.blocks = nn.Sequential(
            ResidualBlock(dim, width, dropout=dropout), ResidualBlock(width, width, dropout=dropout)
        )

    def forward(self, tiles: PackedTiles) -> Float[Tensor, "bag width"]:
        """Mean over the transformed tiles of each bag."""
        return mean_of_bags(self.blocks(tiles.features), tiles.bag, n_bags=tiles.n_bags)


class ResidualBlock(nn.Module):
    """ReLU of two layers plus a skip; the skip has a layer of its own where widths differ."""

    def __init__(self, dim: int, width: int, *, dropout: float) -> None:
        super().__init__()
        self.first = NormedLinear(dim, width, dropout=dropout, relu=True)
        self.second = NormedLinear(width, width, dropout=dropout, relu=False)
        self.skip = (
            nn.Identity() if dim == width else NormedLinear(dim, width, dropout=dropout, relu=False)
        )
        self.relu = nn.ReLU()

    def forward(self, features: Float[Tensor, "tile dim"]) -> Float[Tensor, "tile width"]:
        """The block's output for each tile."""
        out: Tensor = self.relu(self.second(self.first(features)) + self.skip(features))
        return out


class NormedLinear(nn.Module):
    """Linear → (ReLU) → dropout → batch norm over tiles."""

    def __init__(self, dim: int, width: int, *, dropout: float, relu: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, width)
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, features: Float[Tensor, "tile dim"]) -> Float[Tensor, "tile width"]:
        """The layer's output for each tile."""
        out: Tensor = self.norm(self.dropout(self.relu(self.linear(features))))
        return out
