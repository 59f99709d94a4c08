"""CNN on compressed slides: ``nic-cnn``, which sees what lies where and not only what there is."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gigassl.errors import SettingsError
from gigassl.evaluate.mil.packed import PackedBags
from gigassl.evaluate.mil.reading import Reading, plain_reading

N_LAYERS = 8
STRIDED = 6
"""Most layers with stride 2."""

LEAST_CROP = 17
"""Side of the smallest crop that eight layers of 3 × 3 leave a cell of."""

CROPS = (17, 32, 56, 100, 168, 272, 400)
"""Sides of crops that the layers leave exactly one cell of, with 0 to 6 strides."""

_SLOPE = 0.2  # of the leaky ReLU, as in the published encoders
_EPSILON = 1e-3  # of the norms, as there


def crop_for(extent: int) -> int:
    """Side of the crops for a cohort: the least of ``CROPS`` that holds every slide, 400 at most.

    Args:
        extent: rows or columns of the largest grid, whichever are more.

    >>> crop_for(90), crop_for(12), crop_for(5000)
    (100, 17, 400)
    """
    return next((side for side in CROPS if side >= extent), CROPS[-1])


def n_strided(crop: int) -> int:
    """How many of the first layers have stride 2: as many as leave a cell, six at most.

    >>> [n_strided(crop) for crop in CROPS]
    [0, 1, 2, 3, 4, 5, 6]
    """
    return max(n for n in range(STRIDED + 1) if map_sizes(crop, strided=n)[-1] >= 1)


def map_sizes(crop: int, *, strided: int) -> tuple[int, ...]:
    """Side of the map before each layer and behind the last; 3 × 3 and no padding.

    >>> map_sizes(400, strided=6)
    (400, 199, 99, 49, 24, 11, 5, 3, 1)
    """
    sizes = [crop]
    for layer in range(N_LAYERS):
        sizes.append((sizes[-1] - 3) // (2 if layer < strided else 1) + 1)
    return tuple(sizes)


class SeparableLayer(nn.Module):
    """A 3 × 3 convolution of each channel and a mixing of channels; norm, leaky ReLU, dropout.

    Dropout leaves whole channels out. Without padding. The norm's shift is the only bias: any other
    would cancel in it.
    """

    def __init__(self, dim: int, width: int, *, stride: int, dropout: float) -> None:
        super().__init__()
        self.depth = nn.Conv2d(dim, dim, 3, stride=stride, groups=dim, bias=False)
        self.point = nn.Conv2d(dim, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width, eps=_EPSILON)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, maps: Float[Tensor, "crop dim row col"]) -> Float[Tensor, "crop width y x"]:
        """The next map."""
        mixed = self.norm(self.point(self.depth(maps)))
        found: Tensor = self.dropout(functional.leaky_relu(mixed, _SLOPE))
        return found

    def initialise(self, generator: torch.Generator) -> None:
        """Draws weights uniformly after He et al. (arXiv 1502.01852), as the authors' later code.

        A channel of ``depth`` has nine inputs, one of ``point`` as many as there are channels.
        """
        for layer in (self.depth, self.point):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)


class GridCnn(nn.Module):
    """Eight separable convolutions and two dense layers on crops of compressed slides: ``nic-cnn``.

    Neural Image Compression: Tellez et al., IEEE TPAMI 43(2), 2021 (arXiv 1811.02840). The layers
    leave one cell of a crop of 400; smaller crops have fewer strides (``n_strided``), and where
    more cells are left, their mean is taken.

    Args:
        dim: width of the tile features.
        outputs: numbers said of a crop.
        crop: side of a crop in cells, at least 17.
        width: filters of each layer.
        hidden: width of the dense layer.
        dropout: share of a layer's channels left out in training.

    Raises:
        SettingsError: a crop of less than 17.
    """

    def __init__(
        self, *, dim: int, outputs: int, crop: int, width: int = 128, hidden: int = 128,
        dropout: float = 0.2,
    ) -> None:  # fmt: skip
        super().__init__()
        if crop < LEAST_CROP:
            raise SettingsError(
                f"crops must be at least {LEAST_CROP} cells wide, or eight layers of 3 × 3 leave "
                f"nothing of them; got {crop}. Smaller slides are padded"
            )
        self.crop = crop
        strided = n_strided(crop)
        self.layers = nn.Sequential(
            *(
                SeparableLayer(
                    width if layer else dim, width, stride=2 if layer < strided else 1,
                    dropout=dropout,
                )
                for layer in range(N_LAYERS)
            )
        )  # fmt: skip
        self.dense = nn.Linear(width, hidden, bias=False)
        self.norm = nn.BatchNorm1d(hidden, eps=_EPSILON)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, bags: PackedBags) -> Reading:
        """What it says of each crop."""
        return plain_reading(self.scores(self.layers(self.image(bags))))

    def image(self, bags: PackedBags) -> Float[Tensor, "crop dim row col"]:
        """Crops as images: features at their cells, zeros elsewhere; one scatter.

        The channels of a cell lie together in memory, as they do in a bag.
        """
        n_tiles, dim, side = bags.n_tiles, bags.features.shape[1], self.crop
        cells = _cells_of(bags)
        place = (bags.bag[:n_tiles] * side + cells[:, 0]) * side + cells[:, 1]
        flat = bags.features.new_zeros(len(bags.sizes) * side * side, dim)
        flat.index_copy_(0, place, bags.features[:n_tiles])
        return flat.reshape(len(bags.sizes), side, side, dim).permute(0, 3, 1, 2)

    def scores(self, maps: Float[Tensor, "crop width row col"]) -> Float[Tensor, "crop output"]:
        """What follows the last layer: the dense layers on the mean over its cells."""
        hidden = self.norm(self.dense(maps.mean(dim=(2, 3))))
        said: Tensor = self.head(functional.leaky_relu(hidden, _SLOPE))
        return said


def _cells_of(bags: PackedBags) -> Tensor:
    if bags.cells is None:
        raise ValueError("nic-cnn takes crops, whose tiles have cells; use CropReader")
    return bags.cells
