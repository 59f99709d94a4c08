"""End to end: tiles/s of `embed` on slides against the encoder alone on the same tiles in memory.

    python benchmarks/embed_pipeline.py [--slides 4] [--side 6720] [--repeats 3] [--encoder NAME]

Both sides run in one process, in turn, with the same encoder object; the ratio is what counts.
Target: at least 0.9.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

# as the program does, before torch loads: threads that wait must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from benchmarks.report import line
from gigassl.bags.prepare import TileSettings, lay_tiles, look_at
from gigassl.pipeline.embed import EmbedSettings, embed
from gigassl.slides.cohort import read_cohort
from gigassl.slides.grid import GridSettings
from gigassl.slides.slide_files import save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.engine import TileEncoder


def all_tiles(folder: Path, tiles: TileSettings) -> list[np.ndarray]:
    """The tiles of every slide, as `embed` reads them, one array a slide."""
    held = []
    for source in read_cohort(folder).slides:
        prepared = lay_tiles(look_at(source, tiles), tiles)
        held.append(prepared.tiles.read(np.arange(len(prepared.grid))))
        prepared.close()
    return held


def seconds_to_encode(encoder: TileEncoder, held: list[np.ndarray]) -> float:
    begin = time.perf_counter()
    for tiles in held:
        for start in range(0, len(tiles), encoder.batch_size):
            encoder.encode(tiles[start : start + encoder.batch_size])
    return time.perf_counter() - begin


def seconds_to_embed(encoder: TileEncoder, folder: Path, settings: EmbedSettings) -> float:
    with tempfile.TemporaryDirectory() as out:
        begin = time.perf_counter()
        result = embed(folder, Path(out) / "v.parquet", encoder=encoder, settings=settings)
        elapsed = time.perf_counter() - begin
    assert not result.failures
    return elapsed


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--slides", type=int, default=4)
    options.add_argument("--side", type=int, default=6720)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--encoder", default="efficientnet-lite0")
    options.add_argument("--backend", default="torch")
    given = options.parse_args()

    encoder = load_encoder(given.encoder, backend=given.backend)
    tiles = TileSettings(grid=GridSettings(tile_px=encoder.record.input_px))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in range(given.slides):
            wish = SyntheticSettings(width_px=given.side, height_px=given.side, seed=seed)
            save_image(paint_slide(wish).image, folder / f"s{seed}.svs", mpp=0.5)
        held = all_tiles(folder, tiles)
        n_tiles = sum(map(len, held))
        settings = EmbedSettings(tiles=tiles)
        seconds_to_encode(encoder, [held[0][: encoder.batch_size]])  # warm-up
        alone, whole = [], []
        for _ in range(given.repeats):
            alone.append(n_tiles / seconds_to_encode(encoder, held))
            whole.append(n_tiles / seconds_to_embed(encoder, folder, settings))
    label = f"{given.encoder}, {encoder.backend}, {encoder.precision}, {encoder.device}"
    line("tiles", n_tiles, unit=f"tiles of {given.slides} slides")
    line(f"encoder alone, tiles in memory ({label})", statistics.median(alone), unit="tiles/s")
    line("embed, slide file to Parquet", statistics.median(whole), unit="tiles/s")
    ratios = [w / a for w, a in zip(whole, alone, strict=True)]
    spread = f"{min(ratios):.3f} to {max(ratios):.3f} over {given.repeats} runs; target ≥ 0.9"
    line("ratio", statistics.median(ratios), unit=f"({spread})")


if __name__ == "__main__":
    main()
