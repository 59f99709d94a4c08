"""slide2vec (on hs2p) as its documentation shows it: a Pipeline with an encoder of one's own."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import slide2vec  # type: ignore[import-not-found]
import torch
from hs2p import TilingConfig  # type: ignore[import-not-found]
from slide2vec.artifacts import load_array  # type: ignore[import-not-found]
from slide2vec.encoders.base import TorchTileEncoder  # type: ignore[import-not-found]
from slide2vec.encoders.registry import register_encoder  # type: ignore[import-not-found]

from benchmarks.peers.job import MEAN, STD, Found, Job, Work, answer, loaded_network


def registered(job: Job) -> str:
    """The network under a name that slide2vec knows."""
    network = loaded_network(job)
    with torch.inference_mode():
        dim = int(network(torch.zeros(1, 3, job.tile_px, job.tile_px)).shape[1])

    @register_encoder(
        "raced", encode_dim=dim, input_size=job.tile_px, supports_variable_input_size=True,
        supported_spacing_um=None, default_spacing_um=job.mpp, precision=job.precision,
    )  # fmt: skip
    class Raced(TorchTileEncoder):  # type: ignore[misc]
        def __init__(self, *, output_variant: str | None = None) -> None:
            super().__init__(
                network, encode_dim=dim, input_size=job.tile_px, mean=MEAN, std=STD,
                output_variant=output_variant,
            )  # fmt: skip

    return "raced"


def prepare(job: Job) -> Work:
    model = slide2vec.Model.from_preset(registered(job), device="cpu")
    tiling = TilingConfig(
        requested_spacing_um=job.mpp, requested_tile_size_px=job.tile_px, tolerance=0.05,
        overlap=0.0,
    )  # fmt: skip
    # nobody else draws previews
    preview = replace(
        slide2vec.PreprocessingConfig().preview, save_mask_preview=False, save_tiling_preview=False
    )
    preprocessing = slide2vec.PreprocessingConfig(
        tiling=tiling, preview=preview, num_cucim_workers=job.workers
    )

    def work(slides: Mapping[str, str], out: Path) -> Mapping[str, Found]:
        execution = slide2vec.ExecutionOptions(
            output_dir=out, num_gpus=1, precision=job.precision,
            num_preprocessing_workers=job.workers,
        )  # fmt: skip
        pipeline = slide2vec.Pipeline(model, preprocessing, execution=execution)
        result = pipeline.run(
            [{"sample_id": name, "image_path": path} for name, path in slides.items()]
        )
        return {made.sample_id: found(made, out) for made in result.tile_artifacts}

    return work


def found(made: Any, out: Path) -> Found:
    (tiling,) = out.rglob(f"{made.sample_id}.coordinates.npz")
    with np.load(tiling) as places:
        coords = np.stack([places["x"], places["y"]], axis=1)
    return Found(coords=coords, features=np.asarray(load_array(made.path)))


if __name__ == "__main__":
    answer(prepare, packages=("slide2vec", "hs2p", "torch"))
