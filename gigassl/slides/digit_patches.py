"""Patches of synthetic slides to train encoders on: cells, each beside one of its neighbours."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64, UInt8

from gigassl.errors import SettingsError
from gigassl.slides.digit_layout import EMPTY, DigitSlideSettings
from gigassl.slides.digit_slides import DigitSlides, draw_slides
from gigassl.slides.digits import Digits

_STEPS = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])


@dataclass(frozen=True, kw_only=True, eq=False)
class DigitPatches:
    """Patches of one cell, and beside each the patch of a cell that touches it.

    Attributes:
        patches, neighbours: pixels.
        labels, neighbour_labels: the digit in the cell, ``EMPTY`` where none.
        slides: number of the slide that both are of.
    """

    patches: UInt8[np.ndarray, "patch side side"]
    neighbours: UInt8[np.ndarray, "patch side side"]
    labels: Int64[np.ndarray, " patch"]
    neighbour_labels: Int64[np.ndarray, " patch"]
    slides: Int64[np.ndarray, " patch"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class PatchSettings:
    """How patches are drawn.

    Attributes:
        per_slide: patches of one slide.
        weight: a cell with a digit is drawn so many times as often as an empty one; 2 in the paper.
    """

    per_slide: int = 64
    weight: float = 2.0

    def __post_init__(self) -> None:
        if self.per_slide < 1 or self.weight <= 0:
            raise SettingsError(
                f"patches need at least one a slide and a weight above 0; got {self.per_slide} and "
                f"{self.weight}"
            )


def draw_patches(
    settings: DigitSlideSettings, digits: Digits, *, n: int, seed: int,
    drawing: PatchSettings | None = None,
) -> DigitPatches:  # fmt: skip
    """Patches of as many slides of a seed as it takes; a cell may be drawn more than once.

    As the encoders of Tellez et al. (arXiv 1811.02840) are trained: a patch with a digit twice as
    often as an empty one, and pairs of touching patches for the contrastive encoder. Augmentation
    is the encoder's matter.

    Args:
        settings: of the slides.
        digits: to paint with.
        n: number of patches.
        seed: decides the slides (those of ``draw_slides``) and the draws.
        drawing: how patches are drawn.
    """
    drawing = drawing or PatchSettings()
    parts = []
    for number in range(-(-n // drawing.per_slide)):
        slide = draw_slides(settings, digits, n=1, seed=seed, first=number)
        wanted = replace(drawing, per_slide=min(drawing.per_slide, n - number * drawing.per_slide))
        generator = np.random.default_rng([seed, number])
        parts.append(_of_slide(slide, wanted, generator))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    patches, neighbours, labels, neighbour_labels = columns
    return DigitPatches(
        patches=patches,
        neighbours=neighbours,
        labels=labels,
        neighbour_labels=neighbour_labels,
        slides=np.arange(n) // drawing.per_slide,
    )


def _of_slide(
    slide: DigitSlides, drawing: PatchSettings, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Patches, neighbours and the digits in both, of one slide."""
    classes = slide.classes[0]
    chances = np.where(classes == EMPTY, 1.0, drawing.weight).ravel()
    drawn = generator.choice(classes.size, drawing.per_slide, p=chances / chances.sum())
    places = np.stack(np.divmod(drawn, len(classes)), axis=1)
    beside = places + _STEPS[generator.integers(len(_STEPS), size=len(places))]
    outside = (beside < 0) | (beside >= len(classes))
    beside = np.where(outside, 2 * places - beside, beside)  # the cell on the other side
    cut = _cells_of(slide.images[0], len(classes))
    return (
        cut[tuple(places.T)],
        cut[tuple(beside.T)],
        classes[tuple(places.T)],
        classes[tuple(beside.T)],
    )


def _cells_of(
    image: UInt8[np.ndarray, "row col"], cells: int
) -> UInt8[np.ndarray, "cells cells side side"]:
    side = len(image) // cells
    return image.reshape(cells, side, cells, side).swapaxes(1, 2)
