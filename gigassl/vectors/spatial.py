"""Spatial slide encoder: which tiles lie beside which, apart from which tiles there are.

Two streams. *Composition* is frozen: mean and standard deviation of the tile features.
*Arrangement* is learned: a small network looks at each tile, standardised within its slide, and
the vector holds how its outputs go together between neighbours, lag by lag: lag covariances of
learned features. What shuffled tiles would give on average is known in closed form and taken
away, so that this stream is zero, on average, for whatever does not depend on position.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gigassl.vectors.cells import Cells
from gigassl.vectors.neighbours import bag_covariance, lag_covariance, on_grid, upper_triangles
from gigassl.vectors.packed import PackedTiles, mean_of_bags
from gigassl.vectors.whitening import Whitening, standardised_in_bags


class SpatialEncoder(nn.Module):
    """Composition and learned arrangement of the tiles of a slide.

    With z the learned features of a cell, standardised over the n cells of a bag, the arrangement
    stream holds, for each lag, mean(z_i z_jᵀ) over the pairs (i, j) at that lag, plus
    mean(z_i z_iᵀ) / (n - 1): minus the mean of the first over all permutations of the cells
    (Moran, Biometrika 1950; for several features Wartenberg, Geographical Analysis 1985).

    Args:
        dim: width of the tile features.
        cell: side of a cell in the unit of the coordinates, best the side of a tile.
        components: principal components of the tile features that are kept.
        hidden: width of the network's hidden layer.
        features: learned features of a tile.
        lags: distances in cells at which neighbours are compared.

    Attributes:
        composition_width: length of the first stream, so that a probe can weigh the two.
    """

    def __init__(
        self, *, dim: int, cell: float, components: int = 64, hidden: int = 256,
        features: int = 16, lags: tuple[int, ...] = (1, 2, 3),
    ) -> None:  # fmt: skip
        super().__init__()
        self.cell = cell
        self.lags = tuple(lags)
        self.whitening = Whitening(dim=dim, kept=components)
        kept = self.whitening.width
        self.tile = nn.Sequential(
            nn.Linear(kept, hidden), nn.GELU(), nn.LayerNorm(hidden), nn.Linear(hidden, features)
        )
        self.composition_width = 2 * dim
        self.width = 2 * dim + len(self.lags) * features * (features + 1) // 2

    def prepare(self, features: Float[Tensor, "row dim"]) -> None:
        """Fits the whitening on a sample of tile features."""
        self.whitening.prepare(features)

    def forward(self, tiles: PackedTiles) -> Float[Tensor, "bag width"]:
        """Composition, then arrangement."""
        return torch.cat([self.composition(tiles), self.learned(tiles)], dim=1)

    def composition(self, tiles: PackedTiles) -> Float[Tensor, "bag twice"]:
        """Mean, counted from the mean of the sample, and standard deviation of the features.

        Both in units of the sample's root mean square deviation.
        """
        values = self.whitening.centred(tiles.features)
        mean = mean_of_bags(values, tiles.bag, n_bags=tiles.n_bags)
        square = (values - mean[tiles.bag]).square()
        variance = mean_of_bags(square, tiles.bag, n_bags=tiles.n_bags)
        # the root's slope at zero is infinite, and would be the gradient of a feature that is
        # the same in all tiles
        varies = variance > 0
        return torch.cat([mean, torch.where(varies, variance, 1.0).sqrt() * varies], dim=1)

    def learned(self, tiles: PackedTiles) -> Float[Tensor, "bag arrangement"]:
        """Arrangement, lag behind lag; zero for a bag without neighbours."""
        values, cells = self.tile_features(tiles)
        values = standardised_in_bags(values, cells.bag, n_bags=cells.n_bags)
        n_cells = torch.bincount(cells.bag, minlength=cells.n_bags)
        by_chance = -bag_covariance(values, cells) / (n_cells - 1).clamp(min=1)[:, None, None]
        found = [lag_covariance(values, cells, lag=lag, by_chance=by_chance) for lag in self.lags]
        return torch.cat([upper_triangles(each) for each in found], dim=1)

    def tile_features(self, tiles: PackedTiles) -> tuple[Float[Tensor, "cell features"], Cells]:
        """The learned features of each cell, of mean zero in each bag, and where the cells lie."""
        features, cells = on_grid(tiles, cell=self.cell)
        own = standardised_in_bags(self.whitening(features), cells.bag, n_bags=cells.n_bags)
        values: Tensor = self.tile(own)
        return values - mean_of_bags(values, cells.bag, n_bags=cells.n_bags)[cells.bag], cells
