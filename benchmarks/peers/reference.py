"""Whether features are those of their tiles: OpenSlide's pixels through the network in fp32."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from openslide import OpenSlide
from PIL import Image

from benchmarks.peers.job import MEAN, STD, Job, loaded_network

TILES_A_SLIDE = 32


def agreement(job: Job) -> tuple[float, float]:
    """Cosine of what stands in ``job.out`` with the reference at the same corners: least, median.

    Tiles are read at level 0 and averaged over areas; those are drawn evenly from each slide.
    """
    network, found = loaded_network(job), []
    for name, path in job.slides.items():
        with np.load(Path(job.out) / f"{name}.npz") as kept, OpenSlide(path) as slide:
            coords, features = kept["coords"], kept["features"]
            some = np.linspace(0, len(coords) - 1, min(TILES_A_SLIDE, len(coords))).astype(int)
            expected = reference(slide, coords[some], job=job, network=network)
            found.append(cosines(features[some], expected))
    values = np.concatenate(found)
    return float(values.min()), float(np.median(values))


def reference(
    slide: OpenSlide, coords: np.ndarray, *, job: Job, network: torch.nn.Module
) -> np.ndarray:
    side = round(job.tile_px * job.mpp / float(slide.properties["openslide.mpp-x"]))
    pixels = [area_read(slide, corner, side=side, tile_px=job.tile_px) for corner in coords]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255.0
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.inference_mode():
        parts = [network(part).numpy() for part in torch.tensor_split((images - mean) / std, 2)]
    return np.concatenate(parts)


def area_read(slide: OpenSlide, corner: np.ndarray, *, side: int, tile_px: int) -> np.ndarray:
    x, y = corner.tolist()
    tile = slide.read_region((x, y), 0, (side, side)).convert("RGB")
    return np.asarray(tile.resize((tile_px, tile_px), Image.Resampling.BOX))


def cosines(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Of each row with the same row of the other."""
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return np.asarray((found * expected).sum(axis=1) / lengths)


def shared_corners(found: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray]) -> float:
    """Share of a contender's tiles that lie, to the pixel, where one of ours lies."""
    hits = n_tiles = 0
    for name, coords in found.items():
        known = set(map(tuple, ours[name].tolist()))
        hits += sum(tuple(corner) in known for corner in coords.tolist())
        n_tiles += len(coords)
    return hits / max(1, n_tiles)
