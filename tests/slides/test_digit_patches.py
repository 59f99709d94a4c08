"""Patches for encoders: pixels and labels are those of the slide; pairs touch; chances hold."""

from dataclasses import replace

import numpy as np
import pytest

from gigassl.errors import SettingsError
from gigassl.slides.digit_layout import EMPTY, DigitSlideSettings
from gigassl.slides.digit_patches import PatchSettings, draw_patches
from gigassl.slides.digit_slides import draw_slides
from gigassl.slides.digits import read_digits

TRAIN = read_digits().train
SETTINGS = DigitSlideSettings(fill=0.5)


def places_of(image: np.ndarray, patch: np.ndarray) -> set[tuple[int, int]]:
    """Cells of a slide that look like a patch."""
    return {
        (row, col)
        for row in range(32)
        for col in range(32)
        if (image[8 * row : 8 * row + 8, 8 * col : 8 * col + 8] == patch).all()
    }


def test_pairs_are_touching_cells_of_one_slide() -> None:
    found = draw_patches(SETTINGS, TRAIN, n=100, seed=2)
    slides = draw_slides(SETTINGS, TRAIN, n=2, seed=2)
    assert len(found) == 100
    assert found.slides.tolist() == [0] * 64 + [1] * 36
    for k in range(0, 100, 7):
        number = int(found.slides[k])
        here = places_of(slides.images[number], found.patches[k])
        beside = places_of(slides.images[number], found.neighbours[k])
        touching = [
            (a, b) for a in here for b in beside if abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1
        ]
        assert any(
            slides.classes[number][a] == found.labels[k]
            and slides.classes[number][b] == found.neighbour_labels[k]
            for a, b in touching
        )


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_cells_with_a_digit_are_drawn_more_often(weight: float) -> None:
    found = draw_patches(
        SETTINGS, TRAIN, n=6000, seed=0, drawing=PatchSettings(per_slide=1000, weight=weight)
    )
    filled = (found.labels != EMPTY).mean()
    assert filled == pytest.approx(weight / (weight + 1), abs=0.02)
    empty = found.patches[found.labels == EMPTY]
    assert not empty.any()
    # neighbours are taken as they are
    assert (found.neighbour_labels != EMPTY).mean() == pytest.approx(0.5, abs=0.025)


def test_a_seed_decides_the_patches() -> None:
    a, b, c = (draw_patches(SETTINGS, TRAIN, n=10, seed=seed) for seed in (1, 1, 2))
    assert (a.patches == b.patches).all()
    assert (a.neighbours == b.neighbours).all()
    assert (a.patches != c.patches).any()
    moved = draw_patches(replace(SETTINGS, jitter=0.5), TRAIN, n=10, seed=1)
    assert (moved.patches != a.patches).any()


def test_impossible_draws_are_refused() -> None:
    with pytest.raises(SettingsError, match="at least one a slide"):
        PatchSettings(per_slide=0)
