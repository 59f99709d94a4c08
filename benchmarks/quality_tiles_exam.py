"""Exams of tile encoders: type of a tile by its neighbours, and images by a probe on mean features.

Columns are standardised over the tiles of the exam, which needs no labels and does random weights a
favour: their features differ most in a few columns that say little.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from benchmarks.quality_scores import Interval
from gigassl.tiles.records import IMAGENET

NEIGHBOURS = 10
_AT_ONCE = 128

Features = Float32[np.ndarray, "tile width"]


@torch.inference_mode()
def features_of(network: nn.Module, tiles: UInt8[np.ndarray, "tile row col 3"]) -> Features:
    """What a network says of tiles at the size they have, with ImageNet's normalisation."""
    network.eval()
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in IMAGENET)
    parts = []
    for start in range(0, len(tiles), _AT_ONCE):
        some = torch.from_numpy(tiles[start : start + _AT_ONCE])
        images = (some.permute(0, 3, 1, 2).float() / 255 - mean) / std
        parts.append(network(images).float().numpy())
    return np.concatenate(parts)


def mean_colour(tiles: UInt8[np.ndarray, "tile row col 3"]) -> Features:
    """Red, green and blue of each tile: what an encoder must beat."""
    return np.asarray(tiles.mean(axis=(1, 2), dtype=np.float64), np.float32)


def standardised(features: Features) -> Features:
    """Columns of mean 0 and spread 1; those that never change are 0."""
    spread = features.std(axis=0)
    scaled: Features = (features - features.mean(axis=0)) / np.where(spread > 1e-6, spread, np.inf)
    return scaled


def named_rightly(
    features: Features, *, labels: Int64[np.ndarray, " tile"], groups: Int64[np.ndarray, " tile"]
) -> Bool[np.ndarray, " tile"]:
    """Whether most of the ten tiles of *other* patients that are nearest by cosine are of its type.

    Nearer ones count more.
    """
    right = np.zeros(len(labels), bool)
    for group in np.unique(groups):
        own = groups == group
        nearest = KNeighborsClassifier(NEIGHBOURS, metric="cosine", weights="distance")
        nearest.fit(features[~own], labels[~own])
        right[own] = nearest.predict(features[own]) == labels[own]
    return right


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Which tiles of the exam each seed of an encoder named rightly.

    Attributes:
        right: one row a seed.
        groups: patient of each tile.
    """

    right: Bool[np.ndarray, "seed tile"]
    groups: Int64[np.ndarray, " tile"]

    @property
    def seeds(self) -> Sequence[float]:
        """Accuracy of each seed."""
        return tuple(float(x) for x in self.right.mean(axis=1))

    @property
    def interval(self) -> Interval:
        """Accuracy with its 95 % interval over patients and seeds, both drawn anew."""
        return _interval(self.right.astype(np.float64), self.groups)

    def minus(self, other: "Answers") -> Interval:
        """How much better than another encoder, on the same tiles of the same patients.

        An encoder without seeds has one row, which stands for all.
        """
        return _interval(self.right.astype(np.float64) - other.right, self.groups)


def _interval(
    values: np.ndarray, groups: Int64[np.ndarray, " tile"], *, draws: int = 2000
) -> Interval:
    """Mean over tiles; intervals draw patients with replacement, and seeds."""
    rng = np.random.default_rng(0)
    patient = np.unique(groups, return_inverse=True)[1]
    tiles = np.bincount(patient).astype(np.float64)
    sums = np.stack([np.bincount(patient, weights=row) for row in values])
    found = []
    for _ in range(draws):
        drawn = rng.integers(len(tiles), size=len(tiles))
        seeds = rng.integers(len(sums), size=len(sums))
        found.append(sums[seeds][:, drawn].sum() / (tiles[drawn].sum() * len(seeds)))
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(value=float(values.mean()), low=float(low), high=float(high))


def image_vectors(
    features: Features, picture: Int64[np.ndarray, " tile"]
) -> Float32[np.ndarray, "image width"]:
    """Mean features of the tiles of each image."""
    sums = np.zeros((int(picture.max()) + 1, features.shape[1]))
    np.add.at(sums, picture, features)
    return np.asarray(sums / np.bincount(picture)[:, None], np.float32)
