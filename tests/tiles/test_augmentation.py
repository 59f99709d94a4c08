"""Augmentation: each operation against Pillow or a slow version, draws against torchvision's."""

import colorsys
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import UInt8
from PIL import Image, ImageEnhance
from torchvision.transforms import v2

from gigassl.digests import plain
from gigassl.errors import SettingsError
from gigassl.tiles.augmentation import (
    Augmentation,
    AugmentationSettings,
    augmentation_from_record,
    augmented,
    draw_augmentation,
)

Pixels = UInt8[np.ndarray, "tile row col 3"]
N_DRAWS = 2000


@pytest.fixture(scope="module")
def tiles() -> Pixels:
    """Smooth coloured tiles with edges: noise alone would hide errors of the resizing."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    return np.stack([cv2.resize(tile, (64, 64)) for tile in coarse])


def apply(tiles: Pixels, drawn: Augmentation, *, side_px: int = 64) -> Pixels:
    found: Pixels = augmented(torch.from_numpy(tiles), drawn, side_px=side_px).numpy()
    return found


def furthest(found: Pixels, expected: Pixels) -> int:
    return int(np.abs(found.astype(int) - expected.astype(int)).max())


def enhanced(kind: Any, factor: float) -> Any:
    return lambda image: kind(image).enhance(factor)


def turned(image: Image.Image, turn: float) -> Image.Image:
    """Pixel by pixel with the standard library."""
    pixels = []
    for red, green, blue in (np.asarray(image).reshape(-1, 3) / 255).tolist():
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        pixels.append(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value))
    return Image.fromarray(np.rint(np.reshape(pixels, (64, 64, 3)) * 255).astype(np.uint8))


def blurred(image: Image.Image) -> Image.Image:
    return Image.fromarray(cv2.GaussianBlur(np.asarray(image), (5, 5), 0.7))


def cropped(image: Image.Image) -> Image.Image:
    # 32 rows and 48 columns, at half of the 33 and a quarter of the 17 places there are
    return image.crop((4, 16, 52, 48)).resize((64, 64), Image.Resampling.BILINEAR)


@pytest.mark.parametrize(
    ("drawn", "slow", "tolerance"),
    [
        (Augmentation(), lambda image: image, 0),
        (Augmentation(crop_height=0.5, crop_width=0.75, crop_top=0.5, crop_left=0.25), cropped, 1),
        (Augmentation(jitter=(("brightness", 0.7),)), enhanced(ImageEnhance.Brightness, 0.7), 1),
        (Augmentation(jitter=(("contrast", 1.3),)), enhanced(ImageEnhance.Contrast, 1.3), 2),
        (Augmentation(jitter=(("saturation", 0.6),)), enhanced(ImageEnhance.Color, 0.6), 1),
        (Augmentation(jitter=(("hue", 0.15),)), lambda image: turned(image, 0.15), 1),
        (Augmentation(jitter=(("hue", -0.2),)), lambda image: turned(image, -0.2), 1),
        (Augmentation(grey=True), lambda image: image.convert("L").convert("RGB"), 1),
        (Augmentation(blur_sigma=0.7), blurred, 1),
        (Augmentation(flip_x=True), lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 0),
        (Augmentation(flip_y=True), lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM), 0),
        (Augmentation(quarter_turns=1), lambda i: i.transpose(Image.Transpose.ROTATE_90), 0),
    ],
)
def test_each_operation_is_pillows(
    tiles: Pixels, drawn: Augmentation, slow: Any, tolerance: int
) -> None:
    expected = np.stack([np.asarray(slow(Image.fromarray(tile))) for tile in tiles])
    assert furthest(apply(tiles, drawn), expected) <= tolerance
    assert drawn == Augmentation() or furthest(expected, tiles) > 10, "it does something"


def test_operations_follow_in_the_published_order(tiles: Pixels) -> None:
    drawn = Augmentation(
        crop_height=0.7, crop_width=0.8, jitter=(("contrast", 1.3), ("hue", 0.1)), grey=True,
        blur_sigma=0.9,
    )  # fmt: skip
    one_by_one = apply(tiles, Augmentation(crop_height=0.7, crop_width=0.8))
    for name in (("contrast", 1.3), ("hue", 0.1)):
        one_by_one = apply(one_by_one, Augmentation(jitter=(name,)))
    one_by_one = apply(apply(one_by_one, Augmentation(grey=True)), Augmentation(blur_sigma=0.9))
    assert furthest(apply(tiles, drawn), one_by_one) <= 2  # rounded once instead of five times
    other = apply(tiles, replace(drawn, jitter=drawn.jitter[::-1], grey=False))
    assert furthest(apply(tiles, replace(drawn, grey=False)), other) > 2


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_all_tiles_of_a_batch_get_the_same(seed: int) -> None:
    generator = np.random.default_rng(seed)
    batch = generator.integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
    batch[2] = batch[0]
    every = AugmentationSettings(stain=0.3, flips=True, turns=True)
    drawn = draw_augmentation(every, generator)
    found = apply(batch, drawn, side_px=24)
    assert found.shape == (3, 24, 24, 3)
    assert np.array_equal(found[0], found[2])
    alone = np.concatenate([apply(batch[i : i + 1], drawn, side_px=24) for i in range(3)])
    assert furthest(found, alone) <= 1


def draws(what: AugmentationSettings) -> list[Augmentation]:
    generator = np.random.default_rng(1)
    return [draw_augmentation(what, generator) for _ in range(N_DRAWS)]


def test_draws_have_the_published_ranges_and_probabilities() -> None:
    found = draws(AugmentationSettings())
    areas = np.array([d.crop_height * d.crop_width for d in found])
    ratios = np.array([d.crop_width / d.crop_height for d in found])
    assert 0.5 <= areas.min() < 0.52
    assert 0.9 < areas.max() <= 1
    assert 0.75 <= ratios.min() < 0.8
    assert 1.25 < ratios.max() <= 4 / 3
    for share, expected in (
        (np.mean([bool(d.jitter) for d in found]), 0.8),
        (np.mean([d.grey for d in found]), 0.2),
        (np.mean([d.blur_sigma is not None for d in found]), 0.5),
    ):
        assert abs(share - expected) < 0.04
    for name, low, high in (
        ("brightness", 0.6, 1.4), ("contrast", 0.6, 1.4), ("saturation", 0.6, 1.4),
        ("hue", -0.2, 0.2),
    ):  # fmt: skip
        values = [dict(d.jitter)[name] for d in found if d.jitter]
        assert low <= min(values) < low + 0.01
        assert high - 0.01 < max(values) <= high
    sigmas = [d.blur_sigma for d in found if d.blur_sigma is not None]
    assert 0.1 <= min(sigmas) < 0.11
    assert 0.99 < max(sigmas) <= 1
    assert len({tuple(name for name, _ in d.jitter) for d in found if d.jitter}) == 24
    assert all(not d.flip_x and not d.flip_y and d.quarter_turns == 0 for d in found)
    assert all(d.stain is None for d in found)


def test_crops_are_distributed_as_torchvisions() -> None:
    found = draws(AugmentationSettings())
    image = torch.zeros(3, 1000, 1000)
    crop = v2.RandomResizedCrop(224, scale=(0.5, 1.0))
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        theirs = [crop.make_params([image]) for _ in range(N_DRAWS)]
    for mine, name in (("crop_height", "height"), ("crop_width", "width")):
        ours = np.array([getattr(d, mine) for d in found])
        other = np.array([params[name] for params in theirs]) / 1000
        assert abs(ours.mean() - other.mean()) < 0.01
        assert abs(ours.std() - other.std()) < 0.01
    tops = np.array([d.crop_top * (1 - d.crop_height) for d in found])
    assert abs(tops.mean() - np.mean([p["top"] for p in theirs]) / 1000) < 0.01


def test_optional_operations_leave_the_other_draws_as_they_are() -> None:
    with_all = draws(AugmentationSettings(stain=0.2, flips=True, turns=True))
    without = draws(AugmentationSettings())
    plainer = [
        replace(d, stain=None, flip_x=False, flip_y=False, quarter_turns=0) for d in with_all
    ]
    assert plainer == without
    assert {d.quarter_turns for d in with_all} == {0, 1, 2, 3}
    assert {(d.flip_x, d.flip_y) for d in with_all} == {(a, b) for a in (0, 1) for b in (0, 1)}
    alphas = [d.stain[0][0] for d in with_all if d.stain]
    assert len(alphas) == N_DRAWS
    assert 0.8 <= min(alphas) < 0.81
    assert 1.19 < max(alphas) <= 1.2


def test_settings_survive_json() -> None:
    import json

    given_once = AugmentationSettings(stain=0.2, crop_area=(0.7, 0.9))
    assert augmentation_from_record(json.loads(json.dumps(plain(given_once)))) == given_once


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"crop_area": (0.5, 1.2)}, "crop_area is a share of the tile; got 1.2"),
        ({"crop_ratio": (2.0, 1.0)}, "crop_ratio goes from a positive number up; got 2.0 to 1.0"),
        ({"hue": 0.6}, "hue lies from 0 to 0.5; got 0.6"),
        ({"grey_p": 1.1}, "grey_p lies from 0 to 1; got 1.1"),
        ({"stain": 1.0}, "stain lies from 0 to 0.9"),
        ({"blur_px": 4}, "blur_px is an odd number of px; got 4"),
    ],
)
def test_wrong_settings_get_a_sentence(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        AugmentationSettings(**wrong)
