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


def cohort_for(job: Job) -> Cohort:
    return read_cohort(Path(next(iter(job.slides.values()))).parent)


def prepare(job: Job) -> Work:
    encoder, tiles, cohort = encoder_for(job), tiles_for(job), cohort_for(job)
    bags, table = Path(job.out) / "bags", Path(job.out) / "vectors.parquet"
    options = RunOptions(keep_bags=bags, workers=job.workers)

    def work() -> Mapping[str, Found]:
        settings = EmbedSettings(tiles=tiles)
        result = embed(cohort, table, encoder=encoder, settings=settings, options=options)
        if result.failures:
            raise SystemExit(result.sentence())
        return {name: _kept(bags / f"{name}.h5") for name in job.slides}

    return work


def _kept(path: Path) -> Found:
    bag = open_bag(path)
    return Found(coords=bag.coords, features=bag.features)


if __name__ == "__main__":
    answer(prepare, packages=("gigassl", "torch"))
