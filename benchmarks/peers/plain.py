"""The loop that many write themselves: OpenSlide in a Dataset, a DataLoader, a network."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from openslide import OpenSlide
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.peers.job import MEAN, STD, Found, Job, Work, answer, loaded_network

BATCH = 32
THUMBNAIL_DOWNSAMPLE = 64
MIN_TISSUE = 0.5


class Tiles(Dataset[Any]):
    """Tiles of one slide; every worker opens the file for itself."""

    def __init__(self, path: str, *, tile_px: int, mpp: float) -> None:
        self.path, self.tile_px = path, tile_px
        self.slide: OpenSlide | None = None
        with OpenSlide(path) as slide:
            shrink = mpp / float(slide.properties["openslide.mpp-x"])
            self.level = slide.get_best_level_for_downsample(shrink * 1.01)
            self.side_l0 = round(tile_px * shrink)
            self.read_px = round(self.side_l0 / slide.level_downsamples[self.level])
            self.coords = tissue_tiles(slide, side_l0=self.side_l0)
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        )

    def __len__(self) -> int:
        return len(self.coords)

    def __getitem__(self, index: int) -> Any:
        if self.slide is None:
            self.slide = OpenSlide(self.path)
        x, y = self.coords[index].tolist()
        size = (self.read_px, self.read_px)
        tile = self.slide.read_region((x, y), self.level, size).convert("RGB")
        if self.read_px != self.tile_px:
            tile = tile.resize((self.tile_px, self.tile_px))
        return self.transform(tile)


def tissue_tiles(slide: OpenSlide, *, side_l0: int) -> np.ndarray:
    """Corners of the tiles that are mostly tissue: saturation above Otsu's threshold."""
    width, height = slide.dimensions
    small = (width // THUMBNAIL_DOWNSAMPLE, height // THUMBNAIL_DOWNSAMPLE)
    picture = np.asarray(slide.get_thumbnail(small).convert("RGB"))
    saturation = cv2.medianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[..., 1], 7)
    _, mask = cv2.threshold(saturation, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    xs, ys = (np.arange(0, length - side_l0 + 1, side_l0) for length in (width, height))
    scale = mask.shape[1] / width
    kept = [
        (x, y) for y in ys.tolist() for x in xs.tolist()
        if _share(mask, x * scale, y * scale, side=side_l0 * scale) >= MIN_TISSUE
    ]  # fmt: skip
    return np.array(kept, np.int64).reshape(-1, 2)


def _share(mask: np.ndarray, x: float, y: float, *, side: float) -> float:
    window = mask[int(y) : int(y + side) + 1, int(x) : int(x + side) + 1]
    return float(window.mean())


def prepare(job: Job) -> Work:
    network = loaded_network(job)

    def work(slides: Mapping[str, str], _: Path) -> Mapping[str, Found]:
        return {name: encoded(job, network, path=path) for name, path in slides.items()}

    return work


def encoded(job: Job, network: torch.nn.Module, *, path: str) -> Found:
    tiles = Tiles(path, tile_px=job.tile_px, mpp=job.mpp)
    loader = DataLoader(tiles, batch_size=BATCH, num_workers=job.workers)
    arithmetic: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if job.precision == "bf16":
        arithmetic = torch.autocast("cpu", dtype=torch.bfloat16)
    with torch.inference_mode(), arithmetic:
        features = [network(batch).float().numpy() for batch in loader]
    return Found(coords=tiles.coords, features=np.concatenate(features))


if __name__ == "__main__":
    answer(prepare, packages=("openslide-python", "torch"))
