"""Attention pooling: a slide encoder that learns how much each tile counts."""

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from gigassl.vectors.packed import PackedTiles


class GatedAttention(nn.Module):
    """Mean of embedded tiles under learned weights that sum to one in each bag: ``abmil``.

    Gated attention of Ilse et al., Attention-based Deep Multiple Instance Learning
    (arXiv 1802.04712, equation 9), after one linear layer with ReLU. Blind to position.

    Args:
        dim: width of the tile features.
        cell: not used; slide encoders share their keywords.
        width: length of the vectors.
        hidden: width of the attention's own layer.
    """

    def __init__(self, *, dim: int, cell: float = 1.0, width: int = 512, hidden: int = 128) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Sequential(nn.Linear(dim, width), nn.ReLU())
        self.content = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)  # a bias would cancel in the softmax

    def forward(self, tiles: PackedTiles) -> Float32[Tensor, "bag width"]:
        """Weighted mean of the embedded tiles of each bag."""
        embedded = self.embed(tiles.features)
        weights = self.weights(embedded, tiles)
        # summed in float32: bags of thousands of tiles lose digits in half precision
        weighted = weights[:, None] * embedded.float()
        sums: Tensor = weighted.new_zeros(tiles.n_bags, self.width)
        return sums.index_add(0, tiles.bag, weighted)

    def weights(
        self, embedded: Float[Tensor, "tile width"], tiles: PackedTiles
    ) -> Float32[Tensor, " tile"]:
        """Weight of each tile in its bag; those of a bag sum to one."""
        gated = gated_content(self.content(embedded), self.gate(embedded))
        return softmax_of_bags(self.score(gated)[:, 0], tiles.bag, n_bags=tiles.n_bags)


def gated_content(
    content: Float[Tensor, "tile hidden"], gate: Float[Tensor, "tile hidden"]
) -> Float[Tensor, "tile hidden"]:
    """What a tile says, as far as its gate lets it through (equation 9 of arXiv 1802.04712)."""
    return torch.tanh(content) * torch.sigmoid(gate)


def softmax_of_bags(
    scores: Float[Tensor, " tile"], bag: Int64[Tensor, " tile"], *, n_bags: int
) -> Float32[Tensor, " tile"]:
    """Softmax over the tiles of each bag, in float32."""
    scores = scores.float()
    # the largest score of each bag becomes 0, so that no exponential overflows
    largest = scores.new_full((n_bags,), -torch.inf)
    largest = largest.scatter_reduce(0, bag, scores.detach(), reduce="amax")
    raised = torch.exp(scores - largest[bag])
    total = raised.new_zeros(n_bags).index_add(0, bag, raised)
    return raised / total[bag]
