"""A small cohort with slides on disk and names that no page may run."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from gigassl.slides.slide_files import save_image
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.table import SlideTable, open_table, save_table, table_from_rows
from tests.vectors.test_table import PROVENANCE, make_row

EVIL = "<script>alert(1)</script>"
"""A label."""
NAME = "<img src=x onerror=alert(1)><script>alert(2)<!--"
"""Of a slide: a file's name has no slash."""
N, DIM, N_SITES = 30, 8, 3


def cohort_on_disk(folder: Path, *, n: int = N) -> Path:
    """``vectors.parquet``, ``labels.csv``, ``slides.csv`` and the slides that it names."""
    rng = np.random.default_rng(0)
    names = [NAME, *(f"slide {k:03}" for k in range(1, n))]
    (folder / "slides").mkdir(parents=True)
    rows, labels, files = [], ["slide_id,subtype,age,hospital"], ["slide_id,path"]
    for k, name in enumerate(names):
        site = k // 2 % N_SITES
        vector = rng.standard_normal(DIM)
        vector[site] += 4
        row = make_row(
            "a", file=f"{k}.svs", width_l0=320, height_l0=240, mpp=0.5,
            embedding=l2_normalised(vector), patient_id=f"p{k // 2:02}",
            n_tiles=int(rng.integers(5, 900)), view_spread=float(rng.gamma(2, 0.1)),
        )  # fmt: skip
        rows.append(replace(row, slide_id=name))
        labels.append(f"{name},{(EVIL, 'LUAD')[k % 2]},{40 + k},h{site}")
        files.append(f"{name},slides/{k}.svs")
        colour = rng.integers(90, 250, size=3)
        picture = np.full((240, 320, 3), colour, dtype=np.uint8)
        picture[60:180, 80:240] = 255 - colour
        save_image(picture, folder / "slides" / f"{k}.svs", mpp=0.5)
    save_table(table_from_rows(rows, provenance=PROVENANCE), folder / "vectors.parquet")
    (folder / "labels.csv").write_text("\n".join(labels))
    (folder / "slides.csv").write_text("\n".join(files))
    return folder


def table_of(folder: Path) -> SlideTable:
    """The vectors of ``cohort_on_disk``."""
    return open_table(folder / "vectors.parquet")
