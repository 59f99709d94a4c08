"""Do more tasks make a better encoder: heads on unseen digits (M1), every subset of tasks (M2).

    python -m benchmarks.nic_task_subsets --out DIR [--steps 1500] [--seeds 3] [--quick]

Four tasks on digits of 8 px (parity, at least 5, has a loop, mod 3), as a table of labels each
beside one folder of images; codes of 8 numbers. An encoder of each of the 15 subsets encodes slides
of digits, and nic-cnn learns the share of one digit on them, which no head was asked: its Spearman
on other slides, painted with digits that no encoder saw, is the score. Beside them the same network
with random weights, and mean intensity.

The four tasks together tell every digit from the others, so that more of them must help: what is
tested is whether the training makes use of that. ``--quick`` is a small trial of everything.
"""

import argparse
import csv
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

# as the program does, before torch loads: threads that wait must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from PIL import Image
from torch import nn

from benchmarks.report import line
from gigassl.evaluate.metrics import spearman
from gigassl.evaluate.mil.crops import settled
from gigassl.evaluate.mil.run import predict_split, reader_of, settings_for
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Task
from gigassl.evaluate.task_subsets import SubsetRun, all_subsets, scores_by_count
from gigassl.report.tables import grid_as_markdown
from gigassl.report.task_subsets import save_subset_figure, subset_grids
from gigassl.slides.digit_layout import DIGIT_SLIDE_PRESETS
from gigassl.slides.digit_slides import DigitSlides, draw_mixtures
from gigassl.slides.digits import DIGIT_TASKS, Digits, read_digits, task_labels
from gigassl.tiles.augmentation import AugmentationSettings
from gigassl.tiles.labelled_tasks import LabelledTasks, read_tasks
from gigassl.tiles.pretrain.catalogue import METHOD_PRESETS, new_method
from gigassl.tiles.pretrain.labelled_source import TaskTiles
from gigassl.tiles.pretrain.methods.labelled import Labelled
from gigassl.tiles.pretrain.settings import SamplingSettings, TileViewSettings
from gigassl.tiles.pretrain.train import pretrain_tile_encoder
from gigassl.tiles.records import HALF
from gigassl.tiles.training_networks import TileNetwork, begun_network
from gigassl.vectors.tile_store import TileStore

CELL_PX, CODE = 8, 8
NETWORK = f"nic:bigan?code={CODE},convolutions=2,filters=32,pool=1,channels=1"
# digits are not the same turned or mirrored
VIEWS = AugmentationSettings(crop_area=(0.7, 1.0), jitter_p=0.0, grey_p=0.0, blur_p=0.0)

Tiles = UInt8[np.ndarray, "tile row col 3"]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything there is.

    Attributes:
        steps: of each encoder's training.
        seeds: of encoders and CNNs.
        train, test: slides.
        epochs: of the CNN.
    """

    steps: int
    seeds: range
    train: int = 500
    test: int = 300
    epochs: int = 40


def as_tasks(digits: Digits, folder: Path) -> LabelledTasks:
    """One PNG a digit, and a table a task; a digit is a group of its own in all of them."""
    (folder / "digits").mkdir(parents=True, exist_ok=True)
    names = [f"digits/{k:04d}.png" for k in range(len(digits))]
    for name, image in zip(names, digits.images, strict=True):
        Image.fromarray(image).save(folder / name)
    for task in DIGIT_TASKS:
        with (folder / f"{task}.csv").open("w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["path", "label", "group"])
            writer.writerows(
                [name, str(label), name]
                for name, label in zip(names, task_labels(digits.labels, task), strict=True)
            )
    return read_tasks([folder / f"{task}.csv" for task in DIGIT_TASKS])


def subset_of(tasks: LabelledTasks, names: Sequence[str]) -> LabelledTasks:
    """Some of the tasks."""
    kept = [k for k, name in enumerate(tasks.names) if name in names]
    return LabelledTasks(
        names=tuple(tasks.names[k] for k in kept), images=tuple(tasks.images[k] for k in kept)
    )


def fresh(*, seed: int) -> nn.Module:
    """The network with random weights."""
    return begun_network(TileNetwork(architecture=NETWORK), sides_px=[CELL_PX], seed=seed).network


def trained(tasks: LabelledTasks, *, steps: int, seed: int) -> Labelled:
    """The method after its last step, encoder and heads."""
    settings = replace(
        METHOD_PRESETS["multitask"], steps=steps, seed=seed,
        views=TileViewSettings(first=VIEWS, second=VIEWS, side_px=CELL_PX),
    )  # fmt: skip
    source = TaskTiles(tasks, tile_px=CELL_PX, settings=SamplingSettings(jitter_mpp=0.0))
    method = new_method(settings, fresh(seed=seed), width=CODE, steps=steps, labels=source.labels)
    assert isinstance(method, Labelled)
    pretrain_tile_encoder(source, method, settings=settings, mean=HALF[0], std=HALF[1])
    return method


@torch.inference_mode()
def codes_of(network: nn.Module, tiles: Tiles) -> Float32[np.ndarray, "tile code"]:
    """Codes of tiles, scaled to [-1, 1]."""
    network.eval()
    images = torch.from_numpy(tiles).permute(0, 3, 1, 2)
    parts = [network(few.float() / 127.5 - 1.0) for few in torch.split(images, 4096)]
    return torch.cat(parts).numpy()


def rgb(grey: UInt8[np.ndarray, "tile row col"]) -> Tiles:
    return np.repeat(grey[..., None], 3, axis=3)


@torch.inference_mode()
def head_accuracies(method: Labelled, digits: Digits) -> dict[str, float]:
    """Share of digits that each head tells rightly."""
    codes = torch.from_numpy(codes_of(method.encoder, rgb(digits.images)))
    return {
        task: float(np.mean(head.eval()(codes).argmax(dim=1).numpy()
                            == task_labels(digits.labels, task)))
        for task, head in zip(method.tasks, method.heads, strict=True)
    }  # fmt: skip


def cells_of(slides: DigitSlides) -> Tiles:
    """All cells of all slides, row by row."""
    n, side, _ = slides.images.shape
    cells = side // CELL_PX
    cut = slides.images.reshape(n, cells, CELL_PX, cells, CELL_PX).swapaxes(2, 3)
    return rgb(cut.reshape(-1, CELL_PX, CELL_PX))


def compressed(codes: Float32[np.ndarray, "tile code"], *, n_slides: int) -> TileStore:
    """Codes of all cells as compressed slides."""
    per_slide = len(codes) // n_slides
    cells = round(per_slide**0.5)
    row, col = np.divmod(np.arange(per_slide), cells)
    places = torch.from_numpy(np.tile(np.stack([row, col], axis=1), (n_slides, 1)))
    names = tuple(f"slide{k:04d}" for k in range(n_slides))
    return TileStore(
        features=torch.from_numpy(codes.astype(np.float16)),
        coords=(places.flip(1) * CELL_PX).to(torch.int64),
        um_per_unit=torch.ones(n_slides),
        first=(torch.arange(n_slides) * per_slide)[:, None],
        count=torch.full((n_slides, 1), per_slide),
        slide_ids=names,
        patient_ids=names,
        tile_um=float(CELL_PX),
        cells=places.to(torch.int32),
        shapes=torch.full((n_slides, 1, 2), cells),
    )


def image_score(
    codes: Float32[np.ndarray, "tile code"], target: Float64[np.ndarray, " slide"], *,
    size: Size, seed: int,
) -> float:  # fmt: skip
    """Spearman on the test slides of a CNN that learned the target on the others."""
    store = compressed(codes, n_slides=len(target))
    task = Task(
        name="share", kind="regression", slide_ids=store.slide_ids, patient_ids=store.patient_ids,
        sites=("",) * len(target), target=target,
    )  # fmt: skip
    split = Split(
        scheme="drawn", train=np.arange(size.train), test=np.arange(size.train, len(target))
    )
    settings = replace(
        settings_for("nic-cnn", "regression"), epochs=size.epochs, seed=seed, device="cpu",
        least_epochs=min(20, size.epochs),
    )  # fmt: skip
    settings = settled(settings, store)
    reader = reader_of(task, store, device="cpu")
    said = predict_split(task, split, reader, settings=settings).fitted.predict(split.test)
    return spearman(target[split.test], said[:, 0])


def slides_of(size: Size, train: Digits, test: Digits) -> tuple[Tiles, Float64[np.ndarray, "s 10"]]:
    """Cells and shares of the slides to learn from, then of those to test on."""
    settings = replace(DIGIT_SLIDE_PRESETS["standard"], classes=tuple(range(10)))
    drawn = [
        draw_mixtures(settings, digits, n=n, seed=0, first=first)
        for digits, n, first in ((train, size.train, 0), (test, size.test, size.train))
    ]
    cells = np.concatenate([cells_of(slides) for slides in drawn])
    return cells, np.concatenate([slides.shares for slides in drawn])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, required=True, help="folder of everything made")
    options.add_argument("--steps", type=int, default=1500)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--digit", type=int, default=7, help="whose share is the target")
    options.add_argument("--quick", action="store_true", help="a trial: one seed, small, few steps")
    asked = options.parse_args()
    torch.set_num_threads(1)
    size = Size(steps=asked.steps, seeds=range(asked.seeds))
    if asked.quick:
        size = Size(steps=200, seeds=range(1), train=120, test=80, epochs=8)
    sets = read_digits()
    train, test = sets.train.of_side(CELL_PX), sets.test.of_side(CELL_PX)
    tasks = as_tasks(train, asked.out)
    cells, shares = slides_of(size, train, test)
    target = shares[:, asked.digit].astype(np.float64)
    controls = controlled(cells, target, size=size)
    runs = studied(tasks, test, cells=cells, target=target, size=size)
    report(runs, controls, out=asked.out, digit=asked.digit)


def controlled(
    cells: Tiles, target: Float64[np.ndarray, " slide"], *, size: Size
) -> dict[str, float]:
    """Scores of what was trained on no task; medians over seeds."""
    mean = cells.mean(axis=(1, 2))[:, :1].astype(np.float32) / 127.5 - 1.0
    found = {
        "mean intensity": [image_score(mean, target, size=size, seed=s) for s in size.seeds],
        "random weights": [
            image_score(codes_of(fresh(seed=s), cells), target, size=size, seed=s)
            for s in size.seeds
        ],
    }
    for name, scores in found.items():
        line(f"M2 {name}", float(np.median(scores)), unit="Spearman")
    return {name: float(np.median(scores)) for name, scores in found.items()}


def studied(
    tasks: LabelledTasks, test: Digits, *, cells: Tiles, target: Float64[np.ndarray, " slide"],
    size: Size,
) -> list[SubsetRun]:  # fmt: skip
    """A run a subset and seed; of the encoders of all tasks also the heads' accuracies."""
    runs, heads = [], list[dict[str, float]]()
    for names, seed in product(all_subsets(tasks.names), size.seeds):
        begin = time.perf_counter()
        method = trained(subset_of(tasks, sorted(names)), steps=size.steps, seed=seed)
        if len(names) == len(tasks.names):
            heads.append(head_accuracies(method, test))
        score = image_score(codes_of(method.encoder, cells), target, size=size, seed=seed)
        runs.append(SubsetRun(tasks=names, score=score))
        seconds = time.perf_counter() - begin
        line(f"M2 {' + '.join(sorted(names))}, seed {seed}", score, unit=f"({seconds:.0f} s)")
    for task in tasks.names:
        median = float(np.median([found[task] for found in heads]))
        line(f"M1 {task}, unseen digits, all tasks at once", median, unit="accuracy (>= .88)")
    return runs


def report(runs: Sequence[SubsetRun], controls: dict[str, float], *, out: Path, digit: int) -> None:
    """Prints the means, and writes table and figure."""
    means = {row.n_tasks: row.mean for row in scores_by_count(runs)}
    for count, mean in means.items():
        line(f"M2 mean over subsets of {count}", mean, unit="Spearman")
    gain = means[max(means)] - means[min(means)]
    line("M2 all tasks over one", gain, unit="Spearman (>= .02)")
    line("M2 all tasks over random weights", means[max(means)] - controls["random weights"],
         unit="Spearman")  # fmt: skip
    title = f"Share of digit {digit} on unseen slides"
    grids = subset_grids(runs, title=title, score="Spearman")
    text = "\n\n".join(grid_as_markdown(grid) for grid in grids)
    (out / "task_subsets.md").write_text(f"{text}\n")
    save_subset_figure(runs, out / "task_subsets", title=title, score="Spearman", controls=controls)


if __name__ == "__main__":
    main()
