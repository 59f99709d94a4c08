"""Vectors of GlaS by each encoder of the ranking, kept in a folder: what is there is not made anew.

Vectors by a trained encoder are of one seed and fold, whose training images it saw.
"""

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from sklearn.model_selection import StratifiedGroupKFold

from benchmarks.nic_glas_training import (
    POOLINGS,
    GlasImages,
    NicTraining,
    Vectors,
    glas_images,
    image_vectors,
    named_encoder,
    on_one_thread,
    source_of,
    trained,
)
from gigassl.digests import digest_of_settings
from gigassl.files import written_whole
from gigassl.pipeline.import_model import import_tile_encoder

FOLDS = 4
RELEASED: Mapping[str, str] = {
    "BiGAN, released": "encoder_bigan.h5",
    "multitask-4, released": "encoder_multitask-4.h5",
}
NAMED: Mapping[str, tuple[str, str]] = {
    "mean colour": ("nic:mean-rgb", "torch"),
    "EfficientNet-Lite0, ImageNet": ("efficientnet-lite0", "openvino"),
}
"""Title → tile encoder and backend."""

Fold = tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " test"]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is ranked and where it is kept.

    Attributes:
        shared: folder of the data.
        out: folder for vectors, imported encoders and figures.
        seeds: of folds and trainings.
        trainings: title → training.
        processes: trainings at a time.
    """

    shared: Path
    out: Path
    seeds: int = 3
    trainings: Mapping[str, NicTraining]
    processes: int = 1

    @property
    def images(self) -> GlasImages:
        """All images, read anew."""
        return glas_images(self.shared / "data" / "glas")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training: of which title, seed and fold."""

    title: str
    seed: int
    fold: int


def folds_of(images: GlasImages, seed: int) -> list[Fold]:
    """Images to learn from and to be named, four times; patients are kept together."""
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return list(folds.split(images.labels, images.labels, images.groups))


def untrained(training: NicTraining) -> str:
    """What the network of a training is called before it."""
    return f"{training.architecture}, random weights"


def jobs_of(plan: Plan) -> list[Job]:
    """All trainings; those of a seed stand together."""
    return [
        Job(title=title, seed=seed, fold=fold)
        for seed in range(plan.seeds) for fold in range(FOLDS) for title in plan.trainings
    ]  # fmt: skip


def train(plan: Plan) -> None:
    """Trains what is not kept yet, in as many processes as wanted."""
    jobs = jobs_of(plan)
    todo = [job for job in jobs if not _path(plan, job).exists()]
    print(f"{len(todo)} of {len(jobs)} trainings to do", flush=True)
    with _several(plan.processes) as carried_out:
        for job, seconds in zip(todo, carried_out(_carry_out, repeat(plan), todo), strict=True):
            print(f"{job.title}, seed {job.seed}, fold {job.fold}: {seconds:.0f} CPU s", flush=True)


@contextmanager
def _several(processes: int) -> Iterator[Callable[..., Iterator[float]]]:
    """Python's ``map``, or one over several processes."""
    if processes == 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=quiet) as pool:
        yield pool.map


def quiet() -> None:
    """One thread, and no word of the library but errors."""
    torch.set_num_threads(1)
    logging.getLogger("gigassl").setLevel(logging.ERROR)


def _carry_out(plan: Plan, job: Job) -> float:
    images, training = plan.images, plan.trainings[job.title]
    rows = folds_of(images, job.seed)[job.fold][0]
    encoder, seconds = trained(
        source_of(images, rows, method=training.method), training, seed=job.seed,
        pictures=plan.out / "pictures" / f"{training.method}-{job.seed}-{job.fold}",
    )  # fmt: skip
    _keep(_path(plan, job), image_vectors(encoder, images), seconds=seconds)
    return seconds


def _path(plan: Plan, job: Job) -> Path:
    """Where vectors are kept; other settings have another place."""
    training = plan.trainings[job.title]
    digest = digest_of_settings({"training": training, "all": training.settings(job.seed)})
    return plan.out / "vectors" / f"{training.method}-{job.seed}-{job.fold}-{digest}.npz"


def _keep(path: Path, vectors: Vectors, *, seconds: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part, part.open("wb") as file:
        np.savez(file, **vectors, seconds=seconds)  # type: ignore[arg-type]


def _kept(path: Path) -> Vectors:
    with np.load(path, allow_pickle=False) as kept:
        return {pooling: kept[pooling] for pooling in POOLINGS}


def seconds_of(plan: Plan) -> Mapping[str, list[float]]:
    """CPU s of the trainings of each title."""
    found: dict[str, list[float]] = {}
    for job in jobs_of(plan):
        with np.load(_path(plan, job), allow_pickle=False) as kept:
            found.setdefault(job.title, []).append(float(kept["seconds"]))
    return found


def trained_vectors(plan: Plan, seed: int) -> dict[str, Sequence[Vectors]]:
    """By the encoders of a seed: of each title those of its folds, which ``train`` has kept."""
    found: dict[str, list[Vectors]] = {}
    for job in jobs_of(plan):
        if job.seed == seed:
            found.setdefault(job.title, []).append(_kept(_path(plan, job)))
    return dict(found)


def given_vectors(plan: Plan, images: GlasImages) -> dict[str, Vectors]:
    """By encoders that nothing is trained for: named ones, and the released ones."""
    found = {}
    for title, (name, backend) in NAMED.items():
        path = plan.out / "vectors" / f"{name.replace(':', '-')}.npz"
        if not path.exists():
            _keep(path, image_vectors(named_encoder(name, backend=backend), images))
        found[title] = _kept(path)
    for title, file in RELEASED.items():
        path = plan.out / "vectors" / f"{Path(file).stem}.npz"
        if not path.exists():
            _keep(path, image_vectors(named_encoder(str(_imported(plan, file))), images))
        found[title] = _kept(path)
    return found


def _imported(plan: Plan, file: str) -> Path:
    """A released encoder as a tile encoder, by ``gigassl import-model``'s own function."""
    encoder = plan.out / Path(file).with_suffix(".safetensors").name
    if not encoder.exists():
        import_tile_encoder(plan.shared / "data" / "nic_encoders" / file, encoder)
    return encoder


def random_vectors(plan: Plan, images: GlasImages, seed: int) -> dict[str, Vectors]:
    """By the networks as the trainings of a seed begin with them."""
    found = {}
    for training in plan.trainings.values():
        title = untrained(training)
        name = training.architecture.replace(":", "-").replace("?", "-")
        path = plan.out / "vectors" / f"{name}-random-{seed}.npz"
        if title in found:
            continue
        if not path.exists():
            begun = training.begun(seed)
            _keep(path, image_vectors(on_one_thread(begun.network, begun), images))
        found[title] = _kept(path)
    return found
