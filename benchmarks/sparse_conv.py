"""Forward + backward of the scm slide encoder, against its peers and against the products alone.

    python -m benchmarks.sparse_conv [--tiles 5 25 256] [--reps 7] [--threads 2] [--spconv DIR]

Contenders take turns on the same batches of 256 slides, whose tiles lie anywhere on 100 × 100
cells; each batch has cells of its own. "products alone" is the limit: the same matrix products
on rows that lie in place, no gathering, no norm. "plain autograd" is the sum that users of
rule-book libraries get (gather, product by PyTorch's default, scatter, derived by autograd).
spconv runs forward only on a CPU (its backward wants a GPU driver). Dense convolution runs on one
slide. Peak memory is that of a fresh process that does one step.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as `gigassl pretrain` does

import argparse
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.report import line
from gigassl.vectors import sparse
from gigassl.vectors.cells import Cells, KernelMap, cells_of_tiles, neighbours, strided
from gigassl.vectors.matmul import fast_matmul
from gigassl.vectors.packed import PackedTiles, mean_of_bags
from gigassl.vectors.slide_encoders import new_network

DIM, WIDTH, SIDE, CELL, N_SLIDES = 256, 512, 100, 224.0, 256
Step = Callable[[PackedTiles], object]


def batch(n_tiles: int, *, seed: int, n_slides: int = N_SLIDES, side: int = SIDE) -> PackedTiles:
    """Slides of tiles anywhere on a square of ``side`` cells."""
    generator = torch.Generator().manual_seed(seed)
    n_rows = n_slides * n_tiles
    return PackedTiles(
        features=torch.randn(n_rows, DIM, generator=generator),
        coords=torch.rand(n_rows, 2, generator=generator) * side * CELL,
        bag=torch.arange(n_slides).repeat_interleave(n_tiles),
        n_bags=n_slides,
    )


def scm() -> nn.Module:
    return new_network("scm", dim=DIM, cell=CELL, seed=0)


def training_step(network: nn.Module) -> Step:
    """Forward and backward of a network."""

    def step(tiles: PackedTiles) -> None:
        network.zero_grad()
        network(tiles).square().mean().backward()

    return step


def plain_convolve(rows: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Gather, multiply, scatter, and let autograd derive it."""
    out = rows.new_zeros(kernel_map.n_out, weight.shape[2])
    if kernel_map.identity is not None:
        out = rows @ weight[kernel_map.identity]
    for k, (source, target) in enumerate(zip(kernel_map.source, kernel_map.target, strict=True)):
        out = out.index_add(0, target, rows[source] @ weight[k])
    return out


def plain_step(network: nn.Module) -> Step:
    """The same network with plain autograd and PyTorch's default products."""
    step = training_step(network)

    def plain(tiles: PackedTiles) -> None:
        own = sparse.convolve
        sparse.convolve = plain_convolve
        try:
            step(tiles)
        finally:
            sparse.convolve = own

    return plain


class DenseStage(nn.Module):
    """The same layers as dense convolutions with masks, as norms over active cells need."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [nn.Conv2d(DIM, WIDTH, 3, stride=2, bias=False)]
            + [nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False) for _ in range(3)]
        )
        self.skip = nn.Conv2d(DIM, WIDTH, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm1d(WIDTH) for _ in range(5))

    def forward(self, tiles: PackedTiles) -> Tensor:
        cells, cell_of = cells_of_tiles(tiles, cell=CELL, rounding="nearest")
        out_cells, _ = strided(cells)
        image = tiles.features.new_zeros(tiles.n_bags, SIDE + 5, SIDE + 5, DIM)
        at = (cells.bag, cells.xy[:, 0], cells.xy[:, 1])
        image = image.index_put((at[0][cell_of], at[1][cell_of], at[2][cell_of]), tiles.features)
        image = image.permute(0, 3, 1, 2)
        inner = self._normed(self.convs[0](image), out_cells, norm=0).relu()
        inner = self._normed(self.convs[1](inner), out_cells, norm=1)
        short = self.skip(nn.functional.avg_pool2d(image, 3, stride=2))
        outer = (inner + self._normed(short, out_cells, norm=2)).relu()
        inner = self._normed(self.convs[2](outer), out_cells, norm=3).relu()
        outer = (outer + self._normed(self.convs[3](inner), out_cells, norm=4)).relu()
        rows = outer.permute(0, 2, 3, 1)[out_cells.bag, out_cells.xy[:, 0], out_cells.xy[:, 1]]
        return mean_of_bags(rows, out_cells.bag, n_bags=tiles.n_bags)

    def _normed(self, image: Tensor, cells: Cells, *, norm: int) -> Tensor:
        at = (cells.bag, cells.xy[:, 0], cells.xy[:, 1])
        rows = self.norms[norm](image.permute(0, 2, 3, 1)[at])
        empty = image.new_zeros(image.shape[0], *image.shape[2:], image.shape[1])
        return empty.index_put(at, rows).permute(0, 3, 1, 2)


def shapes_of_products(tiles: PackedTiles) -> list[tuple[int, int, bool]]:
    """(rows, width in, whether the input has a gradient) of every product of a step."""
    cells, _ = cells_of_tiles(tiles, cell=CELL, rounding="nearest")
    out_cells, down = strided(cells)
    around = neighbours(out_cells)
    inner = [len(source) or len(out_cells) for source in around.source]
    return (
        [(len(source), DIM, False) for source in down.source]
        + [(len(out_cells), DIM, False)]
        + [(rows, WIDTH, True) for rows in inner * 3]
    )


def products(tiles: PackedTiles) -> tuple[Callable[[], None], float]:
    """The matrix products of a step on rows in place, and their number of operations."""
    shapes = shapes_of_products(tiles)
    most = max(rows for rows, _, _ in shapes) + 64
    left = {dim: torch.randn(most, dim) for dim in (DIM, WIDTH)}
    right = {dim: torch.randn(dim, WIDTH) for dim in (DIM, WIDTH)}
    grad = torch.randn(most, WIDTH)

    def run() -> None:
        for rows, dim, has_gradient in shapes:
            padded = -(-rows // 64) * 64
            torch.mm(left[dim][:padded], right[dim])
            torch.mm(left[dim][:padded].T, grad[:padded])
            if has_gradient:
                torch.mm(grad[:padded], right[dim].T)

    flop = sum(2 * rows * dim * WIDTH * (3 if grad_too else 2) for rows, dim, grad_too in shapes)
    return run, flop


def spconv_forward() -> Step | None:
    """spconv's convolutions of the same network, forward only; None where it is not installed."""
    if importlib.util.find_spec("spconv") is None:
        return None
    import spconv.pytorch as spconv

    down = spconv.SparseConv2d(DIM, WIDTH, 3, stride=2, bias=False)
    around = [spconv.SubMConv2d(WIDTH, WIDTH, 3, bias=False, indice_key="a") for _ in range(3)]

    def step(tiles: PackedTiles) -> object:
        cells, _ = cells_of_tiles(tiles, cell=CELL, rounding="nearest")
        index = torch.cat([cells.bag[:, None], cells.xy], dim=1).int()
        with torch.no_grad():
            rows = tiles.features[: len(cells)]
            out = down(spconv.SparseConvTensor(rows, index, [SIDE + 5] * 2, tiles.n_bags))
            for layer in around:
                out = layer(out)
        return out

    return step


def our_forward() -> Step:
    """Our convolutions of the same network, forward only."""
    first = sparse.SparseConv2d(DIM, WIDTH)
    inner = [sparse.SparseConv2d(WIDTH, WIDTH) for _ in range(3)]
    for layer in (first, *inner):
        layer.initialise(torch.Generator().manual_seed(0))

    def step(tiles: PackedTiles) -> object:
        cells, _ = cells_of_tiles(tiles, cell=CELL, rounding="nearest")
        with torch.no_grad():
            out_cells, down = strided(cells)
            around = neighbours(out_cells)
            rows = first(tiles.features[: len(cells)], down)
            for layer in inner:
                rows = layer(rows, around)
        return rows

    return step


def interleaved(
    contenders: dict[str, tuple[Callable[[int], object], bool]], *, reps: int
) -> dict[str, list[float]]:
    """Seconds of each contender and repeat, after a first one that does not count.

    Contenders take turns. The flag asks for the fast products.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for rep in range(reps + 1):
        for name, (run, fast) in contenders.items():
            with fast_matmul("cpu") if fast else nullcontext():
                start = time.perf_counter()
                run(rep)
                seconds[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in seconds.items()}


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    return {name: median(values) for name, values in seconds.items()}


def measure(n_tiles: int, *, reps: int) -> None:
    batches = [batch(n_tiles, seed=seed) for seed in range(reps + 1)]
    ours, plain, forward_only = training_step(scm()), plain_step(scm()), our_forward()
    alone = [products(tiles) for tiles in batches]
    contenders: dict[str, tuple[Callable[[int], object], bool]] = {
        "ours": (lambda rep: ours(batches[rep]), True),
        "products alone": (lambda rep: alone[rep][0](), True),
        "plain autograd, default products": (lambda rep: plain(batches[rep]), False),
        "ours, forward of the convolutions": (lambda rep: forward_only(batches[rep]), True),
    }
    peer = spconv_forward()
    if peer is not None:
        contenders["spconv, forward of the convolutions"] = (lambda rep: peer(batches[rep]), False)
    times = medians(interleaved(contenders, reps=reps))
    limit = times["products alone"]
    for name, value in times.items():
        line(f"t={n_tiles}: {name}", value * 1e3, unit="ms")
    line(f"t={n_tiles}: ours, slides per second", N_SLIDES / times["ours"], unit="slides/s")
    line(f"t={n_tiles}: rate of products alone", alone[1][1] / limit / 1e9, unit="GFLOP/s")
    line(f"t={n_tiles}: ours / products alone", limit / times["ours"], unit="of the limit")
    line(
        f"t={n_tiles}: plain autograd / ours",
        times["plain autograd, default products"] / times["ours"], unit="×",
    )  # fmt: skip
    if peer is not None:
        forward = times["ours, forward of the convolutions"]
        line(
            f"t={n_tiles}: spconv / ours, forward",
            times["spconv, forward of the convolutions"] / forward, unit="×",
        )  # fmt: skip


def measure_dense(n_tiles: int, *, reps: int) -> None:
    """One slide: a dense map of one takes half a gigabyte."""
    one = [batch(n_tiles, seed=seed, n_slides=1) for seed in range(reps + 1)]
    ours, dense = training_step(scm()), training_step(DenseStage())
    runs: dict[str, tuple[Callable[[int], object], bool]] = {
        "ours": (lambda rep: ours(one[rep]), True),
        "dense": (lambda rep: dense(one[rep]), True),
    }
    times = medians(interleaved(runs, reps=reps))
    line(f"one slide, t={n_tiles}: dense / ours", times["dense"] / times["ours"], unit="×")


STEPS: dict[str, Callable[[], Step]] = {
    "ours": lambda: training_step(scm()),
    "plain": lambda: plain_step(scm()),
    "dense": lambda: training_step(DenseStage()),
}


def peak_of_step(name: str, n_tiles: int, *, n_slides: int) -> float:
    """MiB that a fresh process grows by in one step, beyond weights and batch."""
    command = [sys.executable, "-m", "benchmarks.sparse_conv", "--peak-of", name]
    command += ["--tiles", str(n_tiles), "--slides", str(n_slides)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def print_peak(name: str, n_tiles: int, *, n_slides: int) -> None:
    torch.set_num_threads(1)
    tiles, step = batch(n_tiles, seed=0, n_slides=n_slides), STEPS[name]()
    with fast_matmul("cpu"):
        before = memory_mib("VmRSS")
        step(tiles)
    print(memory_mib("VmHWM") - before)


def memory_mib(field: str) -> float:
    """A field of this process's status (VmRSS: now; VmHWM: the most it ever was)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(text.split()[1]) for text in lines if text.startswith(field)) / 1024


def measure_peaks(n_tiles: int) -> None:
    for name in ("ours", "plain"):
        peak = peak_of_step(name, n_tiles, n_slides=N_SLIDES)
        line(f"t={n_tiles}: peak memory of a step, {name}", peak, unit="MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, nargs="+", default=[5, 25, 256])
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slides", type=int, default=N_SLIDES)
    parser.add_argument("--peak-of", choices=sorted(STEPS))
    options = parser.parse_args()
    if options.peak_of:
        print_peak(options.peak_of, options.tiles[0], n_slides=options.slides)
        return
    torch.set_num_threads(options.threads)
    for n_tiles in options.tiles:
        measure(n_tiles, reps=options.reps if n_tiles < 100 else min(3, options.reps))
        measure_peaks(n_tiles)
    measure_dense(64, reps=3)
    for name in ("ours", "dense"):
        peak = peak_of_step(name, 64, n_slides=1)
        line(f"one slide, t=64: peak memory of a step, {name}", peak, unit="MiB")


if __name__ == "__main__":
    main()
