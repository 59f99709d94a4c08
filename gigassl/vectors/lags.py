"""Lag covariances: the free spatial baseline, how features of neighbouring tiles go together."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gigassl.vectors.neighbours import lag_covariance, on_grid, upper_triangles
from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.whitening import Whitening, standardised_in_bags


class LagCovariances(nn.Module):
    """Covariances of whitened features, standardised in each bag, between cells at a lag.

    For each lag the pairs along rows, columns and diagonals are averaged, in both directions, so
    the vector does not change when the slide is turned by 90° or mirrored. Nothing is learned; a
    multivariate Moran's I (Wartenberg, Geographical Analysis 1985).

    Args:
        dim: width of the tile features.
        cell: side of a cell in the unit of the coordinates, best the side of a tile.
        components: principal components that are kept.
        lags: distances in cells.
    """

    def __init__(
        self, *, dim: int, cell: float, components: int = 24, lags: tuple[int, ...] = (1, 2, 3)
    ) -> None:
        super().__init__()
        self.whitening = Whitening(dim=dim, kept=components)
        self.cell = cell
        self.lags = tuple(lags)
        kept = self.whitening.width
        self.width = len(self.lags) * kept * (kept + 1) // 2

    def prepare(self, features: Float[Tensor, "row dim"]) -> None:
        """Fits the principal components on a sample of tile features."""
        self.whitening.prepare(features)

    def forward(self, tiles: PackedTiles) -> Float[Tensor, "bag width"]:
        """The upper triangles of the covariances, lag behind lag; 0 where a bag has no pair."""
        features, cells = on_grid(tiles, cell=self.cell)
        values = self.whitening(features)
        values = standardised_in_bags(values, cells.bag, n_bags=cells.n_bags)
        found = [lag_covariance(values, cells, lag=lag) for lag in self.lags]
        return torch.cat([upper_triangles(each) for each in found], dim=1)
