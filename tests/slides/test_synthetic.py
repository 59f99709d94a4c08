"""Synthetic slides: same seed, same bytes; the truth is true; OpenSlide opens what is written."""

import csv
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import openslide
import pytest

from gigassl.errors import SettingsError
from gigassl.slides.paint import TISSUE_TYPES
from gigassl.slides.slide_files import JpegCoding, SlideFileSettings, save_image
from gigassl.slides.synthetic import (
    SyntheticSettings,
    make_cohort,
    paint_slide,
    save_slide,
    save_tiled_slide,
)

SMALL = SyntheticSettings(width_px=1568, height_px=1344, seed=5)


def tile_means(settings: SyntheticSettings) -> tuple[np.ndarray, np.ndarray]:
    """Types of the squares that are all tissue, and mean and spread of colour of each."""
    slide = paint_slide(settings)
    side, rows = settings.cell_px, []
    whole = []
    for row, col in np.argwhere(slide.types >= 0):
        place = (slice(row * side, (row + 1) * side), slice(col * side, (col + 1) * side))
        if slide.tissue[place].mean() == 1:
            pixels = slide.image[place].reshape(-1, 3).astype(float)
            whole.append(slide.types[row, col])
            rows.append(np.concatenate([pixels.mean(axis=0), pixels.std(axis=0)]))
    return np.array(whole), np.array(rows)


def test_a_seed_gives_the_same_file_and_another_seed_another(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_slide(paint_slide(SMALL), tmp_path / f"{name}.svs")
    save_slide(paint_slide(replace(SMALL, seed=6)), tmp_path / "c.svs")
    a, b, c = ((tmp_path / f"{name}.svs").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_truth_matches_the_picture() -> None:
    slide = paint_slide(replace(SMALL, pen="green", border=True))
    assert slide.tissue.shape == slide.image.shape[:2]
    inside = slide.image[slide.tissue].astype(float).mean(axis=0)
    assert inside[1] < inside[0]
    assert inside[1] < inside[2]
    frame = slide.image[:20].max()
    assert frame < 10
    assert not slide.tissue[:20].any()
    blank = paint_slide(replace(SMALL, blank=True))
    assert not blank.tissue.any()
    assert (blank.types == -1).all()
    assert blank.image.min() > 220


def test_arrangements_hold_the_same_squares_in_another_order() -> None:
    big = replace(SMALL, width_px=2688, height_px=2688)
    mixed, clustered = (paint_slide(replace(big, arrangement=a)) for a in ("mixed", "clustered"))
    assert (mixed.tissue == clustered.tissue).all()
    assert (np.bincount(mixed.types[mixed.types >= 0]) == np.bincount(
        clustered.types[clustered.types >= 0]
    )).all()  # fmt: skip

    def same_neighbour(types: np.ndarray) -> float:
        left, right = types[:, :-1], types[:, 1:]
        both = (left >= 0) & (right >= 0)
        return float((left == right)[both].mean())

    assert same_neighbour(clustered.types) > same_neighbour(mixed.types) + 0.25


def test_average_over_tiles_cannot_tell_arrangements_apart() -> None:
    """Arrangements of a seed differ far less than compositions do."""
    big = replace(SMALL, width_px=2240, height_px=2240, stain_variation=0.0)
    other = replace(big, composition=(0.35, 0.10, 0.15, 0.30, 0.10, 0.0))
    by_arrangement, by_composition = [], []
    for seed in range(3):
        base = tile_means(replace(big, seed=seed))[1].mean(axis=0)
        moved = tile_means(replace(big, seed=seed, arrangement="clustered"))[1].mean(axis=0)
        changed = tile_means(replace(other, seed=seed))[1].mean(axis=0)
        by_arrangement.append(base - moved)
        by_composition.append(base - changed)
    # what is left between arrangements is where the common stroma shows between the squares
    assert np.abs(by_arrangement).max() < 0.4
    assert np.linalg.norm(by_composition, axis=1).min() > 3


def test_types_differ_visibly() -> None:
    settings = replace(
        SMALL, width_px=2240, height_px=2240, composition=(1 / 6,) * 6, stain_variation=0.0
    )
    types, features = tile_means(settings)
    centres = np.stack([features[types == t].mean(axis=0) for t in range(len(TISSUE_TYPES))])
    nearest = np.linalg.norm(features[:, None] - centres[None], axis=2).argmin(axis=1)
    assert (nearest == types).mean() > 0.85


@pytest.mark.parametrize("vendor", ["aperio", "generic"])
@pytest.mark.parametrize("coding", get_args(JpegCoding))
def test_openslide_shows_what_was_written(tmp_path: Path, coding: JpegCoding, vendor: str) -> None:
    image = paint_slide(replace(SMALL, width_px=700, height_px=530)).image
    path = tmp_path / f"s.{'svs' if vendor == 'aperio' else 'tiff'}"
    save_image(
        image,
        path,
        mpp=0.25,
        settings=SlideFileSettings(coding=coding, vendor=vendor, quality=95),  # type: ignore[arg-type]
    )
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (700, 530)
        assert slide.level_count == 3
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25, rel=1e-6)
        seen = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
        half = np.asarray(slide.read_region((0, 0), 1, slide.level_dimensions[1]).convert("RGB"))
    assert np.abs(seen.astype(int) - image).mean() < 4
    small = image[:528, :700].reshape(132, 4, 175, 4, 3).mean(axis=(1, 3))
    assert np.abs(half - small).mean() < 4


@pytest.mark.parametrize("vendor", ["aperio", "generic"])
def test_resolution_can_be_left_out(tmp_path: Path, vendor: str) -> None:
    image = np.full((300, 300, 3), 240, dtype=np.uint8)
    settings = SlideFileSettings(with_mpp=False, vendor=vendor)  # type: ignore[arg-type]
    save_image(image, tmp_path / "s.tiff", mpp=0.5, settings=settings)
    with openslide.OpenSlide(tmp_path / "s.tiff") as slide:
        assert "openslide.mpp-x" not in slide.properties
        assert "openslide.objective-power" not in slide.properties


def test_huge_slide_is_quick_small_and_consistent_over_levels(tmp_path: Path) -> None:
    start = time.process_time()
    save_tiled_slide(tmp_path / "h.svs", width_px=100_000, height_px=90_000)
    assert time.process_time() - start < 10
    assert (tmp_path / "h.svs").stat().st_size < 20_000_000
    with openslide.OpenSlide(tmp_path / "h.svs") as slide:
        assert slide.dimensions == (100_000, 90_000)
        assert float(slide.properties["openslide.mpp-x"]) == 0.25
        for x, y in ((50_000, 45_000), (1_000, 1_000), (30_000, 60_000)):
            fine = np.asarray(slide.read_region((x, y), 0, (1024, 1024)).convert("RGB"))
            for level, side in ((1, 256), (2, 64), (3, 16)):
                coarse = np.asarray(slide.read_region((x, y), level, (side, side)).convert("RGB"))
                assert np.abs(coarse.mean((0, 1)) - fine.mean((0, 1))).max() < 6


def test_cohort_crosses_its_labels_and_hides_one_resolution(tmp_path: Path) -> None:
    table = make_cohort(tmp_path / "new" / "cohort", n_slides=8, side_px=1120)
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    pairs = [(row["composition"], row["arrangement"]) for row in rows]
    assert len(rows) == 8
    assert len(set(pairs)) == 4
    assert all(pairs.count(pair) == 2 for pair in pairs)
    assert len({row["patient_id"] for row in rows}) == 4
    for row in rows:
        with openslide.OpenSlide(table.parent / row["path"]) as slide:
            assert slide.dimensions == (1120, 1120)
            assert ("openslide.mpp-x" in slide.properties) == (row["mpp"] == "")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"width_px": 100}, "at least two squares"),
        ({"composition": (1.0,)}, "a share ≥ 0 for each of stroma, tumour"),
        ({"composition": (0.0,) * 6}, "at least one share above 0"),
        ({"tissue_fraction": 1.5}, "at most 0.8; got 1.5"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        replace(SMALL, **wrong)  # type: ignore[arg-type]
