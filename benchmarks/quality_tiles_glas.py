"""Benign or malignant on GlaS by tile encoders pretrained on the images of other patients."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from sklearn.model_selection import StratifiedGroupKFold

from benchmarks.quality_data import bundled_encoder, encoded
from benchmarks.quality_scores import Scores, held_out
from benchmarks.quality_tiles_data import (
    MemoryTiles,
    Pictures,
    glas_pictures,
    grid_tiles,
    random_tiles,
)
from benchmarks.quality_tiles_exam import features_of, image_vectors, mean_colour
from benchmarks.quality_tiles_training import (
    RESNET,
    random_network,
    settings_of,
    trained_network,
)
from gigassl.files import written_whole

FOLDS, STEPS, SIDE_PX = 4, 500, 48
_EACH = 48  # tiles to learn from an image
PRETRAINED, RANDOM = "ResNet18, MoCo on the training patients", "ResNet18, random weights"
IMAGENET, COLOUR = "EfficientNet-Lite0, ImageNet", "mean colour"

Vectors = Float32[np.ndarray, "image width"]
Fold = tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " test"]]


class GlasExam:
    """All images as tiles side by side, and the folds of each seed; patients are kept together."""

    def __init__(self, shared: Path) -> None:
        self.images: Pictures = glas_pictures(shared)
        grids = [grid_tiles(picture) for picture in self.images.pictures]
        self.tiles = np.concatenate(grids)
        self.picture = np.repeat(np.arange(len(grids)), [len(grid) for grid in grids])

    def folds(self, seed: int) -> Iterator[Fold]:
        """Images of twelve patients to learn from, and of the four others, four times."""
        labels, groups = self.images.labels, self.images.groups
        return StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(  # type: ignore[no-any-return]
            labels, labels, groups
        )

    def scores(self, vectors: Mapping[int, Vectors], *, seed: int) -> Scores:
        """The probe of each fold on the vectors of that fold's encoder."""
        images = self.images
        logit, where = np.zeros(len(images.labels)), np.zeros(len(images.labels), np.int64)
        for number, fold in enumerate(self.folds(seed)):
            logit[fold[1]] = held_out(
                vectors[number], images.labels, images.groups, fold=fold, seed=seed
            )
            where[fold[1]] = number
        return Scores(logit=logit, fold=where, labels=images.labels, groups=images.groups)

    def pretrained(self, fold: Fold, *, seed: int, steps: int) -> Vectors:
        """All images by an encoder that saw those of the training patients only."""
        images, chosen = self.images, fold[0]
        tiles = random_tiles([images.pictures[i] for i in chosen], each=_EACH, seed=seed)
        source = MemoryTiles(tiles, np.repeat(images.groups[chosen], _EACH))
        settings = settings_of("moco", steps=steps, seed=seed)
        views = replace(settings.views, side_px=SIDE_PX)
        network = trained_network(source, replace(settings, views=views), record=RESNET)
        return image_vectors(features_of(network, self.tiles), self.picture)


def glas_scores(
    shared: Path, *, seeds: range, cache: Path, steps: int = STEPS
) -> dict[str, list[Scores]]:
    """Scores of each seed; vectors of each pretrained encoder are kept in the cache."""
    exam = GlasExam(shared)
    plain = {
        COLOUR: image_vectors(mean_colour(exam.tiles), exam.picture),
        IMAGENET: image_vectors(encoded(bundled_encoder(), exam.tiles), exam.picture),
    }
    found: dict[str, list[Scores]] = {name: [] for name in (PRETRAINED, RANDOM, *plain)}
    for seed in seeds:
        own = random_network(RESNET, seed=seed)
        plain[RANDOM] = image_vectors(features_of(own, exam.tiles), exam.picture)
        for name, vectors in plain.items():
            found[name].append(exam.scores(dict.fromkeys(range(FOLDS), vectors), seed=seed))
        learned = {
            number: _kept(cache, exam, fold, name=(seed, number, steps))
            for number, fold in enumerate(exam.folds(seed))
        }
        found[PRETRAINED].append(exam.scores(learned, seed=seed))
    return found


def _kept(cache: Path, exam: GlasExam, fold: Fold, *, name: tuple[int, int, int]) -> Vectors:
    seed, number, steps = name
    path = cache / f"glas_seed{seed}_fold{number}_{steps}steps.npy"
    if not path.exists():
        vectors = exam.pretrained(fold, seed=seed, steps=steps)
        cache.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part, part.open("wb") as file:
            np.save(file, vectors)
    kept: Vectors = np.load(path, allow_pickle=False)
    return kept
