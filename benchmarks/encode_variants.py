"""What eight turned variants cost: against encoding once, and against eight runs of turned slides.

    python -m benchmarks.encode_variants [--encoder random:resnet18@layer3] [--tile-px 128]

Prints one JSON line per number. Slides are synthetic. "eight runs" reads each slide eight times, as
a tool that keeps every variant in a file of its own does; the slides are not even turned for it.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from gigassl.bags.prepare import TileSettings
from gigassl.pipeline.encode import encode
from gigassl.pipeline.jobs import RunOptions
from gigassl.slides.grid import GridSettings
from gigassl.slides.synthetic import make_cohort
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.engine import TileEncoder
from gigassl.tiles.turns import N_VARIANTS


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def encoded(slides: Path, *, encoder: TileEncoder, tiles: TileSettings, variants: bool) -> int:
    """Encodes the slides anew; how many bytes their bags take."""
    with TemporaryDirectory() as folder:
        done = encode(
            slides, Path(folder), encoder=encoder, tiles=tiles,
            options=RunOptions(variants=variants),
        )  # fmt: skip
        assert not done.failures
        return sum(path.stat().st_size for path in Path(folder).glob("*.h5"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="random:resnet18@layer3")
    parser.add_argument("--slides", type=int, default=2)
    parser.add_argument("--side-px", type=int, default=2048)
    parser.add_argument("--tile-px", type=int, default=128)
    parser.add_argument("--reps", type=int, default=3)
    given = parser.parse_args()

    with TemporaryDirectory() as folder:
        cohort = make_cohort(Path(folder), n_slides=given.slides, side_px=given.side_px)
        encoder = load_encoder(given.encoder)
        tiles = TileSettings(grid=GridSettings(tile_px=given.tile_px))
        for line in measured(cohort, encoder=encoder, tiles=tiles, reps=given.reps):
            print(json.dumps(line), flush=True)


def measured(
    cohort: Path, *, encoder: TileEncoder, tiles: TileSettings, reps: int
) -> Iterator[dict[str, object]]:
    """One line a case: median of the repetitions, which are interleaved."""

    def run(*, variants: bool) -> int:
        return encoded(cohort, encoder=encoder, tiles=tiles, variants=variants)

    n_bytes = {"once": run(variants=False), "8 variants": run(variants=True)}
    took: dict[str, list[float]] = {"once": [], "8 variants": [], "eight runs": []}
    for _ in range(reps):
        took["once"].append(seconds(lambda: run(variants=False)))
        took["8 variants"].append(seconds(lambda: run(variants=True)))
        took["eight runs"].append(seconds(lambda: [run(variants=False) for _ in range(N_VARIANTS)]))
    for name, each in took.items():
        yield {
            "bench": "encode_variants",
            "case": name,
            "s": round(median(each), 2),
            "times once": round(median(each) / median(took["once"]), 2),
            "bytes": n_bytes.get(name),
        }


if __name__ == "__main__":
    main()
