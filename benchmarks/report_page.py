"""Reports of large cohorts: their size, and the seconds until the map answers, in Chromium.

Promise: 1,000 slides with thumbnails stay below 15 MB and open in less than 3 s; 11,642 slides,
thumbnails beside the page, can still be used. Vectors are drawn at random around 12 centres;
thumbnails are of coloured blobs, which fill the bytes that a thumbnail may take. Needs `chromium`;
takes some minutes, mostly UMAP. `python -m benchmarks.report_page [ROWS …]`
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from gigassl.pipeline.report import ReportOptions, report_page
from gigassl.slides.slide_files import save_image
from gigassl.vectors.row import SlideRow
from gigassl.vectors.table import save_table, table_from_rows

ROWS, DIM, CENTRES, OPENED = (1000, 11_642), 256, 12, 5
PAINTED, WIDTH, HEIGHT = 20, 640, 480


def cohort(folder: Path, n: int) -> None:
    """Vectors, labels, and twenty slide files that all slides link to."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CENTRES, DIM))
    group = rng.integers(0, CENTRES, n)
    vectors = centres[group] + 1.5 * rng.standard_normal((n, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [
        SlideRow(
            slide_id=f"TCGA-{k % 40:02d}-{k // 2:04d}-01Z-00-DX{k}", patient_id=f"p{k // 2:05}",
            file=f"{k}.svs", embedding=vectors[k].astype(np.float32),
            n_tiles=int(rng.integers(50, 9000)), n_views=50,
            view_spread=float(rng.gamma(2, 0.1)), mpp=(0.25, 0.5)[k % 2], mpp_source="file",
            effective_mpp=0.5, width_l0=WIDTH, height_l0=HEIGHT, settings_digest="bench",
        )
        for k in range(n)
    ]  # fmt: skip
    save_table(table_from_rows(rows, provenance={}), folder / "vectors.parquet")
    labels = [f"{row.slide_id},{'abcdefghijkl'[group[k]]},{k % 71}" for k, row in enumerate(rows)]
    (folder / "labels.csv").write_text("\n".join(["slide_id,subtype,age", *labels]))
    slides = folder / "slides"
    slides.mkdir()
    for number in range(PAINTED):
        blobs = Image.fromarray(rng.integers(90, 255, (48, 64, 3), dtype=np.uint8))
        picture = np.asarray(blobs.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
        save_image(picture, folder / f"{number}.svs", mpp=0.5)
    for k, row in enumerate(rows):
        (slides / f"{row.slide_id}.svs").symlink_to(folder / f"{k % PAINTED}.svs")


def ready_seconds(page: Page, path: Path) -> float:
    """Seconds from asking for the page until its map is drawn and listens."""
    page.goto("about:blank")
    begin = time.perf_counter()
    page.goto(path.as_uri(), wait_until="commit")
    page.wait_for_selector("#atlas[data-ready]", timeout=120_000)
    return time.perf_counter() - begin


def hover_seconds(page: Page) -> float:
    """Seconds from pointing at a slide until its card and thumbnail are shown."""
    x, y = page.evaluate(
        """() => {
            const plot = document.getElementById("atlas-plot"), trace = plot.data[0];
            plot.scrollIntoView({block: "center", behavior: "instant"});
            const {xaxis, yaxis} = plot._fullLayout, box = plot.getBoundingClientRect();
            return [box.left + xaxis._offset + xaxis.d2p(trace.x[7]),
                    box.top + yaxis._offset + yaxis.d2p(trace.y[7])];
        }"""
    )
    begin = time.perf_counter()
    page.mouse.move(x + 3, y)
    page.mouse.move(x, y)
    page.wait_for_function(
        "document.querySelector('#atlas-card:not([hidden]) img')?.naturalWidth > 0", timeout=60_000
    )
    return time.perf_counter() - begin


def filter_seconds(page: Page) -> float:
    """Seconds from a filter typed until the map shows it."""
    begin = time.perf_counter()
    page.fill("#atlas-filter", "subtype = a")
    page.wait_for_function("document.getElementById('atlas-count').textContent.includes('of')")
    return time.perf_counter() - begin


def measure(n: int, chromium: str) -> None:
    """Prints what a report of so many slides costs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cohort(folder, n)
        out = folder / "report.html"
        options = ReportOptions(
            labels=(folder / "labels.csv",), slides=folder / "slides", target="subtype", workers=2
        )
        begin = time.perf_counter()
        result = report_page(folder / "vectors.parquet", out, options=options)
        print(f"{n} slides: {time.perf_counter() - begin:.0f} s to make", flush=True)
        print(f"{n} slides: {result.n_bytes / 1e6:.1f} MB", flush=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            seconds = sorted(ready_seconds(page, out) for _ in range(OPENED))
            print(
                f"{n} slides: {seconds[OPENED // 2]:.2f} s until the map answers "
                f"(median of {OPENED}, {seconds[0]:.2f} to {seconds[-1]:.2f})"
            )
            kind = page.evaluate("document.getElementById('atlas-plot').data[0].type")
            print(f"{n} slides: {hover_seconds(page):.2f} s until a thumbnail shows ({kind})")
            print(f"{n} slides: {filter_seconds(page):.2f} s until a filter shows", flush=True)
            browser.close()


if __name__ == "__main__":
    found = shutil.which("chromium")
    if found is None:
        sys.exit("no Chromium is installed")
    for rows in [int(each) for each in sys.argv[1:]] or ROWS:
        measure(rows, found)
