"""Published bags as bag files and label tables, so that commands can be run on them."""

import csv
from pathlib import Path

import numpy as np

from benchmarks.quality_data import FeatureSet
from gigassl.bags.bag import Bag, BagInfo, save_bag

GLAS_MPP = 0.62005
"""Resolution of the GlaS images, µm/px (20 ×)."""


def glas_bag_files(data: FeatureSet, folder: Path) -> Path:
    """Writes one bag file an image, and ``labels.csv`` beside them; returns the table's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(data.names):
        rows = data.rows(number)
        info = BagInfo(
            slide_id=name, encoder="efficientnet-lite0", mpp_l0=GLAS_MPP, mpp_source="published",
            tile_px=data.tile_px, side_l0=float(data.tile_px), target_mpp=GLAS_MPP,
            effective_mpp=GLAS_MPP,
        )  # fmt: skip
        bag = Bag(
            features=data.features[rows].astype(np.float16), coords=data.coords[rows], info=info
        )
        save_bag(bag, folder / f"{name}.h5")
    grades = [("benign", "malignant")[label] for label in data.labels]
    return _table(folder / "labels.csv", list(zip(data.names, data.patients, grades, strict=True)))


def classic_bag_files(source: Path, folder: Path) -> Path:
    """The same for a classic set (``X``, ``bag``, ``y``), whose rows have no place or resolution.

    Rows lie behind one another at 1 µm/px; methods that look at positions must not be run on them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(source, allow_pickle=False) as held:
        features, bag, labels = held["X"], held["bag"], held["y"]
    names = [f"{source.stem}_{number:02}" for number in range(len(labels))]
    for name, number in zip(names, np.unique(bag), strict=True):
        mine = features[bag == number]
        coords = np.stack([np.arange(len(mine)), np.zeros(len(mine), np.int64)], axis=1)
        info = BagInfo(
            slide_id=name, encoder=source.stem, mpp_l0=1.0, mpp_source="none", tile_px=1,
            side_l0=1.0, target_mpp=1.0, effective_mpp=1.0,
        )  # fmt: skip
        save_bag(Bag(features=mine, coords=coords, info=info), folder / f"{name}.h5")
    rows = [(name, name, str(label)) for name, label in zip(names, labels, strict=True)]
    return _table(folder / "labels.csv", rows)


def _table(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerows([("slide_id", "patient_id", "label"), *rows])
    return path
