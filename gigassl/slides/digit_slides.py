"""Synthetic slides of digits, painted: images, labels, masks of what makes the label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from gigassl.slides.digit_layout import (
    EMPTY,
    DigitSlideSettings,
    PlacedDigits,
    draw_layout,
    draw_mixture,
)
from gigassl.slides.digits import Digits


@dataclass(frozen=True, kw_only=True, eq=False)
class DigitSlides:
    """Synthetic slides of one size.

    Attributes:
        images: white digits on black.
        labels: class of the digits in the tilted rectangle; ``EMPTY`` on slides without one.
        distractors: class of those in the upright rectangle; ``EMPTY`` on slides without one.
        masks: cells whose centre lies in the tilted rectangle.
        distractor_masks: the same of the upright rectangle.
        classes: digit in each cell, ``EMPTY`` where none.
        shares: share of each digit 0 … 9 among the digits of the slide.
    """

    images: UInt8[np.ndarray, "slide side side"]
    labels: Int64[np.ndarray, " slide"]
    distractors: Int64[np.ndarray, " slide"]
    masks: Bool[np.ndarray, "slide cells cells"]
    distractor_masks: Bool[np.ndarray, "slide cells cells"]
    classes: Int64[np.ndarray, "slide cells cells"]
    shares: Float64[np.ndarray, "slide 10"]

    def __len__(self) -> int:
        return len(self.images)


def draw_slides(
    settings: DigitSlideSettings, digits: Digits, *, n: int, seed: int, first: int = 0
) -> DigitSlides:
    """Slides ``first`` … ``first + n - 1`` of a seed, with the two rectangles of the paper's task.

    Same arguments, same arrays; a slide does not depend on how many are drawn.

    Args:
        settings: what the slides are like.
        digits: to paint with, of any size.
        n: number of slides.
        seed: decides everything else.
        first: number of the first slide. Training and test slides need numbers of their own.
    """
    layouts = [draw_layout(settings, number=first + i, seed=seed) for i in range(n)]
    cells = settings.cells
    return DigitSlides(
        **_painted(settings, digits, [layout.digits for layout in layouts]),
        labels=np.array([layout.label for layout in layouts], np.int64),
        distractors=np.array([layout.distractor for layout in layouts], np.int64),
        masks=np.stack([layout.tilted.mask(cells, cells=cells) for layout in layouts]),
        distractor_masks=np.stack([layout.upright.mask(cells, cells=cells) for layout in layouts]),
    )


def draw_mixtures(
    settings: DigitSlideSettings, digits: Digits, *, n: int, seed: int, first: int = 0
) -> DigitSlides:
    """Slides without rectangles, for regression on ``shares``: each mixes digits in its own way.

    Arguments as of ``draw_slides``; the mixtures are those of ``draw_mixture``.
    """
    placed = [draw_mixture(settings, number=first + i, seed=seed) for i in range(n)]
    nothing, nowhere = np.full(n, EMPTY), np.zeros((n, settings.cells, settings.cells), bool)
    return DigitSlides(
        **_painted(settings, digits, placed),
        labels=nothing, distractors=nothing, masks=nowhere, distractor_masks=nowhere,
    )  # fmt: skip


def paint_digits(
    settings: DigitSlideSettings, digits: Digits, placed: PlacedDigits
) -> UInt8[np.ndarray, "row col"]:
    """The image of a slide; where digits overlap, the brighter pixel shows.

    Args:
        settings: of the slide.
        digits: of ``settings.cell_px`` a side.
        placed: what lies where.
    """
    side, margin = settings.cell_px, int(settings.jitter * settings.cell_px)
    canvas = np.zeros((settings.side_px + 2 * margin,) * 2, np.uint8)
    corners = placed.cells * side + placed.moved_px + margin
    span = np.arange(side)
    rows, cols = corners[:, :1] + span, corners[:, 1:] + span
    shown = digits.images[_instances(digits, placed)]
    np.maximum.at(canvas, (rows[:, :, None], cols[:, None, :]), shown)
    return canvas[margin : margin + settings.side_px, margin : margin + settings.side_px]


def _painted(
    settings: DigitSlideSettings, digits: Digits, placed: Sequence[PlacedDigits]
) -> dict[str, np.ndarray]:
    """Images, classes and shares of slides."""
    sized = digits.of_side(settings.cell_px, threshold=settings.threshold)
    classes = np.full((len(placed), settings.cells, settings.cells), EMPTY)
    for number, one in enumerate(placed):
        classes[number, one.cells[:, 0], one.cells[:, 1]] = one.classes
    return {
        "images": np.stack([paint_digits(settings, sized, one) for one in placed]),
        "classes": classes,
        "shares": np.stack([one.shares for one in placed]),
    }


def _instances(digits: Digits, placed: PlacedDigits) -> Int64[np.ndarray, " digit"]:
    """The rows of the images that the digits of a slide show."""
    order = np.argsort(digits.labels, kind="stable")
    counts = np.bincount(digits.labels, minlength=10)
    starts = np.cumsum(counts) - counts
    rows = starts[placed.classes] + (placed.picks * counts[placed.classes]).astype(np.int64)
    instances: Int64[np.ndarray, " digit"] = order[rows]
    return instances
