"""Tissue detection against painted truth, on real slides, and its symmetries."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import openslide
import pytest

from gigassl.errors import SettingsError, SlideError
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.slides.tissue import TissueSettings, find_tissue
from tests.shared_data import SHARED, needs_shared

MPP = 8.0
SETTINGS = TissueSettings()
FATTY = (0.3, 0.15, 0.15, 0.15, 0.05, 0.2)


def thumbnail_and_truth(**wishes: Any) -> tuple[np.ndarray, np.ndarray]:
    slide = paint_slide(SyntheticSettings(**({"width_px": 2688, "height_px": 2240} | wishes)))
    height, width = (length // 16 for length in slide.tissue.shape)
    shrunk = cv2.resize(slide.image, (width, height), interpolation=cv2.INTER_AREA)
    truth = cv2.resize(
        slide.tissue.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA
    )
    return np.asarray(shrunk, dtype=np.uint8), truth >= 0.5


def real_thumbnail(name: str, *, mpp: float = 0.5) -> np.ndarray:
    with openslide.OpenSlide(SHARED / "data/wsi" / name) as slide:
        side = round(max(slide.dimensions) * mpp / MPP)
        return np.asarray(slide.get_thumbnail((side, side)).convert("RGB"))


@pytest.mark.parametrize(
    ("wishes", "least_precision", "least_recall"),
    [
        ({}, 0.92, 0.98),
        ({"stain_strength": 0.35}, 0.92, 0.98),
        ({"pen": "green"}, 0.92, 0.94),
        ({"pen": "blue"}, 0.92, 0.94),
        ({"pen": "black"}, 0.92, 0.94),
        ({"pen": "red"}, 0.92, 0.94),
        ({"border": True}, 0.90, 0.98),
        ({"glass_edge": True, "dust": True}, 0.92, 0.98),
        ({"composition": FATTY}, 0.92, 0.94),
        ({"fragments": 3, "tissue_fraction": 0.25}, 0.88, 0.96),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", [1, 2])
def test_finds_painted_tissue(
    wishes: dict[str, Any], least_precision: float, least_recall: float, seed: int
) -> None:
    thumbnail, truth = thumbnail_and_truth(seed=seed, **wishes)
    found = find_tissue(thumbnail, mpp=MPP, settings=SETTINGS)
    common = (found & truth).sum()
    assert common / found.sum() > least_precision
    assert common / truth.sum() > least_recall


@pytest.mark.parametrize(
    "wishes",
    [{}, {"dust": True, "glass_edge": True}, {"border": True}]
    + [{"pen": pen} for pen in ("green", "blue", "black", "red")],
    ids=str,
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_invents_nothing_on_a_blank_slide(wishes: dict[str, Any], seed: int) -> None:
    thumbnail, _ = thumbnail_and_truth(seed=seed, blank=True, **wishes)
    assert not find_tissue(thumbnail, mpp=MPP, settings=SETTINGS).any()


@pytest.mark.parametrize("tint", [(255, 255, 255), (235, 229, 235), (225, 228, 220)])
def test_tinted_glass_is_no_tissue(tint: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).normal(0, 2, (200, 300, 3))
    glass = np.clip(np.array(tint) + noise, 0, 255).astype(np.uint8)
    assert not find_tissue(glass, mpp=MPP, settings=SETTINGS).any()


@pytest.mark.parametrize("gain", [0.93, 0.97, 1.02])
def test_small_change_of_brightness_changes_little(gain: float) -> None:
    thumbnail, _ = thumbnail_and_truth(seed=4)
    changed = np.clip(thumbnail * gain, 0, 255).astype(np.uint8)
    found, again = (find_tissue(t, mpp=MPP, settings=SETTINGS) for t in (thumbnail, changed))
    assert (found != again).mean() < 0.01


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_turns_with_the_slide(turns: int, flip: bool) -> None:
    thumbnail, _ = thumbnail_and_truth(seed=4, pen="blue")

    def turned(image: np.ndarray) -> np.ndarray:
        image = np.rot90(image, turns)
        return np.ascontiguousarray(image[:, ::-1] if flip else image)

    found = turned(find_tissue(thumbnail, mpp=MPP, settings=SETTINGS))
    again = find_tissue(turned(thumbnail), mpp=MPP, settings=SETTINGS)
    assert (found != again).mean() < 0.002


def test_sizes_are_in_micrometres() -> None:
    """A hole and a speck of known size are kept or dropped by their area, whatever the mpp."""
    for mpp in (4.0, 8.0):
        image = np.full((round(2000 / mpp), round(2000 / mpp), 3), 240, dtype=np.uint8)

        def disc(at_um: tuple[int, int], radius_um: float, rgb: tuple[int, int, int]) -> None:
            centre = (round(at_um[0] / mpp), round(at_um[1] / mpp))  # noqa: B023
            cv2.circle(image, centre, round(radius_um / mpp), rgb, -1)  # noqa: B023

        pink, glass = (220, 130, 180), (240, 240, 240)
        disc((700, 700), 500, pink)
        disc((500, 700), 60, glass)  # 11,000 µm²: filled
        disc((850, 700), 140, glass)  # 62,000 µm²: stays a hole
        disc((1600, 300), 50, pink)  # 8,000 µm²: dropped
        disc((1600, 1500), 150, pink)  # 71,000 µm²: kept
        found = find_tissue(image, mpp=mpp, settings=SETTINGS)
        seen = [
            bool(found[round(y / mpp), round(x / mpp)])
            for x, y in ((700, 300), (500, 700), (850, 700), (1600, 300), (1600, 1500))
        ]
        assert seen == [True, True, False, False, True]


def test_dark_background_is_refused() -> None:
    dark = np.full((200, 200, 3), 4, dtype=np.uint8)
    cv2.circle(dark, (100, 100), 60, (10, 20, 200), -1)
    with pytest.raises(SlideError, match=r"dark background \(100% .*--tissue none") as caught:
        find_tissue(dark, mpp=MPP, settings=SETTINGS)
    assert caught.value.stage == "tissue"


def test_wide_black_border_is_not_refused() -> None:
    thumbnail, truth = thumbnail_and_truth(seed=1)
    framed = np.pad(thumbnail, ((150, 150), (200, 200), (0, 0)))
    assert (framed.max(axis=2) < 10).mean() > 0.7
    found = find_tissue(framed, mpp=MPP, settings=SETTINGS)[150:-150, 200:-200]
    assert (found & truth).sum() / (found | truth).sum() > 0.9


@needs_shared
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("CMU-1-Small-Region.svs", 0.36, 0.44), ("TCGA-CR-7395-01A-01-TS1.svs", 0.60, 0.69)],
)
def test_real_slides(name: str, low: float, high: float) -> None:
    """Shares measured on masks that were looked at."""
    found = find_tissue(real_thumbnail(name), mpp=MPP, settings=SETTINGS)
    assert low < found.mean() < high


@needs_shared
def test_real_fluorescence_slide_is_refused() -> None:
    with pytest.raises(SlideError, match="looks like a fluorescence slide"):
        find_tissue(real_thumbnail("test3-DAPI-2-387.ndpi", mpp=0.228), mpp=MPP, settings=SETTINGS)


@needs_shared
def test_solid_tissue_without_glass_is_kept() -> None:
    kept = []
    for path in sorted((SHARED / "data/glas/images").glob("*.jpg"))[::5]:
        image = cv2.cvtColor(np.asarray(cv2.imread(str(path))), cv2.COLOR_BGR2RGB)
        small = cv2.resize(image, None, fx=1 / 16, fy=1 / 16, interpolation=cv2.INTER_AREA)
        kept.append(find_tissue(np.asarray(small), mpp=MPP, settings=SETTINGS).mean())
    assert np.mean(kept) > 0.95
    assert np.mean(np.array(kept) > 0.9) > 0.85


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"floor": 0.0}, "floor must be > 0"),
        ({"close_um": -1.0}, "close_um must be ≥ 0"),
        ({"ceiling": 0.01}, "must not be below the floor"),
        ({"grow": 1.5}, "share up to 1"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        replace(SETTINGS, **wrong)
