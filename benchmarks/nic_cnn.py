"""Training nic-cnn on compressed slides: seconds an epoch, and memory against the cohort.

    python -m benchmarks.nic_cnn [--slides 200] [--side 100] [--reps 3] [--threads 2]

Slides of 100 × 100 cells of 128 numbers, all cells kept, which is the most they can be; the
published batch of 16, crops of 100. Beside it the same layers as plain 3 × 3 convolutions (nine
times the products), the loop without a network (reading, crops, scatter: what the network does not
take), and the network on crops that lie ready. Contenders take turns. Then one epoch each of
cohorts of several sizes, whose features lie in a file, in fresh processes: memory that no file
stands behind, beyond that before the epoch.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as `gigassl mil` does

import argparse
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.report import line
from benchmarks.sparse_conv import interleaved, medians, memory_mib
from gigassl.evaluate.mil.bags import BagReader
from gigassl.evaluate.mil.crops import CropReader
from gigassl.evaluate.mil.grid_cnn import GridCnn, SeparableLayer
from gigassl.evaluate.mil.packed import PackedBags
from gigassl.evaluate.mil.settings import MIL_PRESETS
from gigassl.evaluate.mil.training import MilTraining
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Task
from gigassl.vectors.matmul import fast_matmul
from gigassl.vectors.tile_store import TileStore

DIM = 128


def cohort(n_slides: int, side: int, *, file: Path | None = None) -> tuple[Task, TileStore]:
    """Slides of noise, a patch of which leans one way in every second one."""
    generator = np.random.default_rng(0)
    each = side * side
    shape = (n_slides * each, DIM)
    features = (
        np.empty(shape, np.float16)
        if file is None
        else np.memmap(file, dtype=np.float16, mode="w+", shape=shape)
    )
    for number in range(n_slides):
        rows = generator.normal(size=(each, DIM)).astype(np.float16)
        rows[: each // 5, 0] += np.float16(number % 2)
        features[number * each : (number + 1) * each] = rows
    if isinstance(features, np.memmap):
        features.flush()
    cells = torch.cartesian_prod(torch.arange(side), torch.arange(side)).int().repeat(n_slides, 1)
    names = tuple(f"s{number}" for number in range(n_slides))
    task = Task(
        name="toy", kind="classification", slide_ids=names, patient_ids=names,
        sites=("",) * n_slides, classes=("a", "b"),
        target=(np.arange(n_slides) % 2).astype(float),
    )  # fmt: skip
    store = TileStore(
        features=torch.from_numpy(features), coords=torch.zeros(len(cells), 2),
        um_per_unit=torch.ones(n_slides), first=torch.arange(n_slides)[:, None] * each,
        count=torch.full((n_slides, 1), each), slide_ids=names, patient_ids=names, tile_um=64.0,
        cells=cells, shapes=torch.full((n_slides, 1, 2), side),
    )  # fmt: skip
    return task, store


def training(task: Task, store: TileStore, *, crop: int) -> MilTraining:
    # the store stays where it is: `reader_of` would bring a small one into memory
    reader = BagReader(store=store, device=torch.device("cpu"))
    settings = replace(
        MIL_PRESETS["nic-cnn"], options={"crop": crop}, validation=0.0, epochs=1000, device="cpu"
    )
    # a split wants a test row, which is never trained on: the last one
    split = Split(scheme="bench", train=np.arange(len(task) - 1), test=np.array([len(task) - 1]))
    return MilTraining(task, split, reader, settings=settings)


class PlainLayer(SeparableLayer):
    """A layer whose convolution mixes channels in one."""

    def __init__(self, like: SeparableLayer) -> None:
        dim, width = like.point.in_channels, like.point.out_channels
        super().__init__(dim, width, stride=int(like.depth.stride[0]), dropout=like.dropout.p)
        stride = int(like.depth.stride[0])
        self.depth = nn.Conv2d(dim, width, 3, stride=stride, bias=False)
        self.point = nn.Identity()  # type: ignore[assignment]


def plain(task: Task, store: TileStore, *, crop: int) -> MilTraining:
    """The same training of plain convolutions."""
    found = training(task, store, crop=crop)
    assert isinstance(found.model, GridCnn)
    layers = [layer for layer in found.model.layers if isinstance(layer, SeparableLayer)]
    found.model.layers = nn.Sequential(*(PlainLayer(layer) for layer in layers))
    found.optimiser = torch.optim.Adam(found.model.parameters(), lr=1e-2, fused=True)
    return found


class Loop:
    """The loop of an epoch around a step of one's own."""

    def __init__(self, like: MilTraining) -> None:
        assert isinstance(like.reader, CropReader)
        assert isinstance(like.model, GridCnn)
        self.like, self.reader, self.model = like, like.reader, like.model
        self.ready = self.drawn(0, 0)

    def drawn(self, epoch: int, number: int) -> PackedBags:
        rows = self.like.batches(self.like.order(epoch))[number]
        generator = torch.Generator().manual_seed(epoch * 1000 + number)
        return self.reader.batch(rows.tolist(), generator=generator)

    def reading(self, epoch: int) -> None:
        for number in range(self.like.n_batches):
            self.model.image(self.drawn(epoch, number))

    def network(self, _epoch: int) -> None:
        image = self.model.image(self.ready)
        for _ in range(self.like.n_batches):
            self.like.optimiser.zero_grad()
            loss = self.model.scores(self.model.layers(image)).square().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            self.like.optimiser.step()


def measure(task: Task, store: TileStore, *, crop: int, reps: int) -> None:
    ours, theirs = (make(task, store, crop=crop).epochs() for make in (training, plain))
    loop = Loop(training(task, store, crop=crop))
    contenders: dict[str, tuple[Callable[[int], object], bool]] = {
        "nic-cnn": (lambda _rep: next(ours), True),
        "plain 3 × 3 convolutions": (lambda _rep: next(theirs), True),
        "reading, crops and scatter alone": (loop.reading, True),
        "network alone, crops ready": (loop.network, True),
    }
    times = medians(interleaved(contenders, reps=reps))
    for name, seconds in times.items():
        line(f"an epoch of {len(task) - 1} slides, {name}", seconds, unit="s")
    line("plain / nic-cnn", times["plain 3 × 3 convolutions"] / times["nic-cnn"], unit="×")


class Watch:
    """The most memory that no file stands behind, seen every 20 ms."""

    def __init__(self) -> None:
        self.most, self._ended = memory_mib("RssAnon"), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            self.most = max(self.most, memory_mib("RssAnon"))


def print_peak(n_slides: int, side: int) -> None:
    """MiB without a file behind them that an epoch takes."""
    with tempfile.TemporaryDirectory() as folder:
        task, store = cohort(n_slides, side, file=Path(folder) / "features")
        running = training(task, store, crop=side).epochs()
        before = memory_mib("RssAnon")
        with fast_matmul("cpu"), Watch() as watch:
            next(running)
        print(watch.most - before)


def measure_peaks(sizes: list[int], side: int, *, threads: int) -> None:
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.nic_cnn", "--peak-of", str(size)]
        command += ["--side", str(side), "--threads", str(threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        held = size * side * side * DIM * 2 / 2**20
        line(f"peak memory of an epoch, {size} slides ({held:.0f} MiB of features)",
             float(done.stdout.split()[-1]), unit="MiB")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=200)
    parser.add_argument("--side", type=int, default=100)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="*", default=[50, 100, 200, 400])
    parser.add_argument("--peak-of", type=int)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of:
        print_peak(options.peak_of, options.side)
        return
    task, store = cohort(options.slides + 1, options.side)  # one is never trained on
    measure(task, store, crop=options.side, reps=options.reps)
    del store
    measure_peaks(options.sizes, options.side, threads=options.threads)


if __name__ == "__main__":
    main()
