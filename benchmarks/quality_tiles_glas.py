"""Benign or malignant on GlaS by tile encoders pretrained on the images of other patients.

SimCLR, 600 steps of 64 tiles of 119 µm. Each batch is of 16 images, four tiles each: what tells
tiles of one image from each other is not its stain. Colours of views vary more than in the preset,
for the same reason.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from benchmarks.quality_data import bundled_encoder, encoded
from benchmarks.quality_scores import Scores
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
from gigassl.tiles.networks import cut_after
from gigassl.tiles.pretrain.settings import TilePretrainSettings

FOLDS, STEPS, SIDE_PX = 4, 600, 48
_EACH, _IMAGES_A_BATCH = 16, 16  # tiles to learn from an image
PRETRAINED, RANDOM = "ResNet18, SimCLR on the training patients", "ResNet18, random weights"
IMAGENET, COLOUR = "EfficientNet-Lite0, ImageNet", "mean colour"
CUTS: Mapping[str, str] = {"": "", ", to layer3": "layer3"}
"""What a name ends in → last stage; the authors of Giga-SSL cut their ResNet18 at layer3."""

Vectors = Float32[np.ndarray, "image width"]
Fold = tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " test"]]


@dataclass(frozen=True, kw_only=True)
class Named:
    """Which training: its seed, the number of its fold, and how long."""

    seed: int
    fold: int
    steps: int


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
        """The probe of each fold on the vectors of that fold's encoder.

        Its strength is scikit-learn's own, C = 1: chosen by folds inside of twelve patients, it
        is most often so strong that all encoders do alike.
        """
        images = self.images
        logit, where = np.zeros(len(images.labels)), np.zeros(len(images.labels), np.int64)
        for number, (train, test) in enumerate(self.folds(seed)):
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000))
            probe.fit(vectors[number][train], images.labels[train])
            logit[test] = probe.decision_function(vectors[number][test])
            where[test] = number
        return Scores(logit=logit, fold=where, labels=images.labels, groups=images.groups)

    def vectors(self, network: nn.Module) -> dict[str, Vectors]:
        """All images by a network, whole and cut."""
        return {
            name: image_vectors(features_of(_cut(network, cut), self.tiles), self.picture)
            for name, cut in CUTS.items()
        }

    def pretrained(self, fold: Fold, *, seed: int, steps: int) -> dict[str, Vectors]:
        """All images by an encoder that saw those of the training patients only."""
        chosen = fold[0]
        tiles = random_tiles([self.images.pictures[i] for i in chosen], each=_EACH, seed=seed)
        source = MemoryTiles(tiles, np.repeat(chosen, _EACH), groups_a_batch=_IMAGES_A_BATCH)
        settings = glas_settings(seed=seed, steps=steps)
        return self.vectors(trained_network(source, settings, record=RESNET))


def glas_settings(*, seed: int, steps: int) -> TilePretrainSettings:
    """Settings of the training: SimCLR with more colour jitter and larger crops."""
    settings = settings_of("simclr", steps=steps, seed=seed)
    large = replace(
        settings.views.first, crop_area=(0.4, 1.0), stain=0.4, brightness=0.4, contrast=0.4,
        saturation=0.5, hue=0.1, grey_p=0.3,
    )  # fmt: skip
    views = replace(settings.views, side_px=SIDE_PX, first=large, second=large)
    return replace(settings, views=views, precision="bf16")


def _cut(network: nn.Module, stage: str) -> nn.Module:
    return cut_after(network, stage) if stage else network


def glas_scores(
    shared: Path, *, seeds: range, cache: Path, steps: int = STEPS
) -> dict[str, list[Scores]]:
    """Scores of each seed; vectors by each pretrained encoder are kept in the cache."""
    exam = GlasExam(shared)
    colour = image_vectors(mean_colour(exam.tiles), exam.picture)
    imagenet = image_vectors(encoded(bundled_encoder(), exam.tiles), exam.picture)
    found: dict[str, list[Scores]] = {}
    for seed in seeds:
        learned = {
            number: _kept(cache, exam, fold, name=Named(seed=seed, fold=number, steps=steps))
            for number, fold in enumerate(exam.folds(seed))
        }
        begun = exam.vectors(random_network(RESNET, seed=seed))
        each: dict[str, Mapping[int, Vectors]] = {
            **{PRETRAINED + cut: {n: v[cut] for n, v in learned.items()} for cut in CUTS},
            **{RANDOM + cut: dict.fromkeys(range(FOLDS), begun[cut]) for cut in CUTS},
            IMAGENET: dict.fromkeys(range(FOLDS), imagenet),
            COLOUR: dict.fromkeys(range(FOLDS), colour),
        }
        for name, vectors in each.items():
            found.setdefault(name, []).append(exam.scores(vectors, seed=seed))
    return found


def _kept(cache: Path, exam: GlasExam, fold: Fold, *, name: Named) -> dict[str, Vectors]:
    path = cache / f"glas_seed{name.seed}_fold{name.fold}_{name.steps}steps.npz"
    if not path.exists():
        vectors = exam.pretrained(fold, seed=name.seed, steps=name.steps)
        cache.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part, part.open("wb") as file:
            np.savez(file, **{f"whole{cut}": each for cut, each in vectors.items()})  # type: ignore[arg-type]
    with np.load(path, allow_pickle=False) as kept:
        return {cut: kept[f"whole{cut}"] for cut in CUTS}
