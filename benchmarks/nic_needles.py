"""Needles: checks C1 to C4 of the acceptance measurements, medians of three seeds, with controls.

    python -m benchmarks.nic_needles [--checks C1,C2,C3,C4] [--seeds 3] [--threads 1]

C1: positive and negative images hold equally many digits, and their total intensity says nothing.
C2: accuracy over object-to-image ratio and number of images at a constant number of updates.
C3: pooling at an object-to-image ratio of 1.6 %.
C4: receptive fields by calculation and by the footprint of gradients.
Controls: a logistic regression on the total intensity of an image, and one on the pooled maps of a
network with random weights.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from time import perf_counter

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.report import line
from gigassl.evaluate.needles.curve import (
    NeedleCurveSettings,
    NeedlePoint,
    NeedleVariant,
    median_point,
    run_cell,
)
from gigassl.evaluate.needles.network import PAPER_NETWORK, NeedleNetwork, NeedleNetworkSettings
from gigassl.evaluate.needles.training import as_input, new_needle_network
from gigassl.pipeline.synth_needles import needle_digits
from gigassl.slides.digits import read_digits
from gigassl.slides.needles import NeedleImages, NeedleSettings, draw_needles

SETS = read_digits()
DIGITS = needle_digits(SETS)
FIELDS = ((1, 1, 0, 0), (1, 1, 1, 0), (1, 1, 1, 1), (3, 4, 6, 3))


def images(canvas_px: int, *, n: int, seed: int) -> tuple[NeedleImages, NeedleImages]:
    settings = NeedleSettings(canvas_px=canvas_px)
    return (
        draw_needles(settings, SETS.train, n=n, seed=seed),
        draw_needles(settings, SETS.test, n=800, seed=seed, first=n),
    )


def intensity_accuracy(train: NeedleImages, test: NeedleImages) -> float:
    """Accuracy of a logistic regression on the sum of all pixels."""
    sums = [each.images.sum(axis=(1, 2), dtype=np.int64)[:, None] / 1e4 for each in (train, test)]
    return float(LogisticRegression().fit(sums[0], train.labels).score(sums[1], test.labels))


def untrained_accuracy(train: NeedleImages, test: NeedleImages, *, seed: int) -> float:
    """Accuracy of a logistic regression on the largest values of a random network's maps."""
    network = new_needle_network(NeedleNetworkSettings(), seed=seed).eval()
    with torch.inference_mode():
        pooled = [
            torch.cat([network.maps(as_input(part)).amax(dim=(2, 3))
                       for part in np.array_split(each.images, 8)]).numpy()
            for each in (train, test)
        ]  # fmt: skip
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    return float(model.fit(pooled[0], train.labels).score(pooled[1], test.labels))


def check_c1(seeds: Sequence[int]) -> None:
    for canvas in (16, 32, 64):
        found = []
        for seed in seeds:
            train, test = images(canvas, n=4000, seed=seed)
            found.append(intensity_accuracy(train, test))
            counts = {len(row) for row in train.classes}
            if len(counts) > 1:
                raise SystemExit(f"C1: images hold {counts} digits")
        line(f"C1 total intensity, {canvas} px (.45 to .55)", median(found), unit="accuracy")


def trained(variant: NeedleVariant, *, canvas: int, n: int, seeds: Sequence[int]) -> NeedlePoint:
    """The median training of several seeds; prints how long one took."""
    settings = NeedleCurveSettings(
        variants=(variant,), sweep=(NeedleSettings(canvas_px=canvas),), train_sizes=(n,),
        seeds=tuple(seeds),
    )  # fmt: skip
    begin = perf_counter()
    points = [run_cell(cell, DIGITS)[0] for cell in settings.cells()]
    title = f"{variant.name}, {canvas} px, n = {n}"
    line(f"   a training, {title}", (perf_counter() - begin) / len(points), unit="s")
    return median_point(points)


def controls(canvas: int, n: int, seeds: Sequence[int]) -> None:
    drawn = [(images(canvas, n=n, seed=seed), seed) for seed in seeds]
    by_sum = median(intensity_accuracy(train, test) for (train, test), _ in drawn)
    random = median(untrained_accuracy(train, test, seed=seed) for (train, test), seed in drawn)
    line(f"   control, total intensity, {canvas} px, n = {n}", by_sum, unit="accuracy")
    line(f"   control, random network, {canvas} px, n = {n}", random, unit="accuracy")


def check_c2(seeds: Sequence[int]) -> None:
    found: dict[tuple[int, int], float] = {}
    variant = NeedleVariant(name="max, 13 px")
    for canvas in (16, 32):
        for n in (400, 1600):
            point = trained(variant, canvas=canvas, n=n, seeds=seeds)
            found[canvas, n] = point.test.accuracy
            line(f"C2 max pooling, O2I {100 * point.o2i:.3g} %, n = {n}", point.test.accuracy,
                 unit="accuracy")  # fmt: skip
        controls(canvas, 1600, seeds)
    line("C2 both at n = 1,600, the lower (≥ .80)", min(found[16, 1600], found[32, 1600]), unit="")
    line("C2 gain of n at 6.25 % (≥ .15)", found[32, 1600] - found[32, 400], unit="")


def check_c3(seeds: Sequence[int]) -> None:
    for pooling in ("mean", "max", "lse", "attention"):
        network = NeedleNetworkSettings(pooling=pooling)
        point = trained(
            NeedleVariant(name=pooling, network=network), canvas=64, n=1600, seeds=seeds
        )
        gate = {"mean": " (train ≤ .60)", "max": " (test ≥ .70)"}.get(pooling, "")
        line(f"C3 {pooling} pooling, train{gate}", point.last_train_accuracy, unit="accuracy")
        line(f"C3 {pooling} pooling, test{gate}", point.test.accuracy, unit="accuracy")
    controls(64, 1600, seeds)


def footprint(settings: NeedleNetworkSettings) -> int:
    """Pixels in a row that one place of the last map depends on, by its gradient."""
    network = NeedleNetwork(replace(settings, width=1, norm="batch")).eval()
    with torch.no_grad():
        for parameter in network.parameters():  # positive: nothing cancels, no ReLU is shut
            parameter.abs_().clamp_(min=0.1)
    side = settings.field_px + 63
    pixels = torch.ones(1, 1, side, side, requires_grad=True)
    maps = network.maps(pixels)
    middle = maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2].sum()
    (gradient,) = torch.autograd.grad(middle, pixels)
    return int((gradient[0, 0] != 0).any(dim=0).sum())


def check_c4(_: Sequence[int]) -> None:
    for seeing in FIELDS:
        settings = replace(PAPER_NETWORK, seeing=seeing)
        line(f"C4 field of {seeing}, calculated", settings.field_px, unit="px")
        line(f"C4 field of {seeing}, by gradients", footprint(settings), unit="px")


CHECKS = {"C1": check_c1, "C2": check_c2, "C3": check_c3, "C4": check_c4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", default="C1,C2,C3,C4")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.checks.split(","):
        CHECKS[name](range(options.seeds))


if __name__ == "__main__":
    main()
