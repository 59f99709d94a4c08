"""How fast tiles are read: other readers, ours, and decoding the same JPEG bytes from memory.

    python benchmarks/read_tiles.py [--side 20480] [--threads 1 2] [--tiles 2048]

Makes its own slide. Prints one line a number: median over interleaved repetitions, tiles/s, ratio
to OpenSlide at the same number of threads.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openslide
import simplejpeg
from PIL import Image

from gigassl.slides.grid import GridSettings, TileGrid, make_grid
from gigassl.slides.jpeg import open_jpeg_level
from gigassl.slides.reader import Slide, open_slide
from gigassl.slides.tiff_writer import TiffLevel, save_tiff
from gigassl.slides.tile_reader import TileReader

STORED_PX = 256
BATCH = 32
Work = Callable[[np.ndarray], object]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way of reading: its name, the tile side and resolution, what is asked of us."""

    name: str
    tile_px: int
    target_mpp: float
    share: float = 1.0


CASES = (
    Case(name="aligned 256 px", tile_px=256, target_mpp=0.5),
    Case(name="unaligned 224 px", tile_px=224, target_mpp=0.5),
    Case(name="x2 shrink to 256 px", tile_px=256, target_mpp=1.0, share=0.25),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=20480, help="side of the slide, px")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tiles", type=int, default=2048, help="tiles a run at level 0")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--picture", type=Path, help="save a piece of the slide here and stop")
    options = parser.parse_args()
    if options.picture:
        Image.fromarray(texture(1024, 1024, seed=0)).save(options.picture)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.svs"
        write_slide(path, options.side)
        size = path.stat().st_size / (-(-options.side // STORED_PX)) ** 2
        print(f"slide {options.side} px, stored tiles {STORED_PX} px, {size / 1000:.1f} kB each")
        for case in CASES:
            for threads in options.threads:
                run_case(path, case, threads=threads, options=options)


def run_case(path: Path, case: Case, *, threads: int, options: argparse.Namespace) -> None:
    with open_slide(path) as slide:
        settings = GridSettings(tile_px=case.tile_px, target_mpp=case.target_mpp)
        grid = make_grid(slide.info, settings, tissue=None)
        indices = np.arange(min(len(grid), int(options.tiles * case.share)))
        rates: dict[str, list[float]] = {}
        for _ in range(options.repetitions):
            for name, prepare in contenders(path, slide, grid):
                # a fresh reader each time: no tile is left over in anybody's cache
                seconds = timed(prepare(), indices, threads=threads)
                rates.setdefault(name, []).append(len(indices) / seconds)
    reference = statistics.median(rates["openslide"])
    for name, values in rates.items():
        rate = statistics.median(values)
        told = f"{rate:8.0f} tiles/s {rate / reference:6.2f} x"
        print(f"{case.name:20} {threads} thr  {name:24} {told}", flush=True)


def timed(work: Work, indices: np.ndarray, *, threads: int) -> float:
    work(indices[:1])
    parts = np.array_split(indices, threads)

    def in_batches(part: np.ndarray) -> None:
        for start in range(0, len(part), BATCH):
            work(part[start : start + BATCH])

    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        list(pool.map(in_batches, parts))
        return time.perf_counter() - started


def contenders(
    path: Path, slide: Slide, grid: TileGrid
) -> Iterator[tuple[str, Callable[[], Work]]]:
    yield "openslide", lambda: openslide_work(path, grid)
    if find_spec("tifffile") and find_spec("imagecodecs") and aligned(grid):
        yield "tifffile", lambda: tifffile_work(path, grid)
    if find_spec("pyvips"):
        yield "pyvips", lambda: pyvips_work(path, grid)
    if find_spec("cucim"):
        yield "cucim", lambda: cucim_work(path, grid)
    yield "gigassl", lambda: TileReader(slide, grid).read
    if grid.plan.scale != 1:
        yield "gigassl scaled DCT", lambda: TileReader(slide, grid, scaled_dct=True).read
    yield "limit: JPEG from memory", lambda: memory_work(path, slide, grid)


def aligned(grid: TileGrid) -> bool:
    return grid.tile_px == STORED_PX and grid.plan.scale == 1


def shrunk(region: np.ndarray, grid: TileGrid) -> np.ndarray:
    if grid.plan.scale == 1:
        return region
    side = (grid.tile_px, grid.tile_px)
    return np.asarray(cv2.resize(region, side, interpolation=cv2.INTER_AREA))


def openslide_work(path: Path, grid: TileGrid) -> Work:
    handle, side = openslide.OpenSlide(path), grid.plan.read_px

    def work(indices: np.ndarray) -> None:
        for x, y in grid.coords[indices].tolist():
            tile = handle.read_region((x, y), 0, (side, side)).convert("RGB")
            if side != grid.tile_px:
                tile = tile.resize((grid.tile_px, grid.tile_px), Image.Resampling.BOX)
            np.asarray(tile)

    return work


def tifffile_work(path: Path, grid: TileGrid) -> Work:
    tifffile = import_module("tifffile")
    tiff = tifffile.TiffFile(path)
    page, data = tiff.pages[0], path.read_bytes()
    columns = -(-page.imagewidth // STORED_PX)

    def work(indices: np.ndarray) -> None:
        for x, y in (grid.coords[indices] // STORED_PX).tolist():
            index = y * columns + x
            start, count = page.dataoffsets[index], page.databytecounts[index]
            page.decode(data[start : start + count], index, jpegtables=page.jpegtables)

    return work


def pyvips_work(path: Path, grid: TileGrid) -> Work:
    pyvips: Any = import_module("pyvips")
    regions: dict[int, Any] = {}
    side = grid.plan.read_px

    def work(indices: np.ndarray) -> None:
        import threading

        region = regions.get(threading.get_ident())
        if region is None:
            region = pyvips.Region.new(pyvips.Image.tiffload(str(path), page=0))
            regions[threading.get_ident()] = region
        for x, y in grid.coords[indices].tolist():
            pixels = np.frombuffer(region.fetch(x, y, side, side), np.uint8)
            shrunk(pixels.reshape(side, side, 3), grid)

    return work


def cucim_work(path: Path, grid: TileGrid) -> Work:
    image: Any = import_module("cucim").CuImage(str(path))
    side = grid.plan.read_px

    def work(indices: np.ndarray) -> None:
        for corner in grid.coords[indices].tolist():
            shrunk(np.asarray(image.read_region(corner, (side, side), 0)), grid)

    return work


def memory_work(path: Path, slide: Slide, grid: TileGrid) -> Work:
    """Decodes each stored tile that a batch needs for the first time into one reused buffer."""
    level = open_jpeg_level(path, slide.level_sizes[0])
    assert level is not None
    data, stored, side = path.read_bytes(), level.stored, grid.plan.read_px
    spans = [data[o : o + n] for o, n in zip(stored.offsets, stored.counts, strict=True)]
    seen: set[int] = set()

    def work(indices: np.ndarray) -> None:
        buffer = np.empty((STORED_PX, STORED_PX, 3), np.uint8)
        for x, y in grid.coords[indices].tolist():
            for index in under(x, y, side=side, columns=stored.columns):
                if index not in seen:
                    seen.add(index)
                    simplejpeg.decode_jpeg(spans[index], "RGB", buffer=buffer)

    return work


def under(x: int, y: int, *, side: int, columns: int) -> Sequence[int]:
    rows = range(y // STORED_PX, (y + side - 1) // STORED_PX + 1)
    cols = range(x // STORED_PX, (x + side - 1) // STORED_PX + 1)
    return [row * columns + col for row in rows for col in cols]


def write_slide(path: Path, side: int) -> None:
    """A slide without a pyramid: JPEG Q80 4:2:0, Aperio style, 0.5 µm/px."""
    level = TiffLevel(
        width_px=side,
        height_px=side,
        tile_px=STORED_PX,
        tiles=stored_tiles(side),
        subsampling=(2, 2),
        description=f"Aperio Image Library v12\r\n{side}x{side} Q=80|AppMag = 20|MPP = 0.5",
    )
    save_tiff([level], path)


def stored_tiles(side: int) -> Iterator[bytes]:
    across = -(-side // STORED_PX)
    for row in range(across):
        band = texture(across * STORED_PX, STORED_PX, seed=row)
        for column in range(across):
            tile = band[:, column * STORED_PX : (column + 1) * STORED_PX]
            yield simplejpeg.encode_jpeg(np.ascontiguousarray(tile), 80, "RGB", "420")


def texture(width: int, height: int, *, seed: int) -> np.ndarray:
    """Stroma, nuclei and grain in H&E colours; detail at the scales that decide a JPEG's size."""
    rng = np.random.default_rng(seed)

    def noise(sigma: float) -> np.ndarray:
        raw = rng.standard_normal((height, width), dtype=np.float32)
        smooth = cv2.GaussianBlur(raw, (0, 0), sigma)
        return np.asarray(smooth / smooth.std(), np.float32)

    nuclei = np.clip(noise(4.0) * 2.0 - 2.2, 0, 1)
    stroma = noise(12.0) * 0.16 + noise(2.0) * 0.10
    eosin, haematoxylin = 0.45 + stroma, 0.12 + 0.9 * nuclei + 0.05 * noise(1.2)
    absorbed = haematoxylin[..., None] * np.array([0.65, 0.70, 0.29], np.float32) + eosin[
        ..., None
    ] * np.array([0.07, 0.80, 0.35], np.float32)
    grain = rng.standard_normal((height, width, 1), dtype=np.float32) * 2.5
    return np.asarray((250 * np.exp(-absorbed) + grain).clip(0, 255), np.uint8)


if __name__ == "__main__":
    main()
