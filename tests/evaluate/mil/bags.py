"""Bags for tests of MIL: packed from lists, and small tasks with a signal."""

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from gigassl.evaluate.mil.packed import PackedBags, packed_bags
from gigassl.evaluate.task import Kind, Task
from gigassl.vectors.tile_store import TileStore

DIM = 6
SIZES = st.lists(st.integers(1, 20), min_size=1, max_size=5)
SEEDS = st.integers(0, 2**31)


def random_bags(sizes: list[int], seed: int, *, dim: int = DIM) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(size, dim, generator=generator) for size in sizes]


def packed(bags: list[Tensor], *, height: int | None = None) -> PackedBags:
    return packed_bags(bags, height=height)


def some_task(n: int = 40, *, kind: Kind = "classification", classes: int = 2) -> Task:
    """Slides ``s0``, ``s1``, … each of a patient of its own; outcomes in turn."""
    names = tuple(f"s{number}" for number in range(n))
    target = np.arange(n) % classes + (kind == "survival")
    return Task(
        name="toy", kind=kind, slide_ids=names, patient_ids=names, sites=("",) * n,
        classes=tuple("abcdef"[:classes]) if kind == "classification" else (),
        target=target.astype(np.float64),
        event=np.arange(n) % 3 > 0 if kind == "survival" else None,
    )  # fmt: skip


def store_for(task: Task, *, dim: int = 8, signal: float = 6.0, seed: int = 0) -> TileStore:
    """Bags of 5 to 30 tiles of noise; the first two tiles of a bag say its target."""
    generator = np.random.default_rng(seed)
    count = generator.integers(5, 30, len(task))
    first = np.cumsum(count) - count
    features = generator.normal(size=(count.sum(), dim))
    for row, target in zip(first, task.target, strict=True):
        features[row : row + 2, int(target) if task.classes else 0] += (
            signal if task.classes else signal * target
        )
    return TileStore(
        features=torch.from_numpy(features.astype(np.float16)),
        coords=torch.zeros(len(features), 2),
        um_per_unit=torch.ones(len(task)),
        first=torch.from_numpy(first)[:, None],
        count=torch.from_numpy(count)[:, None],
        slide_ids=task.slide_ids,
        patient_ids=task.patient_ids,
        tile_um=112.0,
    )
