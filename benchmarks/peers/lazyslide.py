"""LazySlide as its documentation shows it: find tissue, tile it, extract features."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lazyslide as zs  # type: ignore[import-not-found]
import torch
import wsidata  # type: ignore[import-not-found]
from torchvision.transforms import v2

from benchmarks.peers.job import MEAN, STD, Found, Job, Work, answer, loaded_network


def prepare(job: Job) -> Work:
    network = loaded_network(job)
    # without a transform it would resize to the network's own crop first
    transform = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    )
    half: dict[str, Any] = {"amp": True, "autocast_dtype": torch.bfloat16}

    def encoded(path: str) -> Found:
        slide = wsidata.open_wsi(path)
        zs.pp.find_tissues(slide)
        zs.pp.tile_tissues(slide, job.tile_px, mpp=job.mpp)
        features = zs.tl.feature_extraction(
            slide, network, transform=transform, device="cpu", num_workers=job.workers,
            pbar=False, return_features=True, **(half if job.precision == "bf16" else {}),
        )  # fmt: skip
        corners = slide.shapes["tiles"].bounds[["minx", "miny"]]
        return Found(coords=corners.to_numpy().round().astype("int64"), features=features)

    def work(slides: Mapping[str, str], _: Path) -> Mapping[str, Found]:
        return {name: encoded(path) for name, path in slides.items()}

    return work


if __name__ == "__main__":
    answer(prepare, packages=("lazyslide", "wsidata", "torch"))
