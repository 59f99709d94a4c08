"""`gigassl embed`, as the command runs it: one row a slide, and the features of tiles kept."""

import os

# as the program does, before torch loads: threads that wait must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks.peers.job import MEAN, STD, Found, Job, Work, answer, loaded_network
from gigassl.bags.bag import open_bag
from gigassl.bags.prepare import TileSettings
from gigassl.pipeline.embed import EmbedSettings, embed
from gigassl.pipeline.jobs import RunOptions
from gigassl.slides.cohort import Cohort, read_cohort
from gigassl.slides.grid import GridSettings
from gigassl.tiles.engine import EngineSettings, TileEncoder
from gigassl.tiles.records import EncoderRecord


def encoder_for(job: Job) -> TileEncoder:
    network = loaded_network(job)
    with torch.inference_mode():
        dim = int(network(torch.zeros(1, 3, job.tile_px, job.tile_px)).shape[1])
    record = EncoderRecord(
        name=job.network, source="file", architecture=job.network, input_px=job.tile_px,
        dim=dim, mpp=job.mpp, mean=MEAN, std=STD,
    )  # fmt: skip
    return TileEncoder(network, record=record, settings=EngineSettings(precision=job.precision))


def tiles_for(job: Job) -> TileSettings:
    return TileSettings(grid=GridSettings(tile_px=job.tile_px, target_mpp=job.mpp))


def cohort_of(slides: Mapping[str, str]) -> Cohort:
    return read_cohort(Path(next(iter(slides.values()))).parent)


def prepare(job: Job) -> Work:
    encoder, settings = encoder_for(job), EmbedSettings(tiles=tiles_for(job))

    def work(slides: Mapping[str, str], out: Path) -> Mapping[str, Found]:
        result = embed(
            cohort_of(slides), out / "vectors.parquet", encoder=encoder, settings=settings,
            options=RunOptions(keep_bags=out / "bags", workers=job.workers),
        )  # fmt: skip
        if result.failures:
            raise SystemExit(result.sentence())
        return {name: _kept(out / "bags" / f"{name}.h5") for name in slides}

    return work


def _kept(path: Path) -> Found:
    bag = open_bag(path)
    return Found(coords=bag.coords, features=bag.features)


if __name__ == "__main__":
    answer(prepare, packages=("gigassl", "torch"))
