"""How everything grows with the number of slides: a run, its resume and merge, and its table.

    python -m benchmarks.scale [--rows 1e2 1e3 1e4 1e5 1e6] --out DIR

Runs (rows committed one by one, found again by a new process, merged by a third) go up to
``--most-runs``; whole runs of ``gigassl embed`` on bags of one tile up to ``--most-slides``; tables
of 256 columns to the end, HNSW up to 1e5 rows. Each step is a process of its own, whose memory is
the growth of its peak. Prints a line a number, writes DIR/scale.csv and draws DIR/scale.png.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import csv
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.report import line
from benchmarks.scale_runs import Numbers, embed_growth, run_growth
from benchmarks.scale_tables import table_growth
from gigassl.report.figures import new_figure, save_png

FEWEST_OF_TABLES = 1000

A_SLIDE = "a slide, ms"
PANELS: Mapping[str, Sequence[str]] = {
    A_SLIDE: (
        "commit, ms a slide", "embed, ms a tiny bag", "nothing to do, ms a tiny bag",
    ),
    "a run or table, s": (
        "resume scan, s", "merge, s", "read, s", "ivf, build s", "hnsw, build s",
        "probe at C = 1, s",
    ),
    "memory, MB grown": (
        "commit, MB grown", "scan, MB grown", "merge, MB grown", "read, MB grown",
        "embed, MB grown",
    ),
    "a query, ms; files": (
        "exact, ms a query", "ivf, ms a query", "hnsw, ms a query", "files in .parts",
    ),
}  # fmt: skip


def measured(n: int, work: Path, *, most_runs: float, most_slides: float) -> Numbers:
    """All numbers of one size."""
    found: Numbers = {}
    if n <= most_runs:
        found |= run_growth(work / "run", n)
    if n <= most_slides:
        found |= embed_growth(work / "slides", n)
    if n >= FEWEST_OF_TABLES:
        found |= table_growth(work / "table", n)
    return found


def draw(rows: Mapping[int, Numbers], path: Path) -> None:
    """Each number against the number of rows, both by powers of ten, growth by n dotted."""
    figure = new_figure(9.0, 7.0)
    for axis, (title, names) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        for name in names:
            points = [(n, found[name]) for n, found in rows.items() if found.get(name, 0) > 0]
            if not points:
                continue
            sizes, values = zip(*points, strict=True)
            line_drawn = axis.plot(sizes, values, marker="o", markersize=3, label=name)
            power = 0 if title == A_SLIDE else 1
            axis.plot(
                sizes, [values[-1] * (n / sizes[-1]) ** power for n in sizes], linestyle=":",
                linewidth=0.8, color=line_drawn[0].get_color(),
            )  # fmt: skip
        axis.set(xscale="log", yscale="log", xlabel="slides", title=title)
        if axis.has_data():
            axis.legend(fontsize=6)
    save_png(figure, path)


def save(rows: Mapping[int, Numbers], path: Path) -> None:
    """One line a number: rows, what, value."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["rows", "what", "value"])
        writer.writerows(
            [n, name, f"{v:.5g}"] for n, found in rows.items() for name, v in found.items()
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rows", type=float, nargs="+", default=[1e2, 1e3, 1e4, 1e5, 1e6])
    options.add_argument("--most-runs", type=float, default=1e5)
    options.add_argument("--most-slides", type=float, default=1e3)
    options.add_argument("--out", type=Path, required=True)
    chosen = options.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    rows: dict[int, Numbers] = {}
    with tempfile.TemporaryDirectory(prefix="scale", dir=chosen.out) as name:
        for n in sorted(map(int, chosen.rows)):
            rows[n] = measured(
                n, Path(name), most_runs=chosen.most_runs, most_slides=chosen.most_slides
            )
            for what, value in rows[n].items():
                line(f"{n:,} rows: {what}", value, unit="")
            # after each size, so that a run given up leaves what it has
            save(rows, chosen.out / "scale.csv")
            draw(rows, chosen.out / "scale.png")


if __name__ == "__main__":
    main()
