"""What the Ray engine costs on one machine: the same slides through both engines, in one run.

    python -m benchmarks.ray_engine [--slides 8] [--side 4480] [--repeats 3] [--encoder NAME]

Ray's processes, and the encoder in one of them, start once in each of its runs. That is measured
apart, by a run over one tiny slide, since a collection pays it once.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

# as the program does, before torch and Ray load: threads that wait must not spin, nothing is sent
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

from benchmarks.report import line
from gigassl.bags.prepare import TileSettings
from gigassl.pipeline.embed import EmbedSettings, embed
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.ray_cluster import connected
from gigassl.pipeline.ray_settings import RayEngine
from gigassl.slides.grid import GridSettings
from gigassl.slides.slide_files import save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.engine import TileEncoder


def paint(folder: Path, *, slides: int, side: int) -> Path:
    folder.mkdir()
    for seed in range(slides):
        painted = paint_slide(SyntheticSettings(width_px=side, height_px=side, seed=seed))
        save_image(painted.image, folder / f"s{seed}.svs", mpp=0.5)
    return folder


def timed(
    source: Path, out: Path, *, encoder: TileEncoder, engine: RayEngine | None
) -> tuple[float, int]:
    """Seconds of a run, and its tiles."""
    settings = EmbedSettings(tiles=TileSettings(grid=GridSettings(tile_px=encoder.record.input_px)))
    out.unlink(missing_ok=True)
    begin = time.perf_counter()
    result = embed(
        source, out, encoder=encoder, settings=settings, options=RunOptions(engine=engine)
    )
    elapsed = time.perf_counter() - begin
    assert result.table is not None
    assert not result.failures
    return elapsed, sum(row.n_tiles or 0 for row in result.table.rows())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--slides", type=int, default=8)
    options.add_argument("--side", type=int, default=4480)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--encoder", default="efficientnet-lite0")
    given = options.parse_args()

    encoder = load_encoder(given.encoder)
    engine = RayEngine(address="local")
    begins, local, ray = [], [], []
    with tempfile.TemporaryDirectory(dir="/tmp") as name, connected(engine):
        folder = Path(name)
        slides = paint(folder / "slides", slides=given.slides, side=given.side)
        tiny = paint(folder / "tiny", slides=1, side=672)
        here, there = folder / "local.parquet", folder / "ray.parquet"
        timed(tiny, here, encoder=encoder, engine=None)
        for _ in range(given.repeats):
            seconds, n_tiles = timed(slides, here, encoder=encoder, engine=None)
            local.append(n_tiles / seconds)
            begin, _ = timed(tiny, folder / "tiny.parquet", encoder=encoder, engine=engine)
            begins.append(begin)
            seconds, n_tiles = timed(slides, there, encoder=encoder, engine=engine)
            ray.append(n_tiles / (seconds - begin))
        same = here.read_bytes() == there.read_bytes()
    label = f"{given.encoder}, {encoder.precision}, {encoder.device}"
    line("tiles", n_tiles, unit=f"tiles of {given.slides} slides")
    line(f"local engine ({label})", statistics.median(local), unit="tiles/s")
    line("Ray engine, one machine, without its start", statistics.median(ray), unit="tiles/s")
    line("start of the encoder on a running cluster", statistics.median(begins), unit="s")
    ratios = [a / b for a, b in zip(ray, local, strict=True)]
    spread = f"({min(ratios):.3f} to {max(ratios):.3f} over {given.repeats} runs)"
    line("ratio, Ray to local", statistics.median(ratios), unit=spread)
    line("tables equal to the byte", same, unit="(1: yes)")


if __name__ == "__main__":
    main()
