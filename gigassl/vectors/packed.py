"""Packed tiles: the tiles of many bags (or views) in a row, as slide encoders take them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PackedTiles:
    """Tiles of ``n_bags`` bags behind one another.

    Attributes:
        features: one row a tile.
        coords: (x, y) of each tile's top-left corner, in the unit that the slide encoder declares.
        bag: which bag each tile belongs to; ascending, every bag has at least one tile.
        n_bags: number of bags.
    """

    features: Float[Tensor, "tile dim"]
    coords: Float[Tensor, "tile 2"]
    bag: Int64[Tensor, " tile"]
    n_bags: int

    def __len__(self) -> int:
        return len(self.features)

    def to(self, device: torch.device | str) -> "PackedTiles":
        """The same tiles on another device."""
        return PackedTiles(
            features=self.features.to(device, non_blocking=True),
            coords=self.coords.to(device, non_blocking=True),
            bag=self.bag.to(device, non_blocking=True),
            n_bags=self.n_bags,
        )


def mean_of_bags(
    values: Float[Tensor, "tile dim"], bag: Int64[Tensor, " tile"], *, n_bags: int
) -> Float[Tensor, "bag dim"]:
    """Mean of the rows of each bag."""
    total = values.new_zeros(n_bags, values.shape[1]).index_add(0, bag, values)
    count = torch.bincount(bag, minlength=n_bags).clamp(min=1)
    return total / count[:, None].to(total.dtype)
