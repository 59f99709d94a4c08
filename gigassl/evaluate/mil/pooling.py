"""MIL by pooling: mean and max of embedded tiles, and an MLP on the mean of the tiles."""

from collections.abc import Sequence

from torch import nn

from gigassl.evaluate.mil.packed import PackedBags, max_in_bags, mean_in_bags
from gigassl.evaluate.mil.reading import Reading, plain_reading


def layers(dim: int, widths: Sequence[int], *, dropout: float) -> nn.Sequential:
    """Linear layers of these widths, each with ReLU and dropout; nothing at all for no widths."""
    parts: list[nn.Module] = []
    for width in widths:
        parts += [nn.Linear(dim, width), nn.ReLU(), nn.Dropout(dropout)]
        dim = width
    return nn.Sequential(*parts)


class MeanPooling(nn.Module):
    """Mean of embedded tiles, then a linear layer: ``mean``.

    Args:
        dim: width of the tile features.
        outputs: numbers said of a bag.
        embed: widths of the layers on each tile.
        dropout: after each of them.
    """

    def __init__(
        self, *, dim: int, outputs: int, embed: Sequence[int] = (512,), dropout: float = 0.25
    ) -> None:
        super().__init__()
        self.embed = layers(dim, embed, dropout=dropout)
        self.head = nn.Linear([dim, *embed][-1], outputs)

    def forward(self, bags: PackedBags) -> Reading:
        """What it says of each bag."""
        return plain_reading(self.head(mean_in_bags(self.embed(bags.features), bags)))


class MaxPooling(nn.Module):
    """Largest value of each feature of the embedded tiles, then a linear layer: ``max``.

    MI-Net of Wang et al., Revisiting multiple instance neural networks (arXiv 1610.02501), with its
    max pooling. Arguments as of ``MeanPooling``.
    """

    def __init__(
        self, *, dim: int, outputs: int, embed: Sequence[int] = (512,), dropout: float = 0.25
    ) -> None:
        super().__init__()
        self.embed = layers(dim, embed, dropout=dropout)
        self.head = nn.Linear([dim, *embed][-1], outputs)

    def forward(self, bags: PackedBags) -> Reading:
        """What it says of each bag."""
        return plain_reading(self.head(max_in_bags(self.embed(bags.features), bags)))


class MeanMlp(nn.Module):
    """An MLP on the mean of the tiles as they are: ``mean-mlp``, a control for all of MIL.

    Arguments as of ``MeanPooling``; ``embed`` are the widths of the layers on the mean.
    """

    def __init__(
        self, *, dim: int, outputs: int, embed: Sequence[int] = (512,), dropout: float = 0.25
    ) -> None:
        super().__init__()
        self.embed = layers(dim, embed, dropout=dropout)
        self.head = nn.Linear([dim, *embed][-1], outputs)

    def forward(self, bags: PackedBags) -> Reading:
        """What it says of each bag."""
        return plain_reading(self.head(self.embed(mean_in_bags(bags.features, bags))))
