"""DSMIL: the most telling tile of a bag, and every tile by its likeness to that one."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from gigassl.evaluate.mil.packed import PackedBags, pooled, softmax_in_bags
from gigassl.evaluate.mil.pooling import layers
from gigassl.evaluate.mil.reading import Reading


class DualStream(nn.Module):
    """Two streams, averaged: the critical tile alone, and the tiles weighed by it: ``dsmil``.

    Li, Li and Eliceiri, Dual-stream Multiple Instance Learning Network (arXiv 2011.08939). The
    critical tile is the one with the highest score of an output; attention is the softmax of each
    tile's query times the critical tile's, over the root of their length. Queries have two layers,
    values one, as in the authors' code. Each output has a critical tile and a vector of its own;
    here each has a linear layer of its own on that vector (the authors: one convolution over the
    vectors of all classes, which is the same for a single output).

    Args:
        dim: width of the tile features.
        outputs: numbers said of a bag.
        embed: widths of layers on each tile before both streams; none in the paper.
        hidden: length of a query.
        dropout: on the values.
    """

    def __init__(
        self, *, dim: int, outputs: int, embed: Sequence[int] = (), hidden: int = 128,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        width = [dim, *embed][-1]
        self.embed = layers(dim, embed, dropout=dropout)
        self.instances = nn.Linear(width, outputs)
        self.query = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.Tanh()
        )
        self.value = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, width), nn.ReLU())
        self.head = nn.ModuleList(nn.Linear(width, 1) for _ in range(outputs))

    def forward(self, bags: PackedBags) -> Reading:
        """What both streams say of each bag, and their mean."""
        embedded = self.embed(bags.features)
        said = self.instances(embedded)
        critical = critical_rows(said, bags)
        value, query = self.value(embedded), self.query(embedded)
        of_bag = []
        for output, head in enumerate(self.head):
            weights = self._weights(query, critical[:, output], bags)
            of_bag.append(head(pooled(weights, value))[:, 0])
        of_tile = said.gather(0, critical).float()
        first, second = of_tile, torch.stack(of_bag, dim=1).float()
        return Reading(scores=(first + second) / 2, streams=(first, second))

    def weights(self, bags: PackedBags, *, output: int = 0) -> Float32[Tensor, " tile"]:
        """Weight of each tile in its bag for one output; those of a bag sum to one."""
        embedded = self.embed(bags.features)
        critical = critical_rows(self.instances(embedded), bags)[:, output]
        table = self._weights(self.query(embedded), critical, bags)
        return table.sum(dim=0)[: bags.n_tiles]

    def _weights(
        self, query: Float[Tensor, "row hidden"], critical: Int64[Tensor, " bag"], bags: PackedBags
    ) -> Float32[Tensor, "bag row"]:
        # each row against the critical tile of its own bag; rows that pad meet any, and weigh 0
        asked = query[critical][bags.bag]
        likeness = (query * asked).float().sum(dim=1) / query.shape[1] ** 0.5
        return softmax_in_bags(likeness, bags)


def critical_rows(
    scores: Float[Tensor, "row output"], bags: PackedBags
) -> Int64[Tensor, "bag output"]:
    """The row with the highest score of each output in each bag; the first one of equals."""
    rows, first = [], 0
    for tiles in bags.split(scores.detach()):
        rows.append(tiles.argmax(dim=0) + first)
        first += len(tiles)
    return torch.stack(rows)
