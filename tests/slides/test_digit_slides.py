"""Slides of digits: geometry, labels, pixels and masks against slow obvious versions."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import SettingsError
from gigassl.slides.digit_layout import (
    DIGIT_SLIDE_PRESETS,
    EMPTY,
    DigitSlideSettings,
    Rectangle,
    draw_layout,
)
from gigassl.slides.digit_slides import draw_mixtures, draw_slides
from gigassl.slides.digits import read_digits

SETS = read_digits()
SMALL = DigitSlideSettings()
MOVED = replace(SMALL, jitter=0.5, classes=tuple(range(10)), fill=0.3)


def corners(rectangle: Rectangle) -> list[tuple[float, float]]:
    """(row, col) of the four corners, from centre, sides and angle."""
    turn, found = math.radians(rectangle.angle), []
    for along, across in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        a, b = along * rectangle.long / 2, across * rectangle.long / 4
        right = a * math.cos(turn) - b * math.sin(turn)
        down = a * math.sin(turn) + b * math.cos(turn)
        found.append((rectangle.row + down, rectangle.col + right))
    return found


def test_the_papers_numbers() -> None:
    paper = DIGIT_SLIDE_PRESETS["paper"]
    assert paper.side_px == 3600
    assert paper.n_digits == 25_920
    assert paper.long_cells == (36 / 9, 1800 / 9)
    layout = draw_layout(paper, number=0, seed=0)
    assert np.abs(layout.digits.moved_px).max() == 4
    assert len(np.unique(layout.digits.cells, axis=0)) == 25_920


@given(number=st.integers(0, 10_000), seed=st.integers(0, 99))
def test_rectangles_lie_on_the_slide_in_opposite_halves(number: int, seed: int) -> None:
    easy = DIGIT_SLIDE_PRESETS["easy"]
    for settings in (SMALL, easy, replace(SMALL, cells=40, long_cells=(4.0, 8.0))):
        layout = draw_layout(settings, number=number, seed=seed)
        assert layout.tilted.angle in {45.0, 135.0}
        assert layout.upright.angle in {0.0, 90.0}
        assert layout.label != layout.distractor
        middle = settings.cells / 2
        sides = []
        for each in (layout.tilted, layout.upright):
            assert settings.long_cells[0] <= each.long <= settings.long_cells[1]
            points = np.array(corners(each))
            assert points.min() >= -1e-9
            assert points.max() <= settings.cells + 1e-9
            sides.append(np.sign([each.row - middle, each.col - middle]))
        assert (sides[0] == -sides[1]).any()
        if settings.cells == 40:  # small ones lie wholly in their halves
            meet = layout.tilted.mask(400, cells=40) & layout.upright.mask(400, cells=40)
            assert not meet.any()


def test_a_mask_is_the_rectangle() -> None:
    rectangle = Rectangle(row=15.0, col=20.0, long=16.0, angle=45.0)
    mask = rectangle.mask(640, cells=32)
    assert mask.sum() == pytest.approx(16 * 8 * 400, rel=0.005)
    rows, cols = np.nonzero(mask)
    assert rows.mean() / 20 == pytest.approx(15.0, abs=0.05)
    assert cols.mean() / 20 == pytest.approx(20.0, abs=0.05)
    # its long side falls to the right: far along that diagonal, near along the other
    assert rectangle.holds(np.array([20.0]), np.array([25.0]))[0]
    assert not rectangle.holds(np.array([20.0]), np.array([15.0]))[0]


@pytest.mark.parametrize("settings", [SMALL, MOVED], ids=["in cells", "moved"])
def test_pixels_and_classes_are_what_the_layout_says(settings: DigitSlideSettings) -> None:
    slides = draw_slides(settings, SETS.train, n=2, seed=3, first=5)
    for k in range(2):
        layout = draw_layout(settings, number=5 + k, seed=3)
        image = np.zeros((settings.side_px,) * 2, np.uint8)
        digits = layout.digits
        for cell, moved, digit, pick in zip(
            digits.cells.tolist(), digits.moved_px.tolist(), digits.classes.tolist(),
            digits.picks.tolist(), strict=True,
        ):  # fmt: skip
            row, col = ((cell[i] * 8 + moved[i] + 4) / 8 for i in (0, 1))
            at = np.array([row]), np.array([col])
            if layout.tilted.holds(*at)[0]:
                assert digit == layout.label
            elif layout.upright.holds(*at)[0]:
                assert digit == layout.distractor
            assert slides.classes[k, cell[0], cell[1]] == digit
            of_class = SETS.train.images[SETS.train.labels == digit]
            shown = of_class[int(pick * len(of_class))]
            for (y, x), ink in np.ndenumerate(shown):
                place = (cell[0] * 8 + moved[0] + y, cell[1] * 8 + moved[1] + x)
                if min(place) >= 0 and max(place) < settings.side_px:
                    image[place] = max(image[place], ink)
        assert (slides.images[k] == image).all()
        assert slides.labels[k] == layout.label
        assert slides.distractors[k] == layout.distractor
        assert (slides.masks[k] == layout.tilted.mask(32, cells=32)).all()
        counted = [(slides.classes[k] == digit).sum() for digit in range(10)]
        assert slides.shares[k] == pytest.approx(np.array(counted) / settings.n_digits)


def test_labels_are_balanced_and_distractors_are_of_every_other_class() -> None:
    settings = replace(SMALL, classes=tuple(range(10)))
    pairs = [
        (layout.label, layout.distractor)
        for layout in (draw_layout(settings, number=number, seed=0) for number in range(1000))
    ]
    assert np.bincount([label for label, _ in pairs]).tolist() == [100] * 10
    assert len(set(pairs)) == 90
    # not simply one after the other
    assert [label for label, _ in pairs[:10]] != [label for label, _ in pairs[10:20]]


def test_a_slide_depends_on_its_number_and_seed_only() -> None:
    few = draw_slides(SMALL, SETS.test, n=2, seed=1, first=4)
    many = draw_slides(SMALL, SETS.test, n=6, seed=1)
    assert (few.images == many.images[4:]).all()
    assert (few.masks == many.masks[4:]).all()
    other = draw_slides(SMALL, SETS.test, n=2, seed=2, first=4)
    assert (other.images != few.images).any()


def test_mixtures_have_shares_of_their_own_and_no_layout() -> None:
    settings = replace(SMALL, classes=tuple(range(10)))
    slides = draw_mixtures(settings, SETS.train, n=60, seed=0)
    assert slides.shares.sum(axis=1) == pytest.approx(1)
    assert 0.04 < slides.shares[:, 7].std() < 0.15
    assert (slides.labels == EMPTY).all()
    assert not slides.masks.any()
    # a digit's place says nothing about its class
    upper = [(slides.classes[:, :16] == digit).sum() for digit in range(10)]
    lower = [(slides.classes[:, 16:] == digit).sum() for digit in range(10)]
    assert np.array(upper) == pytest.approx(np.array(lower), rel=0.12)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"fill": 0.0}, "share of the cells"),
        ({"jitter": 0.7}, "0 to 0.5 cells; got 0.7"),
        ({"cell_px": 2}, "at least 4 px"),
        ({"long_cells": (16.0, 31.0)}, "long sides are 2 to 30.2 cells"),
        ({"long_cells": (9.0, 8.0)}, "got 9 to 8"),
        ({"classes": (1,)}, "two or more of the digits"),
        ({"classes": (1, 2, 1)}, "named twice"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        replace(SMALL, **wrong)  # type: ignore[arg-type]
