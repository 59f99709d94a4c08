"""Does reading tiles from slides ever starve the training of a tile encoder?

    python -m benchmarks.pretrain_tiles [--workers 2] [--reps 5] [--batch 64] [--slides DIR]
    python -m benchmarks.pretrain_tiles --device cuda --workers 14 --batch 256

Two questions, each with contenders that take turns; each turn opens its source anew, takes as many
batches as are read ahead without counting them, and then ``--batches`` (``--steps``) that count.

1. Tiles/s of the data path alone: squares drawn at random from slides (jittered place and µm/px);
   the same number of tiles from decoded tiles in one memory-mapped array; from a folder of PNG
   tiles; and the limit: only decoding the stored JPEG tiles under the squares, from memory, on as
   many threads as there are workers.
2. Steps/s of MoCo v2 with a ResNet18: fed from slides, and from batches that lie in memory.
   The ratio is to be at least 0.95.

Makes its own slides, of 256 px JPEG tiles of about the size that real ones have.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import simplejpeg
import torch
from PIL import Image

from benchmarks.read_tiles import write_slide
from benchmarks.report import line
from gigassl.bags.prepare import TileSettings
from gigassl.pipeline.tile_index import tile_index
from gigassl.slides.cohort import read_cohort
from gigassl.slides.grid import GridSettings
from gigassl.slides.jpeg import open_jpeg_level
from gigassl.tiles.pretrain.catalogue import METHOD_PRESETS, new_method
from gigassl.tiles.pretrain.image_source import ImageTiles
from gigassl.tiles.pretrain.index import TileIndex
from gigassl.tiles.pretrain.sampling import DrawnTiles, draw_tiles
from gigassl.tiles.pretrain.settings import SamplingSettings
from gigassl.tiles.pretrain.slide_source import SlideTiles
from gigassl.tiles.pretrain.source import BatchPlan, TileBatch, TileSource
from gigassl.tiles.pretrain.steps import Stepper
from gigassl.tiles.pretrain.train import new_fabric
from gigassl.tiles.pretrain.workers import FileNames, batches_of
from gigassl.tiles.training_networks import TileNetwork, begun_network

TILE_PX, MPP = 224, 0.5
ENOUGH = 0.95
SAMPLING = SamplingSettings()
Turn = Callable[[], float]
"""Seconds of what counts."""


class ArrayFiles:
    """Decoded tiles in one memory-mapped array, opened by each process for itself."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tiles: np.ndarray | None = None

    def draw(self, plan: BatchPlan, step: int, *, attempt: int) -> DrawnTiles:
        rng = np.random.default_rng([plan.seed, step, attempt])
        n_tiles = len(np.load(self._path, mmap_mode="r"))
        nowhere = np.zeros((plan.size, 2), np.int64)
        return DrawnTiles(
            slide=rng.integers(0, n_tiles, plan.size), corner=nowhere, mpp=np.ones(plan.size),
            partner=None, side=np.full(plan.size, float(TILE_PX)),
        )  # fmt: skip

    def read_into(self, out: np.ndarray, *, file: int, corner: tuple[int, int], mpp: float) -> None:
        if self._tiles is None:
            self._tiles = np.load(self._path, mmap_mode="r")
        out[...] = self._tiles[file]


class ArrayTiles:
    """The same as a source of batches."""

    def __init__(self, path: Path) -> None:
        self.n_tiles = len(np.load(path, mmap_mode="r"))
        self.names: Sequence[str] = [str(k) for k in range(self.n_tiles)]
        self.patient_ids: Sequence[str] = self.names
        self.tile_px, self.digest, self._path = TILE_PX, "", path

    def batches(self, plan: BatchPlan) -> Iterator[TileBatch]:
        names = FileNames(names=self.names, paths=[self._path] * self.n_tiles)
        return batches_of(ArrayFiles(self._path), plan, tile_px=TILE_PX, names=names)


class MemoryTiles:
    """Batches that lie in memory already; pinned where there is a GPU."""

    def __init__(self, batches: Sequence[TileBatch]) -> None:
        self._batches = batches
        self.names: Sequence[str] = ["memory"]
        self.patient_ids: Sequence[str] = ["memory"]
        self.n_tiles, self.tile_px, self.digest = 10**9, TILE_PX, ""

    def batches(self, plan: BatchPlan) -> Iterator[TileBatch]:
        for step in range(plan.first, plan.last):
            yield self._batches[step % len(self._batches)]


def make_slides(folder: Path, *, n_slides: int, side: int) -> Path:
    folder.mkdir()
    for number in range(n_slides):
        write_slide(folder / f"s{number:02d}.svs", side)
    return folder


def index_of(slides: Path, folder: Path, *, tissue: bool) -> TileIndex:
    settings = TileSettings(grid=GridSettings(tile_px=TILE_PX, target_mpp=MPP))
    if not tissue:
        settings = replace(settings, tissue=None)
    began = time.perf_counter()
    index, failures = tile_index(read_cohort(slides), settings=settings, out=folder / "index.npz")
    line("slides", len(index), unit="slides")
    line("tiles of their grids", len(index.coords), unit="tiles")
    line("index of their tiles", len(index) / (time.perf_counter() - began), unit="slides/s")
    for failure in failures:
        print(f"left out: {failure.slide_id}: {failure.reason}")
    return index


def store_decoded(source: TileSource, folder: Path, *, n_tiles: int) -> tuple[Path, Path]:
    """Some tiles of a source as one array, and as a folder of PNG files."""
    plan = BatchPlan(last=1, size=min(n_tiles, source.n_tiles), seed=99)
    (batch,) = source.batches(plan)
    tiles, images = batch.tiles.numpy(), folder / "images"
    np.save(folder / "tiles.npy", tiles)
    images.mkdir()
    for number, tile in enumerate(tiles):
        Image.fromarray(tile).save(images / f"{number:05d}.png", compress_level=3)
    return folder / "tiles.npy", images


def reading(source: TileSource, args: argparse.Namespace) -> Turn:
    """Takes batches as fast as they come."""
    ahead = 2 * max(args.workers, 1)
    plan = BatchPlan(last=ahead + args.batches, size=args.batch, workers=args.workers)

    def turn() -> float:
        batches: Any = source.batches(plan)
        with closing(batches):
            for _ in range(ahead):
                next(batches)
            began = time.perf_counter()
            for _ in range(args.batches):
                next(batches)
            return time.perf_counter() - began

    return turn


def decoding(index: TileIndex, args: argparse.Namespace) -> tuple[Turn, float]:
    """Decodes the stored tiles under the squares from memory; and how many those are a square."""
    stored = []
    for step in range(args.batches):
        drawn = draw_tiles(index, SAMPLING, seed=0, step=step, size=args.batch)
        stored += jpegs_under(index, drawn)
    parts = [stored[k :: max(args.workers, 1)] for k in range(max(args.workers, 1))]

    def decode(jpegs: Sequence[bytes]) -> None:
        for data in jpegs:
            simplejpeg.decode_jpeg(data, "RGB")

    def turn() -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(decode, parts))
        return time.perf_counter() - began

    return turn, len(stored) / (args.batches * args.batch)


def jpegs_under(index: TileIndex, drawn: DrawnTiles) -> list[bytes]:
    """The stored tiles of level 0 under the squares, as JPEG files; none of other slides."""
    found = []
    for number in sorted(set(drawn.slide.tolist())):
        width, height = index.size_l0[number].tolist()
        path = index.paths[number]
        level = open_jpeg_level(path, (width, height))
        if level is None:
            continue
        stored, data = level.stored, path.read_bytes()
        mine = drawn.slide == number
        sides = drawn.mpp[mine] / index.mpp_l0[number] * TILE_PX
        for (x, y), side in zip(drawn.corner[mine].tolist(), sides.tolist(), strict=True):
            for row in range(y // stored.tile_height, int(y + side - 1) // stored.tile_height + 1):
                for col in range(
                    x // stored.tile_width, int(x + side - 1) // stored.tile_width + 1
                ):
                    k = row * stored.columns + col
                    jpeg = data[stored.offsets[k] : stored.offsets[k] + stored.counts[k]]
                    found.append(stored.prefix + jpeg[2:] if stored.prefix else jpeg)
    return found


def training(source: TileSource, args: argparse.Namespace) -> Turn:
    """Steps of MoCo; the network goes on from turn to turn."""
    settings = replace(
        METHOD_PRESETS["moco"], batch_size=args.batch, steps=10**6, precision=args.precision,
        views=replace(METHOD_PRESETS["moco"].views, side_px=TILE_PX),
    )  # fmt: skip
    begun = begun_network(TileNetwork(architecture="resnet18"), sides_px=(TILE_PX,), seed=0)
    method = new_method(settings, begun.network, width=begun.record.dim, steps=10**6)
    method.train()
    fabric = new_fabric(settings, device=args.device)
    stepper = Stepper(
        method, settings=settings, steps=10**6, colours=((0.5,) * 3, (0.5,) * 3), fabric=fabric
    )
    ahead = 2 * max(args.workers, 1) + 2
    plan = BatchPlan(last=ahead + args.steps, size=args.batch, workers=args.workers)

    def turn() -> float:
        batches: Any = source.batches(plan)
        with closing(batches):
            for step in range(ahead):
                float(stepper.take(step, batches))
            began = time.perf_counter()
            for step in range(ahead, ahead + args.steps):
                loss = stepper.take(step, batches)
            float(loss)
            return time.perf_counter() - began

    return turn


def in_turns(contenders: dict[str, Turn], *, reps: int) -> dict[str, list[float]]:
    """Seconds of each contender and repetition; the first repetition does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(reps + 1):
        for name, turn in contenders.items():
            seconds[name].append(turn())
    return {name: values[1:] for name, values in seconds.items()}


def measure_reading(index: TileIndex, folder: Path, args: argparse.Namespace) -> None:
    slides = SlideTiles(index, tile_px=TILE_PX, target_mpp=MPP, settings=SAMPLING)
    array, images = store_decoded(slides, folder, n_tiles=1024)
    limit, each = decoding(index, args)
    seconds = in_turns(
        {
            "slides": reading(slides, args),
            "decoded array": reading(ArrayTiles(array), args),
            "folder of PNG": reading(
                ImageTiles(images, tile_px=TILE_PX, settings=SAMPLING, memory_bytes=0), args
            ),
            "limit: JPEG from memory": limit,
        },
        reps=args.reps,
    )
    line("stored JPEG tiles decoded for one square", each, unit="tiles")
    n_tiles = args.batches * args.batch
    for name, values in seconds.items():
        line(f"tiles read, {name}", n_tiles / median(values), unit="tiles/s")


def measure_steps(index: TileIndex, args: argparse.Namespace) -> None:
    slides = SlideTiles(index, tile_px=TILE_PX, target_mpp=MPP, settings=SAMPLING)
    few = list(slides.batches(BatchPlan(last=4, size=args.batch, seed=7)))
    if args.device == "cuda":
        few = [TileBatch(batch.tiles.pin_memory(), file=batch.file) for batch in few]
    sources: dict[str, TileSource] = {"slides": slides, "memory": MemoryTiles(few)}
    turns = {name: training(source, args) for name, source in sources.items()}
    seconds = in_turns(turns, reps=args.reps)
    for name, values in seconds.items():
        line(f"MoCo ResNet18 fed from {name}", args.steps / median(values), unit="steps/s")
        line(f"MoCo ResNet18 fed from {name}", args.steps * args.batch / median(values),
             unit="tiles/s")  # fmt: skip
    # of neighbours in time, so that a busier minute weighs on both
    pairs = zip(seconds["memory"], seconds["slides"], strict=True)
    ratio = median(memory / slides for memory, slides in pairs)
    line(f"fed from slides against memory (target {ENOUGH})", ratio, unit="x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=Path, help="a folder of slides instead of made ones")
    parser.add_argument("--made", type=int, default=8, help="slides to make")
    parser.add_argument("--side", type=int, default=8192, help="their side, px")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=32, help="batches a turn, data path alone")
    parser.add_argument("--steps", type=int, default=8, help="steps a turn of training")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of the network on a CPU")
    parser.add_argument("--only", choices=["reading", "steps"])
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        slides = args.slides or make_slides(folder / "s", n_slides=args.made, side=args.side)
        index = index_of(slides, folder, tissue=args.slides is not None)
        if args.only != "steps":
            measure_reading(index, folder, args)
        if args.only != "reading":
            measure_steps(index, args)


if __name__ == "__main__":
    main()
