"""Compressed slides for tests: a store whose tiles have cells, with or without turned variants."""

import numpy as np
import torch

from gigassl.evaluate.mil.bags import BagReader
from gigassl.evaluate.mil.crops import CropReader
from gigassl.evaluate.task import Task
from gigassl.tiles.turns import turned_cells, turned_shape
from gigassl.vectors.tile_store import TileStore


def grid_store(
    task: Task, *, shape: tuple[int, int] = (9, 7), dim: int = 5, variants: int = 1, seed: int = 0,
    fill: float = 0.8,
) -> TileStore:  # fmt: skip
    """Slides of noise on a grid with holes; column 0 of the features says the target.

    Turned variants hold other noise at turned cells.
    """
    generator = np.random.default_rng(seed)
    features, cells, count = [], [], []
    for target in task.target:
        at = np.argwhere(generator.random(shape) < fill) + 3  # off the corner: boxes begin anywhere
        whole = (shape[0] + 3, shape[1] + 3)
        for variant in range(variants):
            rows = generator.normal(size=(len(at), dim))
            rows[:, 0] += 2 * target
            features.append(rows)
            cells.append(turned_cells(at, variant, shape=whole))
        count.append(len(at))
    lengths = torch.tensor(count)[:, None].expand(-1, variants).contiguous()
    first = (lengths.flatten().cumsum(0) - lengths.flatten()).view(lengths.shape)
    shapes = [turned_shape((shape[0] + 3, shape[1] + 3), v) for v in range(variants)]
    rows_of_cells = torch.from_numpy(np.concatenate(cells))
    return TileStore(
        features=torch.from_numpy(np.concatenate(features).astype(np.float16)),
        coords=rows_of_cells.flip(1) * 64,
        um_per_unit=torch.full((len(task),), 0.5),
        first=first,
        count=lengths,
        slide_ids=task.slide_ids,
        patient_ids=task.patient_ids,
        tile_um=32.0,
        cells=rows_of_cells.int(),
        shapes=torch.tensor(shapes).expand(len(task), -1, -1).contiguous(),
    )


def crop_reader(store: TileStore, *, side: int = 17, n_crops: int = 10) -> CropReader:
    bags = BagReader(store=store, device=torch.device("cpu"))
    return CropReader(bags=bags, side=side, n_crops=n_crops)
