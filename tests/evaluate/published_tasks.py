"""The published tasks, read without our code, and vectors made from a seed for their slides."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gigassl.vectors.row import SlideRow
from gigassl.vectors.table import save_table, table_from_rows
from tests.shared_data import SHARED

GIGA_SSL = SHARED / "data" / "labels" / "giga-ssl"
TABLES, SPLITS = GIGA_SSL / "tables", GIGA_SSL / "splitdirs"
TASKS = ("brca", "kidney", "lung", "mhrd", "thrd", "tnbc")
SIZES = dict.fromkeys(TASKS, ("100", "25p", "50", "full")) | {
    "tnbc": ("100", "250", "25p", "50", "full")
}
DIM = 512


def published_labels(task: str) -> dict[str, str]:
    """slide_id → label."""
    with (TABLES / f"{task}.csv").open(newline="") as handle:
        return {row["ID"]: row["label"] for row in csv.DictReader(handle)}


def published_split(task: str, size: str, fold: int) -> tuple[list[str], list[str]]:
    """Slides to learn from and slides to test, those without a label left out."""
    known = published_labels(task)
    with (SPLITS / task / size / f"split_{fold}.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    train, test = ([row[side] for row in rows if row[side] in known] for side in ("train", "test"))
    return train, test


def seeded_vectors(
    labels: Sequence[Mapping[str, str]], *, strengths: Sequence[float], seed: int,
    cone: float = 0.0,
) -> dict[str, np.ndarray]:  # fmt: skip
    """slide_id → unit vector: noise, and for each table so much of its class's direction.

    Args:
        labels: one table a task.
        strengths: one a table; 0 for no signal at all.
        cone: length of what all vectors have in common, in lengths of the noise: vectors of slide
            encoders point much the same way, and their noise falls off along its axes.
    """
    rng = np.random.default_rng(seed)
    names = sorted({name for table in labels for name in table})
    spectrum = np.ones(DIM) if cone == 0 else np.arange(1, DIM + 1) ** -0.5
    vectors = rng.standard_normal((len(names), DIM)) * spectrum
    for table, strength in zip(labels, strengths, strict=True):
        means = {each: rng.standard_normal(DIM) for each in sorted(set(table.values()))}
        for row, name in enumerate(names):
            if name in table:
                vectors[row] += strength * means[table[name]]
    vectors += cone * np.linalg.norm(spectrum) * _unit(rng.standard_normal(DIM))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return dict(zip(names, unit.astype(np.float32), strict=True))


def save_vectors(vectors: Mapping[str, np.ndarray], path: Path) -> None:
    """A table of vectors as ``gigassl embed`` writes it."""
    rows = [
        SlideRow(
            slide_id=name, patient_id=name[:12], patient_rule="tcga-barcode", file=f"{name}.h5",
            embedding=vector, n_tiles=100, settings_digest="seeded",
        )
        for name, vector in vectors.items()
    ]  # fmt: skip
    save_table(table_from_rows(rows, provenance={}), path)


def _unit(vector: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vector / np.linalg.norm(vector)
    return unit
