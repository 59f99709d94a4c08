"""Do tile encoders pretrained here learn: every method on painted tiles, and SimCLR on GlaS.

    python -m benchmarks.quality_tiles --synthetic|--glas|--quick [--out DIR] [--seeds 3]

Synthetic: a small network learns, without labels, from tiles of 24 patients; the exam is the tissue
type of tiles of twelve other patients, each named by its nearest tiles of the other ones. GlaS:
benign or malignant of images whose patients neither the encoder nor the probe has seen. Beside each
the same network with random weights, and mean colour. Intervals draw patients and seeds anew.
"""

import argparse
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# as the program does, before torch loads: threads that wait must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from benchmarks.quality_scores import Interval, Scores, difference, drawn_interval
from benchmarks.quality_tiles_data import MemoryTiles, PaintedTiles, painted_tiles
from benchmarks.quality_tiles_exam import (
    Answers,
    features_of,
    mean_colour,
    named_rightly,
    standardised,
)
from benchmarks.quality_tiles_glas import CUTS, PRETRAINED, RANDOM, glas_scores
from benchmarks.quality_tiles_training import (
    RECIPES,
    RESNET,
    VIT,
    random_network,
    settings_of,
    trained_network,
)
from benchmarks.report import line
from gigassl.report.figures import new_figure, save_figure
from gigassl.tiles.encoders import plain_network

TRAINING, EXAM = range(100, 124), range(1000, 1012)
_CONTROL, _OURS = "#8a8a8a", "#0072b2"


def answers(features: Sequence[np.ndarray], exam: PaintedTiles) -> Answers:
    """What each seed's features get right."""
    right = [
        named_rightly(standardised(each), labels=exam.labels, groups=exam.groups)
        for each in features
    ]
    return Answers(right=np.stack(right), groups=exam.groups)


def synthetic(methods: Sequence[str], *, seeds: range, share: float = 1.0) -> dict[str, Answers]:
    """Answers of every method, of the networks as they begin, and of controls.

    Args:
        share: of each recipe's steps that is taken.
    """
    learned_from = painted_tiles(TRAINING, each=20)
    source = MemoryTiles(learned_from.tiles, learned_from.groups)
    exam = painted_tiles(EXAM, each=20)
    found = {"mean colour": answers([mean_colour(exam.tiles)], exam)}
    imagenet = plain_network("efficientnet-lite0")
    found["EfficientNet-Lite0, ImageNet"] = answers([features_of(imagenet, exam.tiles)], exam)
    for record in (RESNET, VIT):
        begun = [features_of(random_network(record, seed=s), exam.tiles) for s in seeds]
        found[f"{record.name}, random weights"] = answers(begun, exam)
    for method in methods:
        recipe, features, begin = RECIPES[method], [], time.process_time()
        for seed in seeds:
            settings = settings_of(method, steps=round(share * recipe.steps), seed=seed)
            network = trained_network(source, settings, record=recipe.network)
            features.append(features_of(network, exam.tiles))
        found[f"{recipe.network.name}, {method}"] = answers(features, exam)
        line(f"{method}: one training", (time.process_time() - begin) / len(seeds), unit="CPU s")
    return found


def show_synthetic(found: Mapping[str, Answers], out: Path) -> None:
    """Prints accuracies, and how much better each method is than its random weights."""
    for name, each in found.items():
        line(f"kNN accuracy: {name}", each.interval.value, unit=f"{_listed(each.seeds)}")
        begun = f"{name.partition(',')[0]}, random weights"
        if begun in found and name != begun:
            print(f"{'':6}minus random weights {each.minus(found[begun])}", flush=True)
    bars({name: each.interval for name, each in found.items()}, out / "quality_tiles_synthetic",
         title="Tissue type of painted tiles of other patients: kNN accuracy")  # fmt: skip


def show_glas(found: Mapping[str, list[Scores]], out: Path) -> None:
    """Prints AUCs, and what pretraining is worth."""
    for name, runs in found.items():
        pooled = _listed([each.pooled for each in runs])
        line(f"pooled AUC: {name}", float(np.mean([r.pooled for r in runs])), unit=pooled)
        fold_mean = _listed([each.fold_mean for each in runs])
        line(f"mean AUC of folds: {name}", float(np.mean([r.fold_mean for r in runs])),
             unit=fold_mean)  # fmt: skip
    for cut in CUTS:
        gain = difference(found[PRETRAINED + cut], found[RANDOM + cut])
        print(f"pooled AUC, pretrained minus random weights{cut}: {gain}")
    bars({name: drawn_interval(runs) for name, runs in found.items()}, out / "quality_tiles_glas",
         title="GlaS, benign or malignant, patients held out: pooled AUC")  # fmt: skip


def _listed(values: Sequence[float]) -> str:
    return f"(seeds {' '.join(f'{value:.3f}' for value in values)})"


def bars(values: Mapping[str, Interval], stem: Path, *, title: str) -> None:
    """Draws one dot with its interval an encoder, best below."""
    figure = new_figure(8.0, 1.2 + 0.32 * len(values))
    axis = figure.subplots()
    ordered = sorted(values.items(), key=lambda item: item[1].value)
    for place, (name, each) in enumerate(ordered):
        control = any(word in name for word in ("random", "ImageNet", "colour"))
        colour = _CONTROL if control else _OURS
        axis.plot([each.low, each.high], [place, place], color=colour, linewidth=2)
        axis.plot([each.value], [place], "o", color=colour)
    axis.set_yticks(range(len(ordered)), [name for name, _ in ordered], fontsize=9)
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_xlabel("mean and 95 % interval over patients and seeds; grey: controls", fontsize=9)
    axis.grid(visible=True, axis="x", color="#e5e5e5", linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    stem.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, stem)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--synthetic", action="store_true", help="every method, painted tiles")
    options.add_argument("--glas", action="store_true", help="SimCLR on GlaS")
    options.add_argument("--quick", action="store_true", help="one method, one seed, few steps")
    options.add_argument("--methods", default=",".join(RECIPES))
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--shared", default=os.environ.get("GIGASSL_SHARED", "../shared"))
    options.add_argument("--out", default="quality_tiles", help="folder of figures and vectors")
    given = options.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("gigassl").setLevel(logging.ERROR)
    out, seeds = Path(given.out), range(given.seeds)
    if given.quick:
        show_synthetic(synthetic(["simclr"], seeds=range(1), share=0.25), out)
    if given.synthetic:
        show_synthetic(synthetic(given.methods.split(","), seeds=seeds), out)
    if given.glas:
        show_glas(glas_scores(Path(given.shared), seeds=seeds, cache=out), out)


if __name__ == "__main__":
    main()
