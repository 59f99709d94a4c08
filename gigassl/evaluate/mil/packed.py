"""Packed bags: the tiles of several bags in a row, padded to a height that products like."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

OUTSIDE = -1
"""Number of the bag of rows that only pad."""


@dataclass(frozen=True, kw_only=True)
class PackedBags:
    """Tiles of some bags behind one another, and then rows that belong to none.

    Attributes:
        features: one row a tile; zeros in rows that only pad.
        bag: which bag each row belongs to, ascending; ``OUTSIDE`` for those that pad.
        sizes: number of tiles of each bag, at least one.
        cells: (row, column) of each tile in its crop, where a bag is one; without rows that pad.
    """

    features: Float[Tensor, "row dim"]
    bag: Int64[Tensor, " row"]
    sizes: tuple[int, ...]
    cells: Int64[Tensor, "tile 2"] | None = None

    @cached_property
    def member(self) -> Bool[Tensor, "bag row"]:
        """Which rows belong to which bag."""
        return self.bag == torch.arange(len(self.sizes), device=self.bag.device)[:, None]

    @cached_property
    def n_tiles(self) -> int:
        """Number of rows that belong to a bag."""
        return sum(self.sizes)

    def split(self, rows: Float[Tensor, "row width"]) -> tuple[Float[Tensor, "tile width"], ...]:
        """The rows of each bag."""
        return torch.split(rows[: self.n_tiles], list(self.sizes))


def packed_bags(bags: list[Float[Tensor, "_ dim"]], *, height: int | None = None) -> PackedBags:
    """Bags as they are, one behind the other in float32.

    Args:
        bags: features of each bag.
        height: number of rows, at least that of the tiles; ``padded_height`` of it by default.
    """
    sizes = tuple(len(tiles) for tiles in bags)
    n_tiles = sum(sizes)
    height = height or padded_height(n_tiles)
    features = torch.zeros(height, bags[0].shape[1], device=bags[0].device)
    first = 0
    for tiles in bags:
        features[first : first + len(tiles)] = tiles  # float16 becomes float32 on the way
        first += len(tiles)
    numbers = torch.tensor([*range(len(bags)), OUTSIDE])
    lengths = torch.tensor([*sizes, height - n_tiles])
    return PackedBags(
        features=features,
        bag=numbers.repeat_interleave(lengths).to(features.device),
        sizes=sizes,
    )


def padded_height(n_rows: int) -> int:
    """The next multiple of 64, or of a sixteenth of the power of two below, if that is more.

    oneDNN keeps a plan, and memory for it, for every height of matrix that it meets: so there are
    16 heights between a number of rows and its double, and 3 % of the rows pad on average.

    >>> padded_height(1), padded_height(1000), padded_height(10_000)
    (64, 1024, 10240)
    """
    step = max(64, 1 << max(0, n_rows.bit_length() - 5))
    return -(-n_rows // step) * step


def softmax_in_bags(scores: Float[Tensor, " row"], bags: PackedBags) -> Float32[Tensor, "bag row"]:
    """Softmax over the tiles of each bag, in float32; 0 for rows of other bags.

    A table of bags × rows: with it, the pooling of a batch is one matrix product, which beats sums
    by index on a CPU and adds in the same order every time on a GPU.
    """
    return scores.float().masked_fill(~bags.member, -torch.inf).softmax(dim=1)


def pooled(
    weights: Float32[Tensor, "bag row"], rows: Float[Tensor, "row width"]
) -> Float32[Tensor, "bag width"]:
    """Weighted sum of the rows, in float32: long bags lose digits in half precision."""
    with torch.autocast(rows.device.type, enabled=False):
        return weights @ rows.float()


def mean_in_bags(
    rows: Float[Tensor, "row width"], bags: PackedBags
) -> Float32[Tensor, "bag width"]:
    """Mean of the rows of each bag."""
    member = bags.member.float()
    return pooled(member / member.sum(dim=1, keepdim=True), rows)


def max_in_bags(rows: Float[Tensor, "row width"], bags: PackedBags) -> Float32[Tensor, "bag width"]:
    """Largest value of each column in each bag."""
    return torch.stack([tiles.amax(dim=0) for tiles in bags.split(rows)]).float()
