"""What a collection will take on 1, 8 and 64 GPUs, from rates with names; printed as Markdown.

    python -m benchmarks.project

The tables stand in docs/scale.md as they are printed (a test compares). Stages overlap
in a run, so the slowest one is the time: encoding, reading tiles, fetching the slides, committing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GPUS = (1, 8, 64)
LINES_GBIT = (1, 10, 100)

# measured, see docs/scale.md for where
CPU_IMAGES_PER_S = 300.0
"""ResNet18 to layer3, two cores together."""
READ_TILES_PER_S = 1_400.0
"""A core, whole slides: 224 px at 0.5 µm/px from slides of 0.25 without a level of 0.5."""
DRAWN_TILES_PER_S = 1_000.0
"""A core, for banks: squares anywhere on the slide, jittered."""
COMMIT_S = 0.01
"""One row made safe by the one writer of a run, on a local disk."""

# assumed: no GPU was at hand
GPU_IMAGES_PER_S: Mapping[str, float] = {"ResNet18-layer3": 8_000.0, "ViT-L": 800.0}
CORES_PER_GPU = 16
LINE_GBIT = 10.0
TILES_PER_SLIDE = 12_000
"""Tissue of a mean slide in tiles of 224 px at 0.5 µm/px."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Slides, and their size."""

    name: str
    slides: int
    terabytes: float


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is encoded of a slide, and how fast a core reads such tiles."""

    name: str
    tiles_per_slide: int
    read_per_s: float


TCGA = Collection(name="TCGA", slides=11_642, terabytes=16)
MILLION = Collection(name="a million slides", slides=1_000_000, terabytes=16 * 1_000_000 / 11_642)
BANK = Work(name="bank 50 × 256", tiles_per_slide=50 * 256, read_per_s=DRAWN_TILES_PER_S)
SMALL_BANK = Work(name="bank 25 × 25", tiles_per_slide=25 * 25, read_per_s=DRAWN_TILES_PER_S)
ALL = Work(name="embed (all tiles)", tiles_per_slide=TILES_PER_SLIDE, read_per_s=READ_TILES_PER_S)
WORKS = (BANK, SMALL_BANK, ALL)


def forwards(collection: Collection, work: Work) -> int:
    """Tiles to encode.

    >>> forwards(TCGA, BANK)
    149017600
    """
    return collection.slides * work.tiles_per_slide


def cpu_hours(collection: Collection, work: Work) -> float:
    """Hours of encoding on two cores, without a GPU."""
    return forwards(collection, work) / CPU_IMAGES_PER_S / 3600


def fetch_hours(collection: Collection, *, gbit_per_s: float) -> float:
    """Hours for all bytes over one line."""
    return collection.terabytes * 8e12 / (gbit_per_s * 1e9) / 3600


def hours(collection: Collection, work: Work, *, encoder: str, gpus: int) -> dict[str, float]:
    """Hours of each stage on GPUs with their cores, all behind one line of ``LINE_GBIT``."""
    tiles = forwards(collection, work)
    return {
        "GPU": tiles / (GPU_IMAGES_PER_S[encoder] * gpus) / 3600,
        "reading": tiles / (work.read_per_s * CORES_PER_GPU * gpus) / 3600,
        "line": fetch_hours(collection, gbit_per_s=LINE_GBIT),
        "writer": collection.slides * COMMIT_S / 3600,
    }


def slowest(stages: Mapping[str, float]) -> tuple[str, float]:
    """The stage that the others wait for, and its hours."""
    return max(stages.items(), key=lambda stage: stage[1])


def bank_gb(collection: Collection, work: Work) -> float:
    """Disk of a bank of 256 columns in float16, with its coordinates."""
    return forwards(collection, work) * (256 * 2 + 2 * 4) / 1e9


def page() -> str:
    """All tables, as they stand in docs/scale.md."""
    return "\n\n".join(
        [_on_cpu(), *(_on_gpus(each) for each in (TCGA, MILLION)), _over_lines()]
    )  # fmt: skip


def _on_cpu() -> str:
    rows = [
        [each.name, work.name, f"{forwards(each, work) / 1e6:,.1f} M",
         f"{cpu_hours(each, work):,.1f}",
         f"{bank_gb(each, work):,.1f}" if work is not ALL else ""]
        for each in (TCGA, MILLION)
        for work in WORKS
    ]  # fmt: skip
    return _table(["", "", "forwards", "hours on two cores, encoding alone", "bank, GB"], rows)


def _on_gpus(collection: Collection) -> str:
    rows = []
    for encoder in GPU_IMAGES_PER_S:
        for work in WORKS:
            cells = [hours(collection, work, encoder=encoder, gpus=gpus) for gpus in GPUS]
            rows.append([encoder, work.name, *map(_cell, cells)])
    title = f"{collection.name}: hours"
    return _table([title, "", *(f"{gpus} GPU{'s' * (gpus > 1)}" for gpus in GPUS)], rows)


def _cell(stages: Mapping[str, float]) -> str:
    name, most = slowest(stages)
    alone = f"{stages['GPU']:,.1f}"
    return alone if name == "GPU" else f"{most:,.1f} ({name}; GPU {alone})"


def _over_lines() -> str:
    rows = [
        [each.name, f"{each.terabytes:,.0f}",
         *(f"{fetch_hours(each, gbit_per_s=line):,.1f}" for line in LINES_GBIT)]
        for each in (TCGA, MILLION)
    ]  # fmt: skip
    heads = [f"hours at {line} Gbit/s" for line in LINES_GBIT]
    return _table(["", "TB", *heads], rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    print(page())


if __name__ == "__main__":
    main()
