"""MIL by attention: ABMIL, plain and gated, and CLAM with its clustering of tiles."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from gigassl.evaluate.mil.packed import PackedBags, pooled, softmax_in_bags
from gigassl.evaluate.mil.pooling import layers
from gigassl.evaluate.mil.reading import Clusters, Reading, plain_reading
from gigassl.vectors.attention import gated_content

PICKED = 8
"""Tiles at each end of CLAM's ranking; in bags of fewer than twice that, half of the tiles."""


class Attention(nn.Module):
    """A score of each tile, from one hidden layer.

    Equations 8 and, gated, 9 of Ilse et al. (arXiv 1802.04712).
    """

    def __init__(self, *, width: int, hidden: int, gated: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.content = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden) if gated else None
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(hidden, 1, bias=False)  # a bias would cancel in the softmax

    def forward(self, embedded: Float[Tensor, "row width"]) -> Float[Tensor, " row"]:
        """The score of each row."""
        content = self.content(embedded)
        if self.gate is None:
            hidden = torch.tanh(content)
        else:
            hidden = gated_content(content, self.gate(embedded))
        scores: Tensor = self.score(self.dropout(hidden))[:, 0]
        return scores


class AttentionPooling(nn.Module):
    """Mean of embedded tiles under learned weights, then a linear layer: ``abmil``.

    Ilse et al., Attention-based Deep Multiple Instance Learning (arXiv 1802.04712).

    Args:
        dim: width of the tile features.
        outputs: numbers said of a bag.
        embed: widths of the layers on each tile.
        hidden: width of the attention's own layer.
        gated: whether a second layer gates it: ``gated-abmil``.
        dropout: after each layer on tiles.
    """

    def __init__(
        self, *, dim: int, outputs: int, embed: Sequence[int] = (512,), hidden: int = 128,
        gated: bool = False, dropout: float = 0.25,
    ) -> None:  # fmt: skip
        super().__init__()
        width = [dim, *embed][-1]
        self.embed = layers(dim, embed, dropout=dropout)
        self.attention = Attention(width=width, hidden=hidden, gated=gated)
        self.head = nn.Linear(width, outputs)

    def forward(self, bags: PackedBags) -> Reading:
        """What it says of each bag."""
        embedded = self.embed(bags.features)
        weights = softmax_in_bags(self.attention(embedded), bags)
        return plain_reading(self.head(pooled(weights, embedded)))

    def weights(self, bags: PackedBags) -> Float32[Tensor, " tile"]:
        """Weight of each tile in its bag; those of a bag sum to one."""
        table = softmax_in_bags(self.attention(self.embed(bags.features)), bags)
        return table.sum(dim=0)[: bags.n_tiles]


class Clam(nn.Module):
    """Gated attention whose first and last tiles are told apart by classifiers: ``clam-sb``.

    CLAM with a single attention branch: Lu et al., Data-efficient and weakly supervised
    computational pathology on whole-slide images (arXiv 2004.09666). The small network of the
    paper: 512 wide, 256 in the attention.

    Args:
        dim: width of the tile features.
        outputs: numbers said of a bag.
        classes: of the task; each has a classifier of tiles.
        embed: widths of the layers on each tile.
        hidden: width of the attention's own layer.
        dropout: after each layer on tiles, and in the attention.
    """

    def __init__(
        self, *, dim: int, outputs: int, classes: int, embed: Sequence[int] = (512,),
        hidden: int = 256, dropout: float = 0.25,
    ) -> None:  # fmt: skip
        super().__init__()
        width = [dim, *embed][-1]
        self.classes = classes
        self.embed = layers(dim, embed, dropout=dropout)
        self.attention = Attention(width=width, hidden=hidden, gated=True, dropout=dropout)
        self.head = nn.Linear(width, outputs)
        self.instances = nn.Linear(width, classes * 2)

    def forward(self, bags: PackedBags) -> Reading:
        """What it says of each bag, and of the tiles at both ends of its attention."""
        embedded = self.embed(bags.features)
        attention = self.attention(embedded)
        scores = self.head(pooled(softmax_in_bags(attention, bags), embedded))
        highest, lowest, bag = self._ends(attention, bags)
        said = self.instances(embedded[torch.cat([highest, lowest])])
        first, last = said.reshape(-1, self.classes, 2).chunk(2)
        clusters = Clusters(highest=first, lowest=last, bag=bag)
        return Reading(scores=scores, streams=(scores,), clusters=clusters)

    def weights(self, bags: PackedBags) -> Float32[Tensor, " tile"]:
        """Weight of each tile in its bag; those of a bag sum to one."""
        table = softmax_in_bags(self.attention(self.embed(bags.features)), bags)
        return table.sum(dim=0)[: bags.n_tiles]

    def _ends(
        self, attention: Float[Tensor, " row"], bags: PackedBags
    ) -> tuple[Int64[Tensor, " pick"], Int64[Tensor, " pick"], Int64[Tensor, " pick"]]:
        """Rows of the tiles with most and with least attention in each bag, and their bags."""
        highest, lowest, first = [], [], 0
        for scores in torch.split(attention[: bags.n_tiles].detach(), list(bags.sizes)):
            n_picked = min(PICKED, len(scores) // 2)
            order = scores.argsort(descending=True, stable=True) + first
            highest.append(order[:n_picked])
            lowest.append(order[len(order) - n_picked :])
            first += len(scores)
        picked = torch.cat(highest)
        return picked, torch.cat(lowest), bags.bag[picked]
