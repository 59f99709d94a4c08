"""What examples find in their folder besides what earlier ones made: tables, patches, files."""

import csv
import lzma
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from gigassl import make_cohort, open_bag, open_slide
from tests.shared_data import SHARED


def clinical(world: Path) -> None:
    """``clinical.csv``: the true labels, and hospital, age and mutations drawn at random."""
    generator = np.random.default_rng(0)
    with (world / "slides" / "cohort.csv").open(encoding="utf-8") as file:
        slides = list(csv.DictReader(file))
    drawn: dict[str, dict[str, object]] = {}
    for slide in slides:
        if slide["patient_id"] not in drawn:
            drawn[slide["patient_id"]] = {
                "hospital": "ABCDEF"[int(generator.integers(6))],
                "age": int(generator.integers(40, 85)),
                **{f"mut_{i}": int(generator.integers(2)) for i in range(1, 7)},
            }
    labels = ("slide_id", "patient_id", "composition", "arrangement")
    rows = [
        {**{name: slide[name] for name in labels}, **drawn[slide["patient_id"]]} for slide in slides
    ]
    with (world / "clinical.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def other_cohort(world: Path) -> None:
    """``other/``: eight slides of another cohort, of other patients."""
    table = world / "other" / "cohort.csv"
    if not table.exists():
        make_cohort(world / "other", n_slides=8, seed=1, side_px=1792)
        lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
        others = [f"other-{line}".replace("patient-", "other-patient-") for line in lines[1:]]
        table.write_text("".join([lines[0], *others]), encoding="utf-8")


def patches(world: Path) -> None:
    """``patches/``: tiles of the slides in class folders, the patient in their names."""
    with (world / "slides" / "cohort.csv").open(encoding="utf-8") as file:
        slides = list(csv.DictReader(file))
    for slide in slides:
        folder = world / "patches" / slide["composition"]
        folder.mkdir(parents=True, exist_ok=True)
        bag = open_bag(world / "bags" / f"{slide['slide_id']}.h5")
        with open_slide(world / "slides" / slide["path"], default_mpp=0.5) as opened:
            for i, (x, y) in enumerate(bag.coords[::12][:6]):
                tile = opened.read_region(int(x), int(y), level=0, width=224, height=224)
                name = f"{slide['patient_id']}-{slide['slide_id']}-{i}.png"
                cv2.imwrite(str(folder / name), cv2.cvtColor(tile, cv2.COLOR_RGB2BGR))


def foreign_vectors(world: Path) -> None:
    """``embeddings.npy`` and ``ids.npy``, as the authors of Giga-SSL publish them."""
    table = pq.read_table(world / "vectors.parquet")
    np.save(world / "embeddings.npy", np.asarray(table["embedding"].to_pylist(), np.float32))
    np.save(world / "ids.npy", np.asarray(table["slide_id"].to_pylist()))


def published_model(world: Path) -> None:
    """``scm.pth``: a slide encoder in the layout of the published ones."""
    packed = SHARED / "golden" / "giga_ssl_scm.pth.xz"
    (world / "scm.pth").write_bytes(lzma.decompress(packed.read_bytes()))


PREPARATIONS: Mapping[str, Callable[[Path], None]] = {
    "clinical": clinical,
    "other_cohort": other_cohort,
    "patches": patches,
    "foreign_vectors": foreign_vectors,
    "published_model": published_model,
}
