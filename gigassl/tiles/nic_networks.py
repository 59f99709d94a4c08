"""Networks of neural image compression: encoders of a tile, generators and a discriminator.

Neural image compression for gigapixel histopathology image analysis, arXiv 1811.02840, section III
and appendix; the smaller networks of its synthetic task are the same ones with other numbers. Every
layer is followed by a leaky ReLU and then by a batch norm, as in the released weight files: the
paper's text names them the other way round.
"""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from gigassl.errors import SettingsError

_SLOPE, _EPS, _MOMENTUM = 0.2, 1e-3, 0.2  # Keras' momentum 0.8 is what stays
_FIRST_SIDE = 4


class NicEncoder(nn.Module):
    """Strided 3 × 3 convolutions, then perhaps a dense layer, then a linear code.

    Attributes:
        body: all but the code.
        code: the linear layer [tile, width of the body] → [tile, code].
        side_px: of the tiles as the convolutions see them.
        channels: 3 for RGB; 1 for its mean.
        filters: of each convolution.
    """

    def __init__(
        self, filters: Sequence[int], *, px: int, channels: int, widths: Sequence[int],
        padding: int = 0, pool: int = 1,
    ) -> None:  # fmt: skip
        """Layers with random weights.

        Args:
            filters: of each convolution.
            px: side of the tiles.
            channels: 3 or 1.
            widths: of the dense layers; the last one is linear, its width that of the code.
            padding: of the convolutions, px on each side.
            pool: tiles are averaged over squares of so many px first.

        Raises:
            SettingsError: too few px, or channels that are neither RGB nor grey.
        """
        super().__init__()
        _check_shape(px=px, pool=pool, channels=channels)
        self.side_px, self.channels, self.filters = px // pool, channels, tuple(filters)
        self._pool = pool
        sides = [self.side_px]
        layers: list[nn.Module] = []
        for before, after in zip([channels, *filters], filters, strict=False):
            layers += block(nn.Conv2d(before, after, 3, stride=2, padding=padding))
            sides.append((sides[-1] + 2 * padding - 3) // 2 + 1)
        if sides[-1] < 1:
            raise SettingsError(
                f"tiles of {px} px are too small for {len(filters)} strided convolutions; choose a "
                "larger --tile-px or fewer convolutions"
            )
        layers.append(nn.Flatten())
        dense = [sides[-1] ** 2 * self.filters[-1], *widths]
        for before, after in zip(dense, widths[:-1], strict=False):
            layers += block(nn.Linear(before, after))
        self.body = nn.Sequential(*layers)
        self.code = nn.Linear(dense[-2], dense[-1])
        begin(self)

    def seen(self, images: Float[Tensor, "tile 3 row col"]) -> Float[Tensor, "tile seen _ _"]:
        """What the convolutions see of normalised images: averaged, in colour or grey."""
        grey = images.mean(dim=1, keepdim=True) if self.channels == 1 else images
        return avg_pool2d(grey, self._pool) if self._pool > 1 else grey

    def forward(self, images: Float[Tensor, "tile 3 row col"]) -> Float[Tensor, "tile code"]:
        """Codes of normalised images."""
        codes: Tensor = self.code(self.body(self.seen(images)))
        return codes


class MeanRgb(nn.Module):
    """The mean of each channel: a control that has no weights and sees no shapes."""

    def forward(self, images: Float[Tensor, "tile 3 row col"]) -> Float[Tensor, "tile 3"]:
        """Means of normalised images."""
        return images.mean(dim=(2, 3))


class Generator(nn.Module):
    """A dense layer, then a nearest upsampling and a 3 × 3 convolution again and again.

    The side doubles from 4 px; the last one is the image's own, whatever it is.
    """

    def __init__(
        self, filters: Sequence[int], *, code: int, first: int, side_px: int, channels: int
    ) -> None:
        """Layers with random weights.

        Args:
            filters: of each convolution after an upsampling.
            code: length of the codes.
            first: channels of the 4 × 4 map that the dense layer makes.
            side_px, channels: of the images.
        """
        super().__init__()
        self.first = first
        self.dense = nn.Sequential(*block(nn.Linear(code, first * _FIRST_SIDE**2)))
        sides = [min(_FIRST_SIDE * 2 ** (k + 1), side_px) for k in range(len(filters))]
        self.sides = [*sides[:-1], side_px]
        self.stages = nn.ModuleList(
            nn.Sequential(*block(nn.Conv2d(before, after, 3, padding=1)))
            for before, after in zip([first, *filters], filters, strict=False)
        )
        self.last = nn.Conv2d(filters[-1], channels, 3, padding=1)
        begin(self)

    def forward(self, codes: Float[Tensor, "tile code"]) -> Float[Tensor, "tile channel _ _"]:
        """Images from -1 to 1."""
        maps = self.dense(codes).unflatten(1, (self.first, _FIRST_SIDE, _FIRST_SIDE))
        for side, stage in zip(self.sides, self.stages, strict=True):
            maps = stage(interpolate(maps, size=(side, side), mode="nearest"))
        return torch.tanh(self.last(maps))


class Discriminator(nn.Module):
    """Tells pairs of an image and its code from pairs of a code and its image.

    The image passes an encoder like the one that is trained, with weights of its own.
    """

    def __init__(self, like: NicEncoder, *, width: int, dropout: float) -> None:
        """Layers with random weights.

        Args:
            like: the encoder that is trained.
            width: of the two dense layers.
            dropout: behind each.
        """
        super().__init__()
        code = like.code.out_features
        self.image = copy_shape(like)
        layers: list[nn.Module] = []
        for before in (2 * code, width):
            layers += [nn.Linear(before, width), nn.LeakyReLU(_SLOPE), nn.Dropout(dropout)]
        self.pair = nn.Sequential(*layers, nn.Linear(width, 1))
        begin(self)

    def forward(
        self, images: Float[Tensor, "tile channel row col"], codes: Float[Tensor, "tile code"]
    ) -> Float[Tensor, " tile"]:
        """Logits: high for an image with its code."""
        seen = self.image(images)
        logits: Tensor = self.pair(torch.cat([seen, codes], dim=1))[:, 0]
        return logits


def copy_shape(like: NicEncoder) -> nn.Sequential:
    """An encoder's layers with weights of their own, for images as its convolutions see them."""
    layers = nn.Sequential(copy.deepcopy(like.body), copy.deepcopy(like.code))
    begin(layers)
    return layers


def block(layer: nn.Conv2d | nn.Linear) -> list[nn.Module]:
    """A layer, leaky ReLU and batch norm, in this order."""
    width = layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features
    norm = nn.BatchNorm2d if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d
    return [layer, nn.LeakyReLU(_SLOPE), norm(width, eps=_EPS, momentum=_MOMENTUM)]


def begin(network: nn.Module) -> None:
    """Draws first weights as the released files say: He's for convolutions, Glorot's for dense."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _check_shape(*, px: int, pool: int, channels: int) -> None:
    if channels not in (1, 3):
        raise SettingsError(f"tiles have 3 channels, or 1 for their mean; got {channels}")
    if pool < 1 or px < 1 or px % pool:
        raise SettingsError(
            f"tiles of {px} px cannot be averaged over squares of {pool} px; choose a multiple"
        )
