"""Needles in haystacks: images in which one small digit among many others decides the label.

nMNIST of Pawlowski et al., Needles in Haystacks: On Classifying Tiny Objects in Large Images (arXiv
1908.06037), written from its description.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from gigassl.errors import SettingsError
from gigassl.slides.digits import Digits

NOWHERE = -1
"""Corner of the needle where there is none."""

# 25 digits of 28 px on 256 px, as published: 30 % of any canvas
_CLUTTER_SHARE = 25 * 28**2 / 256**2
_ORDER, _IMAGE = range(2)  # what numbers of a seed are for


@dataclass(frozen=True, kw_only=True)
class NeedleSettings:
    """Everything that decides the images, save their number, seed and digits.

    Attributes:
        canvas_px: side of an image; a multiple of ``cell_px``.
        digit_px: side of a digit.
        cell_px: the needle lies inside a square of a grid of this side, at a random place.
        needle: the digit to be found.
        clutter: other digits beside the needle; None for 30 % of the canvas, as published.
        positive: share of the images that hold a needle.
    """

    canvas_px: int = 64
    digit_px: int = 8
    cell_px: int = 16
    needle: int = 3
    clutter: int | None = None
    positive: float = 0.5

    def __post_init__(self) -> None:
        if not 4 <= self.digit_px <= self.cell_px:
            raise SettingsError(
                f"digits have 4 px to the {self.cell_px} px of a cell; got {self.digit_px}"
            )
        if self.canvas_px < self.cell_px or self.canvas_px % self.cell_px:
            raise SettingsError(
                f"the canvas is a multiple of the cell, {self.cell_px} px; got {self.canvas_px}"
            )
        if self.needle not in range(10):
            raise SettingsError(f"the needle is one of the digits 0-9; got {self.needle}")
        if self.clutter is not None and self.clutter < 0:
            raise SettingsError(f"clutter is a number of digits from 0; got {self.clutter}")
        if not 0.0 < self.positive < 1.0:
            raise SettingsError(f"the positive share lies between 0 and 1; got {self.positive}")

    @property
    def o2i(self) -> float:
        """Object-to-image ratio: area of the needle's square over that of the image."""
        return (self.digit_px / self.canvas_px) ** 2

    @property
    def n_digits(self) -> int:
        """Digits on an image, positive or negative."""
        clutter = round(_CLUTTER_SHARE / self.o2i) if self.clutter is None else self.clutter
        return clutter + 1


NEEDLE_PRESETS: Mapping[str, tuple[NeedleSettings, ...]] = {
    "paper": tuple(
        NeedleSettings(canvas_px=canvas, digit_px=28, cell_px=64)
        for canvas in (64, 128, 256, 512, 1024, 2048, 4096, 6144)
    ),
    "small": tuple(NeedleSettings(canvas_px=canvas) for canvas in (16, 32, 64, 128)),
}
"""Sweeps over the canvas: the published one, for MNIST, and one for scikit-learn's digits."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NeedleImages:
    """Images of one canvas.

    Attributes:
        images: white digits on black; values of digits that overlap are added, up to 255.
        labels: 1 with the needle, 0 without.
        corners: (row, col) of the needle's upper left pixel, ``NOWHERE`` without one.
        classes: of all digits of each image, the needle or what stands for it first.
        digit_px: side of a digit.
    """

    images: UInt8[np.ndarray, "image side side"]
    labels: Int64[np.ndarray, " image"]
    corners: Int64[np.ndarray, "image 2"]
    classes: Int64[np.ndarray, "image digit"]
    digit_px: int

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, n: int) -> "NeedleImages":
        """The first ``n`` images, or all where there are fewer."""
        return NeedleImages(
            images=self.images[:n], labels=self.labels[:n], corners=self.corners[:n],
            classes=self.classes[:n], digit_px=self.digit_px,
        )  # fmt: skip

    @property
    def masks(self) -> Bool[np.ndarray, "image side side"]:
        """The needle's square; nothing on negative images."""
        span = np.arange(self.images.shape[1])
        inside = [
            (span >= start[:, None]) & (span < start[:, None] + self.digit_px)
            for start in self.corners.T
        ]
        both = inside[0][:, :, None] & inside[1][:, None, :]
        masks: Bool[np.ndarray, "image side side"] = both & (self.labels == 1)[:, None, None]
        return masks


def draw_needles(
    settings: NeedleSettings, digits: Digits, *, n: int, seed: int, first: int = 0
) -> NeedleImages:
    """Images ``first`` … ``first + n - 1`` of a seed; same arguments, same arrays.

    Every image has ``settings.n_digits`` digits. One of them is placed as needles are: in a
    positive image it is the needle, in a negative one another digit, so that neither number nor
    place of the digits tells the label. Needles are dealt in turn: with m images of the digit, none
    is used again before all were used. Positive and negative images alternate, so the first k
    images of a seed are a smaller set of the same kind.

    Args:
        settings: what the images are like.
        digits: to paint with, of any size.
        n: number of images.
        seed: decides everything else.
        first: number of the first image. Training and test images need numbers of their own.
    """
    sized = digits.of_side(settings.digit_px)
    pools = _pools(sized, needle=settings.needle, seed=seed)
    drawn = [
        _draw_one(settings, sized, pools, number=number, seed=seed)
        for number in range(first, first + n)
    ]
    images, labels, corners, classes = zip(*drawn, strict=True)
    return NeedleImages(
        images=np.stack(images),
        labels=np.array(labels, np.int64),
        corners=np.array(corners, np.int64),
        classes=np.stack(classes),
        digit_px=settings.digit_px,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pools:
    """Rows of the digits that are needles, in the order in which they are used, and of others."""

    needles: Int64[np.ndarray, " needle"]
    others: Int64[np.ndarray, " other"]


def _pools(digits: Digits, *, needle: int, seed: int) -> _Pools:
    needles = np.flatnonzero(digits.labels == needle)
    order = np.random.default_rng([seed, _ORDER]).permutation(len(needles))
    return _Pools(needles=needles[order], others=np.flatnonzero(digits.labels != needle))


def _draw_one(
    settings: NeedleSettings, digits: Digits, pools: _Pools, *, number: int, seed: int
) -> tuple[np.ndarray, int, tuple[int, int], np.ndarray]:  # fmt: skip
    """Image, label, corner of the needle, classes of the digits."""
    generator = np.random.default_rng([seed, _IMAGE, number])
    n_before, n_after = (int(k * settings.positive) for k in (number, number + 1))
    label = n_after - n_before
    shown = generator.choice(pools.others, settings.n_digits)
    if label:
        shown[0] = pools.needles[n_before % len(pools.needles)]
    corners = _corners(settings, generator)
    image = _pasted(digits.images[shown], corners, canvas_px=settings.canvas_px)
    row, col = corners[0].tolist() if label else (NOWHERE, NOWHERE)
    return image, label, (row, col), digits.labels[shown]


def _corners(
    settings: NeedleSettings, generator: np.random.Generator
) -> Int64[np.ndarray, "digit 2"]:
    """Upper left pixels of the digits: the first in a cell, all others anywhere."""
    free = settings.canvas_px - settings.digit_px
    corners = generator.integers(0, free + 1, (settings.n_digits, 2))
    cells = generator.integers(0, settings.canvas_px // settings.cell_px, 2)
    inside = generator.integers(0, settings.cell_px - settings.digit_px + 1, 2)
    corners[0] = cells * settings.cell_px + inside
    return corners


def _pasted(
    digits: UInt8[np.ndarray, "digit px px"], corners: Int64[np.ndarray, "digit 2"], *,
    canvas_px: int,
) -> UInt8[np.ndarray, "side side"]:  # fmt: skip
    total = np.zeros((canvas_px, canvas_px), np.int64)
    span = np.arange(digits.shape[1])
    rows, cols = corners[:, :1] + span, corners[:, 1:] + span
    np.add.at(total, (rows[:, :, None], cols[:, None, :]), digits)
    return np.minimum(total, 255).astype(np.uint8)
