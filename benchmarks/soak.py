"""Hours of embedding in one process: do memory, file handles and threads stay as they are?

    python -m benchmarks.soak [--minutes 120] [--out soak] [--encoder efficientnet-lite0]

One process embeds the same folder over and over into a new table, bags included: good slides of
several codings among empty, truncated, damaged, blank ones and ones of unknown resolution. After
every pass it notes what /proc says of the process (Linux) in ``soak.csv``; at the end it draws
``soak.png`` and prints slopes with 95 % intervals. A slope is that of a straight line through the
medians of sixteen equal stretches of the run, without the first two, in which caches fill.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import csv
import logging
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.report import line
from gigassl.bags.prepare import TileSettings
from gigassl.pipeline.embed import EmbedSettings, embed
from gigassl.pipeline.jobs import RunOptions
from gigassl.report.figures import new_figure, save_png
from gigassl.slides.grid import GridSettings
from gigassl.slides.slide_files import JpegCoding, SlideFileSettings, save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.tiles.encoders import load_encoder

STRETCHES, LEFT_OUT = 16, 2
WATCHED = {"rss_mb": "memory, MB", "handles": "open files", "threads": "threads"}
CODINGS: tuple[JpegCoding, ...] = ("420", "422", "444", "rgb", "progressive")


def save_mixed(folder: Path) -> tuple[int, int]:
    """Good and bad slides; how many of each."""
    folder.mkdir()
    for seed, coding in enumerate(CODINGS):
        painted = paint_slide(SyntheticSettings(width_px=1120, height_px=1344, seed=seed))
        stored = SlideFileSettings(coding=coding)
        save_image(painted.image, folder / f"good-{coding}.svs", mpp=0.5, settings=stored)
    whole = (folder / "good-420.svs").read_bytes()
    blank = paint_slide(SyntheticSettings(width_px=1120, height_px=1120, blank=True))
    save_image(blank.image, folder / "blank.svs", mpp=0.5)
    unsized = SlideFileSettings(with_mpp=False)
    save_image(blank.image, folder / "no-resolution.svs", mpp=0.5, settings=unsized)
    bad = {
        "empty": b"", "text": b"not a slide", "header": whole[:4000],
        "truncated": whole[: len(whole) // 2],
        # whole as a file, but the streams of its tiles are overwritten
        "damaged": whole[:1000] + bytes(60_000) + whole[61_000:],
    }  # fmt: skip
    for name, data in bad.items():
        (folder / f"{name}.svs").write_bytes(data)
    return len(CODINGS), len(bad) + 2


def now() -> dict[str, float]:
    """Memory in MB, open files and threads of this process."""
    status = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return {
        "rss_mb": int(status["VmRSS"].split()[0]) / 1024,
        "handles": float(len(list(Path("/proc/self/fd").iterdir())) - 1),  # the look itself
        "threads": float(status["Threads"]),
    }


def slope(hours: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Change an hour, and half the width of its 95 % interval."""
    pieces = np.array_split(np.arange(len(hours)), STRETCHES)[LEFT_OUT:]
    x = [float(np.mean(np.take(hours, piece))) for piece in pieces if len(piece)]
    y = [float(np.median(np.take(values, piece))) for piece in pieces if len(piece)]
    if len(set(y)) == 1:
        return 0.0, 0.0
    if len(x) < 3:
        return float("nan"), float("nan")
    fitted = stats.linregress(x, y)
    return float(fitted.slope), float(fitted.stderr * stats.t.ppf(0.975, len(x) - 2))


def draw(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """One panel for each thing watched, over time."""
    figure = new_figure(7.0, 5.0)
    minutes = [row["seconds"] / 60 for row in rows]
    axes = figure.subplots(len(WATCHED), 1, sharex=True)
    for axis, (name, title) in zip(axes, WATCHED.items(), strict=True):
        values = [row[name] for row in rows]
        axis.plot(minutes, values, linewidth=0.8)
        axis.set_ylim(0, 1.15 * max(values))
        axis.set_ylabel(title)
    axes[-1].set_xlabel(f"minutes ({len(rows)} passes)")
    save_png(figure, path)


def soak(folder: Path, out: Path, *, minutes: float, encoder: str) -> list[dict[str, float]]:
    """Embeds over and over; what was measured after each pass."""
    n_good, n_bad = save_mixed(folder / "slides")
    loaded = load_encoder(encoder, device="cpu")
    settings = EmbedSettings(tiles=TileSettings(grid=GridSettings(tile_px=224, target_mpp=0.5)))
    rows: list[dict[str, float]] = []
    begin, last_said = time.monotonic(), -60.0
    with (out / "soak.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, ["seconds", "slides", *WATCHED], lineterminator="\n")
        writer.writeheader()
        while (elapsed := time.monotonic() - begin) < 60 * minutes:
            run = folder / "run"
            options = RunOptions(keep_bags=run / "bags")
            result = embed(
                folder / "slides", run / "v.parquet", encoder=loaded, settings=settings,
                options=options,
            )  # fmt: skip
            assert (result.n_new, len(result.failures)) == (n_good, n_bad)
            shutil.rmtree(run)
            slides = (len(rows) + 1.0) * (n_good + n_bad)
            rows.append({"seconds": time.monotonic() - begin, "slides": slides, **now()})
            writer.writerow({name: round(value, 3) for name, value in rows[-1].items()})
            handle.flush()
            if elapsed - last_said >= 60:
                last_said = elapsed
                print(f"{elapsed / 60:.0f} of {minutes:g} minutes", rows[-1], flush=True)
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--minutes", type=float, default=120.0)
    options.add_argument("--out", type=Path, default=Path("soak"))
    options.add_argument("--encoder", default="efficientnet-lite0")
    chosen = options.parse_args()
    # the bad slides are the same in every pass; their sentences are not news
    logging.getLogger("gigassl").setLevel(logging.ERROR)
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        rows = soak(Path(folder), chosen.out, minutes=chosen.minutes, encoder=chosen.encoder)
    draw(rows, chosen.out / "soak.png")
    hours = [row["seconds"] / 3600 for row in rows]
    line("passes", len(rows), unit="passes")
    line("slides, good and bad", rows[-1]["slides"], unit="slides")
    for name, title in WATCHED.items():
        values = [row[name] for row in rows]
        change, spread = slope(hours, values)
        line(f"{title}: at the end", values[-1], unit="")
        line(f"{title}: most", max(values), unit="")
        line(f"{title}: change an hour", change, unit=f"± {spread:.2g} (95 %)")


if __name__ == "__main__":
    main()
