"""What reading slides from a store costs: the same slides from a folder and from an S3 server.

    python -m benchmarks.staging [--slides 8] [--side 4480] [--delay-ms 20] [--repeats 3]

Both runs embed the same synthetic slides with the bundled tile encoder into a local table, whose
bytes must be equal. The store is moto's S3-compatible server on loopback, behind a line that holds
back each answer by ``--delay-ms``, as a store in the same region does; server and line use the same
cores as the run, which a real store does not. Writing the table to the store (a part a slide, then
the whole) is timed apart, and so are the downloads without any encoding. Medians of ``--repeats``.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import line
from gigassl.pipeline.embed import embed
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.staging import Staging
from gigassl.slides.cohort import read_cohort
from gigassl.slides.slide_files import save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.stores import StoreSettings
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.engine import TileEncoder
from tests.store_servers import Bucket, flaky, s3_bucket

# the line passes answers on in pieces of this size; the first of each is held back
FIRST_BYTES = 1 << 14


@dataclass(frozen=True)
class Setup:
    """The same slides in a folder and in a bucket, and how the bucket is reached."""

    slides: Path
    work: Path
    bucket: Bucket
    stores: StoreSettings
    encoder: TileEncoder


def save_slides(folder: Path, *, n: int, side: int) -> float:
    """Synthetic slides; their size together, MB."""
    folder.mkdir()
    for seed in range(n):
        painted = paint_slide(SyntheticSettings(width_px=side, height_px=side, seed=seed))
        save_image(painted.image, folder / f"s{seed:02d}.svs", mpp=0.5)
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def download(setup: Setup) -> None:
    staging = Staging(setup.stores)
    cohort = read_cohort("s3://bench/slides", stores=setup.stores)
    with staging.ahead(cohort.slides):
        for slide in cohort.slides:
            staging.local(slide)
            staging.done(slide)


def timed(setup: Setup, repeat: int) -> dict[str, float]:
    """Seconds of each kind of run, one after the other."""
    here, there = setup.work / f"l{repeat}.parquet", setup.work / f"s{repeat}.parquet"
    key = f"out{repeat}/v.parquet"
    options = RunOptions(stores=setup.stores)
    runs: dict[str, Callable[[], object]] = {
        "local": lambda: embed(setup.slides, here, encoder=setup.encoder),
        "slides": lambda: embed("s3://bench/slides", there, encoder=setup.encoder, options=options),
        "table": lambda: embed(
            setup.slides, f"s3://bench/{key}", encoder=setup.encoder, options=options
        ),
        "fetch": lambda: download(setup),
    }
    found = {}
    for kind, run in runs.items():
        begin = time.perf_counter()
        run()
        found[kind] = time.perf_counter() - begin
    assert here.read_bytes() == there.read_bytes() == setup.bucket.read(key)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=8)
    parser.add_argument("--side", type=int, default=4480)
    parser.add_argument("--delay-ms", type=float, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    def held_back(bytes_so_far: int) -> None:
        if bytes_so_far <= FIRST_BYTES:
            time.sleep(arguments.delay_ms / 1e3)

    with tempfile.TemporaryDirectory() as name, s3_bucket("bench") as bucket:
        work = Path(name)
        slides = work / "slides"
        megabytes = save_slides(slides, n=arguments.slides, side=arguments.side)
        bucket.upload(slides, "slides")
        with flaky(bucket.host, bucket.port, during=held_back) as (_, endpoint):
            stores = StoreSettings(options=bucket.options(endpoint), cache_dir=work / "cache")
            setup = Setup(slides, work, bucket, stores, load_encoder("efficientnet-lite0"))
            embed(slides, work / "warm.parquet", encoder=setup.encoder)
            all_times = [timed(setup, repeat) for repeat in range(arguments.repeats)]
    found = {kind: statistics.median(t[kind] for t in all_times) for kind in all_times[0]}
    line("slides", arguments.slides, unit="slides")
    line("size of all", megabytes, unit="MB")
    line("folder to file", found["local"], unit="s")
    line("slides from the store", found["slides"] / found["local"], unit="x folder to file")
    line("table to the store", found["table"] / found["local"], unit="x folder to file")
    line("downloads alone", megabytes / found["fetch"], unit="MB/s")


if __name__ == "__main__":
    main()
