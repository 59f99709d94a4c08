"""Slides per second of pretraining, against its limit and against a loop over slides.

    python -m benchmarks.pretrain_slides [--slides 1024] [--reps 7] [--threads 2] [--network scm]
    python -m benchmarks.pretrain_slides --device cuda [--epochs 100]

A step is two views of t = 5 tiles of 256 slides, the slide encoder and the published projector
forward and backward, NT-Xent, and Adam. Contenders take turns on the same synthetic bank of 25 × 25
tiles a slide, 256 numbers a tile:

- "ours": views drawn for the whole batch from one memory-mapped float16 file;
- "data in place": the same step on views drawn before (the limit);
- "per-slide loop": as the published scripts do it, a float32 file an augmentation and slide, its
  tiles and coordinates drawn and turned slide by slide in numpy, the slide encoder's pooling slide
  by slide in Python, convolutions derived by autograd, PyTorch's default products and Adam. Our
  kernel maps are shared with it, so the original is slower still;
- "per-slide loading": the same loading before our own step.

On a GPU it trains as `gigassl pretrain` does, with the bank in the GPU's memory.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as `gigassl pretrain` does

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarks.report import line
from benchmarks.sparse_conv import interleaved, medians, plain_convolve
from gigassl.training.monitors import LogRow, Quiet
from gigassl.training.optimisers import new_optimiser
from gigassl.vectors import scm, sparse
from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.pretrain.objectives import ViewPair, new_objective
from gigassl.vectors.pretrain.settings import PRESETS
from gigassl.vectors.pretrain.train import TrainingOptions, new_fabric, pretrain
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.tile_store import TileStore
from gigassl.vectors.views import draw_views

AUGMENTATIONS, TILES, DIM, TILE_PX, TILE_UM = 25, 25, 256, 448, 224.0
BATCH = 256
TCGA_SLIDES, TCGA_EPOCHS = 11_642, 1000
SETTINGS = PRESETS["giga-ssl"]


def store_around(features: Tensor, coords: Tensor, *, n_slides: int) -> TileStore:
    groups = torch.arange(n_slides * AUGMENTATIONS, device=features.device)
    return TileStore(
        features=features,
        coords=coords,
        um_per_unit=torch.full((n_slides,), 0.5, device=features.device),
        first=(groups * TILES).view(n_slides, AUGMENTATIONS),
        count=torch.full((n_slides, AUGMENTATIONS), TILES, device=features.device),
        slide_ids=tuple(map(str, range(n_slides))),
        patient_ids=tuple(map(str, range(n_slides))),
        tile_um=TILE_UM,
    )


def make_files(folder: Path, *, n_slides: int) -> TileStore:
    """One memory-mapped bank, and the same as loose files; returns a store of the bank."""
    generator = np.random.default_rng(0)
    shape = (n_slides, AUGMENTATIONS, TILES)
    features = np.lib.format.open_memmap(
        folder / "features.npy", mode="w+", dtype=np.float16, shape=(*shape, DIM)
    )
    coords = (generator.integers(0, 100, size=(*shape, 2)) * TILE_PX).astype(np.int32)
    for number in range(n_slides):
        features[number] = generator.standard_normal((AUGMENTATIONS, TILES, DIM), dtype=np.float32)
        for kind in ("tiles", "coordinates"):
            (folder / kind / str(number)).mkdir(parents=True)
        for a in range(AUGMENTATIONS):
            np.save(folder / f"tiles/{number}/{a}.npy", features[number, a].astype(np.float32))
            np.save(folder / f"coordinates/{number}/{a}.npy", coords[number, a])
    features.flush()
    mapped = np.load(folder / "features.npy", mmap_mode="c")
    return store_around(
        torch.from_numpy(mapped.reshape(-1, DIM)), torch.from_numpy(coords.reshape(-1, 2)),
        n_slides=n_slides,
    )  # fmt: skip


def load_one(folder: Path, slide: int, *, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A view of one slide as a data set's ``__getitem__`` makes it."""
    a = generator.integers(AUGMENTATIONS)
    features = np.load(folder / f"tiles/{slide}/{a}.npy")
    coords = np.load(folder / f"coordinates/{slide}/{a}.npy")
    chosen = generator.choice(len(features), SETTINGS.views.tiles)
    angle = np.deg2rad(generator.uniform(-180, 180))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    flip = np.diag(generator.choice([-1.0, 1.0], 2))
    scale = np.diag(generator.uniform(0.7, 1.3, 2))
    moved = (coords[chosen] * 0.5) @ (rotation @ flip @ scale)
    return torch.from_numpy(features[chosen]), torch.from_numpy(moved.astype(np.float32))


def load_view(folder: Path, slides: list[int], *, generator: np.random.Generator) -> PackedTiles:
    """A view of each slide, one after the other."""
    views = [load_one(folder, slide, generator=generator) for slide in slides]
    return PackedTiles(
        features=torch.cat([features for features, _ in views]),
        coords=torch.cat([coords for _, coords in views]),
        bag=torch.cat([torch.full((len(f),), i) for i, (f, _) in enumerate(views)]),
        n_bags=len(views),
    )


class Learner:
    """A network, its objective and its optimiser."""

    def __init__(self, network: str, *, plain_adam: bool = False) -> None:
        encoder = new_network(network, dim=DIM, cell=TILE_UM, seed=0)
        self.objective = new_objective(
            "simclr", encoder, width=512, temperature=SETTINGS.temperature, seed=0
        )
        # a rate at which the numbers stay finite however often the benchmark repeats
        self.optimiser = (
            torch.optim.Adam(self.objective.parameters(), lr=1e-5)
            if plain_adam
            else new_optimiser("adam", self.objective, lr=1e-5, weight_decay=0.0)
        )

    def step(self, views: ViewPair) -> None:
        loss, _, _ = self.objective(views)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()


def pooled_in_a_loop(rows: Tensor, bag: Tensor, *, n_bags: int) -> Tensor:
    return torch.stack([rows[bag == number].mean(dim=0) for number in range(n_bags)])


@contextmanager
def as_published() -> Iterator[None]:
    """Inside, ``scm`` convolves by plain autograd and pools slide by slide."""
    with (
        patch.object(sparse, "convolve", plain_convolve),
        patch.object(scm, "mean_of_bags", pooled_in_a_loop),
    ):
        yield


def contenders(
    store: TileStore, folder: Path, *, network: str, reps: int
) -> dict[str, tuple[Callable[[int], object], bool]]:
    """Name → (one step of batch number so and so, whether with the fast products)."""
    shuffled = np.random.default_rng(1)
    batches = [shuffled.permutation(len(store))[:BATCH] for _ in range(reps + 1)]
    drawn, looped = torch.Generator().manual_seed(0), np.random.default_rng(2)
    ours, theirs = Learner(network), Learner(network, plain_adam=True)

    def draw(rep: int) -> ViewPair:
        slides = torch.from_numpy(batches[rep])
        one, two = (
            draw_views(store, slides, settings=SETTINGS.views, generator=drawn) for _ in range(2)
        )
        return ViewPair(one, two)

    def load(rep: int) -> ViewPair:
        slides = batches[rep].tolist()
        return ViewPair(*(load_view(folder, slides, generator=looped) for _ in range(2)))

    in_place = [draw(rep) for rep in range(reps + 1)]

    def loop(rep: int) -> None:
        with as_published():
            theirs.step(load(rep))

    return {
        "ours": (lambda rep: ours.step(draw(rep)), True),
        "data in place": (lambda rep: ours.step(in_place[rep]), True),
        "drawing alone": (draw, True),
        "per-slide loop": (loop, False),
        "per-slide loading": (lambda rep: ours.step(load(rep)), True),
    }


def measure(store: TileStore, folder: Path, *, network: str, reps: int) -> None:
    runs = contenders(store, folder, network=network, reps=reps)
    seconds = interleaved(runs, reps=reps)
    times = medians(seconds)
    for name, value in times.items():
        line(f"{network}: {name}", value * 1e3, unit="ms a step")
    rate = 2 * BATCH / times["ours"]
    line(f"{network}: ours, views (bags)", rate, unit="bags/s")
    line(f"{network}: ours, slides", BATCH / times["ours"], unit="slides/s")
    line(f"{network}: drawing / step", 100 * times["drawing alone"] / times["ours"], unit="%")
    # of one repeat after the other, so that what the machine did meanwhile cancels
    pairs = zip(seconds["ours"], seconds["data in place"], strict=True)
    more = median(ours / limit - 1 for ours, limit in pairs)
    line(f"{network}: ours above data in place", 100 * more, unit="%")
    for name in ("per-slide loop", "per-slide loading"):
        line(f"{network}: {name} / ours", times[name] / times["ours"], unit="×")
    say_projected(network, rate)


def say_projected(network: str, bags_per_s: float) -> None:
    hours = TCGA_SLIDES * TCGA_EPOCHS * 2 / bags_per_s / 3600
    line(
        f"{network}: TCGA, {TCGA_SLIDES} slides × {TCGA_EPOCHS} epochs, projected", hours, unit="h"
    )


class Clock(Quiet):
    """Notes when epochs end."""

    def __init__(self) -> None:
        self.ended: list[float] = []

    def row_done(self, row: LogRow) -> None:
        self.ended.append(time.perf_counter())


def measure_on_gpu(*, network: str, epochs: int, precision: str) -> None:
    """Trains on as many slides as TCGA has and extrapolates; the first epoch does not count."""
    device, n_rows = torch.device("cuda"), TCGA_SLIDES * AUGMENTATIONS * TILES
    generator = torch.Generator(device=device).manual_seed(0)
    features = torch.randn(n_rows, DIM, device=device, dtype=torch.float16, generator=generator)
    coords = torch.randint(0, 100, (n_rows, 2), device=device, generator=generator) * TILE_PX
    store = store_around(features, coords.int(), n_slides=TCGA_SLIDES)
    settings = replace(SETTINGS, epochs=epochs, lr=1e-4, precision=precision)  # type: ignore[arg-type]
    clock = Clock()
    done = pretrain(
        store, new_network(network, dim=DIM, cell=TILE_UM, seed=0), settings=settings,
        options=TrainingOptions(fabric=new_fabric(settings, device="cuda")), monitor=clock,
    )  # fmt: skip
    each = (clock.ended[-1] - clock.ended[0]) / (len(clock.ended) - 1)
    line(f"{network} {precision}: epochs measured", done.epochs, unit="epochs")
    line(f"{network} {precision}: one epoch of {TCGA_SLIDES} slides", each, unit="s")
    line(f"{network} {precision}: views (bags)", 2 * TCGA_SLIDES / each, unit="bags/s")
    line(f"{network} {precision}: {TCGA_EPOCHS} epochs", each * TCGA_EPOCHS / 60, unit="min")
    line(
        f"{network} {precision}: peak GPU memory",
        torch.cuda.max_memory_allocated() / 1e9,
        unit="GB",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=1024)
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--network", nargs="+", default=["scm", "mlp"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.device == "cuda":
        for network in args.network:
            measure_on_gpu(network=network, epochs=args.epochs, precision=args.precision)
        return
    with tempfile.TemporaryDirectory() as folder:
        store = make_files(Path(folder), n_slides=args.slides)
        line("bank", store.n_bytes / 1e6, unit="MB")
        for network in args.network:
            measure(store, Path(folder), network=network, reps=args.reps)


if __name__ == "__main__":
    main()
