"""How often a run takes what was foretold: by a dry run, and by the run's own first slides.

    python -m benchmarks.preflight [--encoder efficientnet-lite0] [--cohorts 20] [--slides 10]

Synthetic slides of many sizes; every cohort is a random subset of a pool of them. Prints the share
of runs inside the 95 % interval, how far the foretold time was from the one taken, and how wide the
intervals were. The machine should do nothing else: what changes between dry run and run
counts against the forecast.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.report import line
from gigassl.pipeline.embed import embed
from gigassl.pipeline.forecast import Forecast
from gigassl.pipeline.preflight import estimate_embed
from gigassl.slides.cohort import Cohort, read_cohort
from gigassl.slides.slide_files import save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.engine import TileEncoder


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What one run was foretold, and the seconds that it took."""

    forecast: Forecast
    seconds: float


def paint(folder: Path, *, n_slides: int, chance: np.random.Generator) -> None:
    """Paints slides whose areas differ by up to twenty times."""
    for k in range(n_slides):
        width, height = (int(side) for side in chance.integers(900, 4200, size=2))
        painted = paint_slide(SyntheticSettings(width_px=width, height_px=height, seed=k))
        save_image(painted.image, folder / f"s{k:03d}.svs", mpp=0.5)


def compared(cohort: Cohort, folder: Path, *, encoder: TileEncoder) -> dict[str, Compared]:
    """Dry run, then run, of one cohort."""
    out = folder / "v.parquet"
    out.unlink(missing_ok=True)
    foretold = estimate_embed(cohort, out, encoder=encoder)
    begin = time.perf_counter()
    done = embed(cohort, out, encoder=encoder)
    seconds = time.perf_counter() - begin
    found = {}
    if foretold.seconds is not None:
        found["dry run"] = Compared(forecast=foretold.seconds, seconds=seconds)
    if done.timing is not None:
        first = Compared(forecast=done.timing.predicted, seconds=done.timing.seconds)
        found["first slides"] = first
    return found


def report(by: str, runs: list[Compared]) -> None:
    """Prints how good the forecasts of one kind were."""
    held = [bool(run.forecast.holds(run.seconds)) for run in runs]
    off = [abs(run.forecast.value / run.seconds - 1) for run in runs]
    widths = [
        run.forecast.high / run.forecast.low
        for run in runs
        if run.forecast.low and run.forecast.high
    ]
    line(f"{by}: runs", len(runs), unit="runs")
    line(f"{by}: inside the 95% interval", sum(held) / len(held), unit="share")
    line(f"{by}: median |foretold / taken - 1|", median(off), unit="share")
    line(f"{by}: median upper / lower end", median(widths), unit="times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--cohorts", type=int, default=20)
    parser.add_argument("--slides", type=int, default=10)
    parser.add_argument("--pool", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance, encoder = np.random.default_rng(given.seed), load_encoder(given.encoder)
    runs: dict[str, list[Compared]] = {}
    with TemporaryDirectory() as pool, TemporaryDirectory() as out:
        paint(Path(pool), n_slides=given.pool, chance=chance)
        everything = read_cohort(Path(pool))
        for _ in range(given.cohorts):
            picked = np.sort(chance.choice(len(everything), size=given.slides, replace=False))
            cohort = Cohort(slides=tuple(everything.slides[i] for i in picked))
            for by, run in compared(cohort, Path(out), encoder=encoder).items():
                runs.setdefault(by, []).append(run)
    for by, found in runs.items():
        report(by, found)


if __name__ == "__main__":
    main()
