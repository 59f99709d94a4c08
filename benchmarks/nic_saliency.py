"""Where nic-cnn looks on slides of digits: N7 of the specification.

    python -m benchmarks.nic_saliency [--codes vae untrained mean] [--seeds 3] [--shown 100]
        [--steps 2500] [--train 4000] [--epochs 10]

The CNN of ``nic_tasks``' easy slides learns the class of the digits in the tilted rectangle. Its
Grad-CAM for the true class is held against the cells of that rectangle on slides that it never saw:
intersection over union at equal area, and area under the ROC curve of cells. Controls: the same
heat dealt to cells at random, codes of an untrained encoder, and mean intensity.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from benchmarks.nic_tasks import N_TEST, Recipe, coded, networks_for, slides_of, store_of
from benchmarks.report import line
from gigassl.evaluate.explain.grad_cam import explain_crops
from gigassl.evaluate.explain.mil import asked_of
from gigassl.evaluate.mask_agreement import (
    Agreement,
    agreement,
    chance_agreement,
    paired_differences,
)
from gigassl.evaluate.mil.crops import CropReader
from gigassl.evaluate.mil.grid_cnn import GridCnn
from gigassl.evaluate.mil.training import FittedMil
from gigassl.slides.digit_layout import DIGIT_SLIDE_PRESETS
from gigassl.slides.digit_slides import draw_slides
from gigassl.slides.digits import read_digits
from gigassl.vectors.store_parts import subset


@dataclass(frozen=True, kw_only=True)
class Found:
    """Agreement of each slide's heat with its rectangle, and of the same heat dealt at random."""

    heat: Sequence[Agreement]
    chance: Sequence[Agreement]


def agreements(fitted: FittedMil, masks: np.ndarray, *, rows: Sequence[int], seed: int) -> Found:
    """Of slides of the task.

    Args:
        fitted: the CNN.
        masks: cells of the tilted rectangle of each slide, [slide, row, col].
        rows: of these slides in the task.
    """
    reader, generator = fitted.reader, np.random.default_rng(seed)
    assert isinstance(reader, CropReader)
    assert isinstance(fitted.model, GridCnn)
    heat, chance = [], []
    for row, mask in zip(rows, masks, strict=True):
        store = subset(reader.store, np.array([row]))
        own = replace(reader, bags=replace(reader.bags, store=store))
        asked = asked_of(fitted.task.classes, int(fitted.task.labels[row]))
        score = explain_crops(fitted.model, own, asked=asked).score
        share = mask.ravel().astype(np.float64)
        heat.append(agreement(score, share))
        chance.append(chance_agreement(score, share, generator=generator, draws=5))
    return Found(heat=heat, chance=chance)


def saliency(recipe: Recipe, *, codes: Sequence[str], steps: int, n_train: int, n: int) -> None:
    """A line a number, for the codes of each encoder, and their differences from untrained ones."""
    wanted, seed = DIGIT_SLIDE_PRESETS["easy"], recipe.seed
    given = slides_of(wanted, n_train=n_train, n_test=N_TEST, seed=seed)
    masks = draw_slides(wanted, read_digits().test, n=n, seed=seed, first=n_train).masks
    found = {}
    for name, network in networks_for(codes, steps=steps, seed=seed).items():
        fitted = recipe.fitted(
            "classification", store_of(coded(given.tiles, network)), given.labels, n_train=n_train
        )
        said = fitted.predict(np.arange(n_train, len(given.labels))).argmax(axis=1)
        accuracy = float((said == given.labels[n_train:]).mean())
        line(f"{name}, seed {seed}: accuracy", accuracy, unit="")
        rows = range(n_train, n_train + n)
        found[name] = agreements(fitted, masks, rows=rows, seed=seed)
        for title, each in (
            ("Grad-CAM", found[name].heat),
            ("dealt at random", found[name].chance),
        ):
            line(f"{name}, seed {seed}: {title}, IoU", mean_of(each, "iou"), unit="")
            line(f"{name}, seed {seed}: {title}, AUC", mean_of(each, "auc"), unit="")
    for name in found.keys() - {"untrained"}:
        if "untrained" in found:
            _show_difference(name, found[name].heat, found["untrained"].heat, seed=seed)


def mean_of(each: Sequence[Agreement], measure: str) -> float:
    """Over slides."""
    return float(np.mean([getattr(one, measure) for one in each]))


def _show_difference(
    name: str, first: Sequence[Agreement], second: Sequence[Agreement], *, seed: int
) -> None:
    for found in paired_differences(first, second, generator=np.random.default_rng(seed)):
        if found.measure in ("iou", "auc"):
            line(f"{name} - untrained, seed {seed}: {found.measure}", found.mean,
                 unit=f"[{found.low:.3f}, {found.high:.3f}] of {found.n} slides")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codes", nargs="+", default=["vae", "untrained", "mean"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shown", type=int, default=100)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(options.seeds):
        saliency(
            Recipe(epochs=options.epochs, crop=None, seed=seed), codes=options.codes,
            steps=options.steps, n_train=options.train, n=options.shown,
        )  # fmt: skip


if __name__ == "__main__":
    main()
