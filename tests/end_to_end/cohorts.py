"""Tables of vectors and labels with known effects, for the commands that evaluate."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gigassl.vectors.row import SlideRow
from gigassl.vectors.table import save_table, table_from_rows

DIM = 12


def save_vectors(
    path: Path, n: int, *, seed: int = 0, prefix: str = "s", encoder: str = "e"
) -> np.ndarray:
    """n slides of two a patient; returns their vectors."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [
        SlideRow(
            slide_id=f"{prefix}{k:04d}", patient_id=f"{prefix}p{k // 2:04d}", file="x.h5",
            embedding=vectors[k].astype(np.float32), n_tiles=5, settings_digest=f"digest-{encoder}",
        )
        for k in range(n)
    ]  # fmt: skip
    save_table(table_from_rows(rows, provenance={"settings": {"tile_encoder": encoder}}), path)
    return vectors


def by_patient(values: np.ndarray) -> np.ndarray:
    """The mean of each patient's two slides, for both."""
    return np.repeat((values[0::2] + values[1::2]) / 2, 2)


def save_labels(path: Path, columns: Mapping[str, Sequence[object]], *, prefix: str = "s") -> None:
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["slide_id", *columns])
        for k, row in enumerate(zip(*columns.values(), strict=True)):
            writer.writerow([f"{prefix}{k:04d}", *row])
