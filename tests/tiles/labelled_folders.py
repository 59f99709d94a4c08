"""Folders of labelled images on disk, small enough for tests."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def class_folders(
    folder: Path, classes: Mapping[str, int], *, side: int = 32, n_groups: int = 4, seed: int = 0
) -> Path:
    """So many images of each class; each class has a colour of its own, and stripes or dots.

    Names begin with their group, g0 and so on, in turn.
    """
    rng = np.random.default_rng(seed)
    for number, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        base = np.array([60 + 50 * (number % 3), 60 + 70 * (number // 3), 120], np.float64)
        for k in range(count):
            pixels = rng.normal(0.0, 12.0, (side, side, 3)) + base
            pixels[:: 2 + number] += 60
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / name / f"g{k % n_groups}_{k}.png")
    return folder
