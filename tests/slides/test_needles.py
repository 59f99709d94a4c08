"""Needles: the published counts, equal digits in both classes, no leak, equal bytes (check C1)."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from gigassl.errors import SettingsError
from gigassl.slides.digits import read_digits
from gigassl.slides.needles import NEEDLE_PRESETS, NeedleSettings, draw_needles

SETS = read_digits()


def test_the_published_sweep() -> None:
    paper = NEEDLE_PRESETS["paper"]
    assert [each.n_digits - 1 for each in paper] == [2, 6, 25, 100, 400, 1600, 6400, 14400]
    shares = [round(100 * each.o2i, 4) for each in paper]
    assert shares == [19.1406, 4.7852, 1.1963, 0.2991, 0.0748, 0.0187, 0.0047, 0.0021]
    small = NEEDLE_PRESETS["small"]
    assert [100 * each.o2i for each in small] == [25.0, 6.25, 1.5625, 0.390625]


@pytest.mark.parametrize("settings", NEEDLE_PRESETS["small"][:3], ids=lambda s: s.canvas_px)
def test_pixels_are_those_of_the_digits_one_by_one(settings: NeedleSettings) -> None:
    drawn = draw_needles(settings, SETS.train, n=4, seed=1, first=10)
    assert drawn.labels.tolist() == [0, 1, 0, 1]
    for k, label in enumerate(drawn.labels.tolist()):
        assert (drawn.classes[k] == 3).sum() == label
        assert (drawn.classes[k][0] == 3) == bool(label)
        mask = drawn.masks[k]
        assert mask.sum() == 64 * label
        if label:
            row, col = drawn.corners[k]
            assert mask[row : row + 8, col : col + 8].all()
            # the needle's own ink is there, whatever lies over it
            seen = drawn.images[k][row : row + 8, col : col + 8]
            threes = SETS.train.images[SETS.train.labels == 3]
            assert any((seen >= three).all() for three in threes)
            assert row % 16 <= 8
            assert col % 16 <= 8


def test_no_clutter_leaves_one_digit() -> None:
    drawn = draw_needles(NeedleSettings(clutter=0), SETS.train, n=40, seed=0)
    for image, digits, (row, col) in zip(
        drawn.images, drawn.classes, drawn.corners.tolist(), strict=True
    ):
        rows, cols = np.nonzero(image)
        assert max(np.ptp(rows), np.ptp(cols)) < 8
        if digits[0] == 3:
            cut = image[row : row + 8, col : col + 8]
            assert cut.sum() == image.sum()
            assert (cut == SETS.train.images[SETS.train.labels == 3]).all(axis=(1, 2)).any()


def test_overlaps_are_added_and_clipped() -> None:
    crowded = NeedleSettings(canvas_px=16, clutter=40)
    image = draw_needles(crowded, SETS.train, n=1, seed=0).images[0]
    assert image.max() == 255
    alone = draw_needles(replace(crowded, clutter=0), SETS.train, n=1, seed=0).images[0]
    assert image.mean() > 3 * alone.mean()


@pytest.mark.parametrize("settings", NEEDLE_PRESETS["small"][:3], ids=lambda s: s.canvas_px)
def test_total_intensity_says_nothing(settings: NeedleSettings) -> None:
    """Check C1: equal numbers of digits; a classifier on the sum of the pixels is at chance."""
    train = draw_needles(settings, SETS.train, n=4000, seed=0)
    test = draw_needles(settings, SETS.test, n=4000, seed=0, first=4000)
    for drawn in (train, test):
        ink = (drawn.images.reshape(len(drawn), -1) > 0).any(axis=1)
        assert ink.all()
        assert drawn.classes.shape[1] == settings.n_digits
        assert drawn.labels.mean() == 0.5
    total = [d.images.sum(axis=(1, 2), dtype=np.int64)[:, None] / 1e4 for d in (train, test)]
    accuracy = LogisticRegression().fit(total[0], train.labels).score(total[1], test.labels)
    assert 0.45 <= accuracy <= 0.55


def test_the_first_images_are_a_smaller_set_of_the_same_kind() -> None:
    few, many = (draw_needles(NeedleSettings(), SETS.train, n=n, seed=7) for n in (10, 30))
    assert few.images.tobytes() == many.images[:10].tobytes()
    assert few.labels.sum() == 5
    other = draw_needles(NeedleSettings(), SETS.train, n=10, seed=8)
    assert other.images.tobytes() != few.images.tobytes()


def test_needles_are_used_in_turn() -> None:
    settings = NeedleSettings(canvas_px=16, clutter=0)
    n_threes = int((SETS.train.labels == 3).sum())
    drawn = draw_needles(settings, SETS.train, n=4 * n_threes, seed=0)
    shown = [
        image[row : row + 8, col : col + 8].tobytes()
        for image, (row, col), label in zip(
            drawn.images, drawn.corners.tolist(), drawn.labels, strict=True
        )
        if label
    ]
    assert len(set(shown[:n_threes])) == n_threes
    assert shown[:n_threes] == shown[n_threes:]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.7])
def test_share_of_positives(share: float) -> None:
    drawn = draw_needles(NeedleSettings(positive=share), SETS.train, n=200, seed=0)
    assert drawn.labels.sum() == pytest.approx(200 * share, abs=1)
    assert drawn.labels[:40].sum() == pytest.approx(40 * share, abs=1)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"canvas_px": 40}, "multiple of the cell, 16 px; got 40"),
        ({"digit_px": 28}, "4 px to the 16 px of a cell; got 28"),
        ({"needle": 12}, "one of the digits"),
        ({"clutter": -1}, "from 0; got -1"),
        ({"positive": 1.0}, "between 0 and 1; got 1.0"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        replace(NeedleSettings(), **wrong)  # type: ignore[arg-type]
