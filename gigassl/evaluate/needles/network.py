"""Networks whose receptive field is a setting: BagNets with global pooling of a choice.

The models of Pawlowski et al., Needles in Haystacks (arXiv 1908.06037), of the family of Brendel
and Bethge, Approximating CNNs with Bag-of-local-Features models (arXiv 1904.00760), written from
their descriptions.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gigassl.errors import SettingsError

Pooling = Literal["mean", "max", "lse", "attention"]
Norm = Literal["instance", "plain-instance", "batch"]

_EXPANSION = 4  # of a bottleneck, as in ResNet-50
_WIDER = 2.5  # blocks that see one pixel only have so many times the channels inside
_ATTENTION = 128


@dataclass(frozen=True, kw_only=True)
class NeedleNetworkSettings:
    """The network. The defaults are a small one for digits of 8 px; ``PAPER_NETWORK`` is theirs.

    Like theirs for digits of 28 px it has a map about as fine as a quarter of a digit: with a place
    every 4 px instead of every 2, needles of 8 px were found much less often.

    Attributes:
        blocks: bottleneck blocks of each stage.
        seeing: how many of these, the first ones, have 3 × 3 instead of 1 × 1 kernels: this
            sets the receptive field.
        strides: of the first block of each stage.
        width: channels inside the blocks of the first stage; each stage has twice as many.
        pooling: of the map over all places.
        norm: ``instance`` with weights, ``plain-instance`` without, or ``batch``.
        dropout: of whole channels before the pooling.
        widened: give 1 × 1 blocks 2.5 times the channels, so that networks have about equally
            many parameters whatever they see.
    """

    blocks: tuple[int, ...] = (1, 2)
    seeing: tuple[int, ...] = (1, 2)
    strides: tuple[int, ...] = (2, 1)
    width: int = 8
    pooling: Pooling = "max"
    norm: Norm = "instance"
    dropout: float = 0.0
    widened: bool = True

    def __post_init__(self) -> None:
        if not self.blocks or len({len(self.blocks), len(self.seeing), len(self.strides)}) > 1:
            raise SettingsError(
                "blocks, seeing and strides need one number a stage; got "
                f"{self.blocks}, {self.seeing} and {self.strides}"
            )
        if any(not 0 <= seen <= n for n, seen in zip(self.blocks, self.seeing, strict=True)):
            raise SettingsError(f"of {self.blocks} blocks {self.seeing} cannot have 3 × 3 kernels")
        if min(self.blocks) < 1 or min(self.strides) < 1 or self.width < 1:
            raise SettingsError("blocks, strides and width must be at least 1")

    @property
    def field_px(self) -> int:
        """Side of what one place of the last map sees, px; norms and edges aside.

        A kernel of 3 adds twice the distance of the places it is applied to; a stride multiplies
        that distance for all that follows.

        >>> NeedleNetworkSettings(blocks=(3, 4, 6, 3), seeing=(3, 4, 6, 3),
        ...                       strides=(2, 2, 2, 1)).field_px
        177
        """
        field, apart = 3, 1  # after the stem
        for seeing, n, stride in zip(self.seeing, self.blocks, self.strides, strict=True):
            for block in range(n):
                field += 2 * apart if block < seeing else 0
                apart *= stride if block == 0 else 1
        return field


PAPER_NETWORK = NeedleNetworkSettings(
    blocks=(3, 4, 6, 3), seeing=(1, 1, 1, 1), strides=(2, 2, 2, 1), width=64
)
"""The published network of 33 px; ``seeing`` (1,1,0,0) to (3,4,6,3) gives 9 to 177 px."""


class NeedleNetwork(nn.Module):
    """Two numbers an image: without and with a needle.

    Kernels of the blocks are padded, so that maps of all receptive fields have equal sizes and
    no canvas is too small; the stem is not, as published. Instance norms carry the mean and spread
    of the whole image to each place: what ``field_px`` says holds for what is beyond these two.

    Args:
        settings: of the network.
        channels: of the images.
    """

    def __init__(self, settings: NeedleNetworkSettings, *, channels: int = 1) -> None:
        super().__init__()
        width = settings.width
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            nn.Conv2d(width, width, 3, bias=False),
            _new_norm(settings.norm, width),
            nn.ReLU(),
        )
        self.body = nn.Sequential(*_stages(settings))
        self.out_channels = width * 2 ** (len(settings.blocks) - 1) * _EXPANSION
        self.dropout = nn.Dropout2d(settings.dropout)
        self.attention = (
            nn.Sequential(
                nn.Conv2d(self.out_channels, _ATTENTION, 1), nn.Tanh(), nn.Conv2d(_ATTENTION, 1, 1)
            )
            if settings.pooling == "attention"
            else None
        )
        self.pooling = settings.pooling
        self.head = nn.Linear(self.out_channels, 2)

    def maps(self, images: Float[Tensor, "image channel y x"]) -> Float[Tensor, "image c h w"]:
        """The last map, a vector a place."""
        found: Tensor = self.body(self.stem(images))
        return found

    def forward(self, images: Float[Tensor, "image channel y x"]) -> Float[Tensor, "image 2"]:
        """Logits; pixels of images are 0 to 1."""
        maps = self.dropout(self.maps(images))
        if self.attention is not None:
            pooled = _attended(maps, self.attention(maps))
        else:
            pooled = POOLINGS[self.pooling](maps.flatten(2))
        logits: Tensor = self.head(pooled)
        return logits

    def local(self, images: Float[Tensor, "image channel y x"]) -> Float[Tensor, "image h w"]:
        """What the head says of each place alone: logit of a needle minus that of none."""
        said = self.head(self.maps(images).movedim(1, -1))
        difference: Tensor = said[..., 1] - said[..., 0]
        return difference


def mean_of_places(maps: Float[Tensor, "image c place"]) -> Float[Tensor, "image c"]:
    """Mean of each channel."""
    return maps.mean(dim=2)


def max_of_places(maps: Float[Tensor, "image c place"]) -> Float[Tensor, "image c"]:
    """Largest value of each channel."""
    return maps.amax(dim=2)


def lse_of_places(maps: Float[Tensor, "image c place"]) -> Float[Tensor, "image c"]:
    """Logarithm of the mean exponential: between mean and max, and independent of the size."""
    return torch.logsumexp(maps, dim=2) - math.log(maps.shape[2])


POOLINGS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": mean_of_places,
    "max": max_of_places,
    "lse": lse_of_places,
}
"""Name → function of maps; ``attention`` has weights of its own and is not among them."""


def _attended(maps: Tensor, scores: Tensor) -> Tensor:
    """Mean of the places under softmax weights, as in attention MIL (arXiv 1802.04712)."""
    weights = torch.softmax(scores.flatten(1), dim=1)
    return torch.einsum("icp,ip->ic", maps.flatten(2), weights)


def _stages(settings: NeedleNetworkSettings) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    channels = settings.width
    for stage, n in enumerate(settings.blocks):
        planes = settings.width * 2**stage
        for block in range(n):
            blocks.append(
                _Bottleneck(
                    channels, planes,
                    kernel=3 if block < settings.seeing[stage] else 1,
                    stride=settings.strides[stage] if block == 0 else 1,
                    settings=settings,
                )
            )  # fmt: skip
            channels = planes * _EXPANSION
    return blocks


class _Bottleneck(nn.Module):
    """1 × 1, then 3 × 3 or 1 × 1, then 1 × 1, added to its input."""

    def __init__(
        self, channels: int, planes: int, *, kernel: int, stride: int,
        settings: NeedleNetworkSettings,
    ) -> None:  # fmt: skip
        super().__init__()
        out = planes * _EXPANSION
        inside = round(planes * _WIDER) if kernel == 1 and settings.widened else planes
        self.path = nn.Sequential(
            nn.Conv2d(channels, inside, 1, bias=False),
            _new_norm(settings.norm, inside),
            nn.ReLU(),
            nn.Conv2d(inside, inside, kernel, stride=stride, padding=kernel // 2, bias=False),
            _new_norm(settings.norm, inside),
            nn.ReLU(),
            nn.Conv2d(inside, out, 1, bias=False),
            _new_norm(settings.norm, out),
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride=stride, bias=False),
                _new_norm(settings.norm, out),
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.path(x) + self.shortcut(x))


def _new_norm(norm: Norm, channels: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    # the same numbers as InstanceNorm2d, in less than half of the time on a CPU
    return nn.GroupNorm(channels, channels, affine=norm == "instance")
