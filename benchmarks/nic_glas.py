"""Encoders of neural image compression ranked on GlaS: benign or malignant, patients held out.

    python -m benchmarks.nic_glas [--out DIR] [--seeds 3] [--processes 1] [--quick]

VAE, contrastive and BiGAN learn from the images of the twelve patients for training of each of four
folds; beside them are the same networks with random weights, mean colour, the released BiGAN and
multitask encoders, and EfficientNet-Lite0 of ImageNet. An image is the mean (and the mean and
standard deviation) of its tiles of 128 px at 0.62 µm/px; a logistic probe names it, of C = 1 and of
a C chosen by folds of patients for training. Vectors are kept in DIR, so that a run that is stopped
goes on where it was. Needs $GIGASSL_SHARED/data/glas and …/data/nic_encoders.
"""

import argparse
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

# as the program does, before torch loads: threads that wait must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from jaxtyping import Int64
from sklearn.model_selection import StratifiedGroupKFold

from benchmarks.nic_glas_report import Ranked, rows_of, show
from benchmarks.nic_glas_training import (
    POOLINGS,
    TRAININGS,
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
from benchmarks.quality_scores import Scores
from gigassl.digests import digest_of_settings
from gigassl.evaluate.probes import ProbeSettings, fit_folds
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Task
from gigassl.evaluate.vector_set import VectorSet
from gigassl.files import written_whole
from gigassl.pipeline.import_model import import_tile_encoder

FOLDS = 4
PROBES: Mapping[str, ProbeSettings] = {
    "C = 1": ProbeSettings(strength=1.0, balanced=False),
    "C chosen": ProbeSettings(),
}
"""The second one is what ``gigassl probe`` does."""
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


def given_vectors(plan: Plan, images: GlasImages) -> dict[str, Vectors]:
    """By encoders that nothing is trained for: named, released, and random ones of each seed."""
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


def scores_of(
    images: GlasImages, vectors: Sequence[Vectors], *, pooling: str, probe: str, seed: int
) -> Scores:
    """What the probe of each fold says of the images held out.

    Args:
        vectors: of all images, those of each fold's encoder.
    """
    task = task_of(images)
    logit, where = np.zeros(len(task)), np.zeros(len(task), np.int64)
    for number, (train_rows, test) in enumerate(folds_of(images, seed)):
        rows = vectors[number][pooling]
        fitted = fit_folds(
            task, VectorSet(name=pooling, slide_ids=task.slide_ids, vectors=rows),
            [Split(scheme="patient-kfold", fold=number, train=train_rows, test=test)],
            settings=PROBES[probe], seed=seed,
        )  # fmt: skip
        chances = np.log(fitted[0].predict(rows[test]))
        logit[test], where[test] = chances[:, 1] - chances[:, 0], number
    return Scores(logit=logit, fold=where, labels=images.labels, groups=images.groups)


def task_of(images: GlasImages) -> Task:
    """Benign or malignant."""
    return Task(
        name="GlaS", kind="classification", classes=("benign", "malignant"),
        slide_ids=tuple(path.stem for path in images.paths),
        patient_ids=tuple(map(str, images.groups.tolist())), sites=("",) * len(images.paths),
        target=images.labels.astype(np.float64),
    )  # fmt: skip


def ranking(plan: Plan, images: GlasImages) -> Iterator[Ranked]:
    """Scores of each encoder under each probe and pooling, one a seed."""
    given = given_vectors(plan, images)
    by_seed: list[dict[str, Sequence[Vectors]]] = []
    for seed in range(plan.seeds):
        alike = {**given, **random_vectors(plan, images, seed)}
        each: dict[str, Sequence[Vectors]] = {t: [v] * FOLDS for t, v in alike.items()}
        for title in plan.trainings:
            jobs = [Job(title=title, seed=seed, fold=fold) for fold in range(FOLDS)]
            each[title] = [_kept(_path(plan, job)) for job in jobs]
        by_seed.append(each)
    for title in by_seed[0]:
        scores = {
            (probe, pooling): [
                scores_of(images, each[title], pooling=pooling, probe=probe, seed=seed)
                for seed, each in enumerate(by_seed)
            ]
            for probe in PROBES for pooling in POOLINGS
        }  # fmt: skip
        yield Ranked(title=title, beside=_beside(plan, title), scores=scores)


def _beside(plan: Plan, title: str) -> str:
    """The random network that an encoder is held against; none where it is a control itself."""
    if title in plan.trainings:
        return untrained(plan.trainings[title])
    return "nic:bigan, random weights" if title in RELEASED else ""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--processes", type=int, default=1, help="trainings at a time")
    options.add_argument("--quick", action="store_true", help="one seed, a tenth of the steps")
    options.add_argument("--shared", default=os.environ.get("GIGASSL_SHARED", "../shared"))
    options.add_argument("--out", type=Path, default=Path("nic_glas"))
    given = options.parse_args()
    quiet()
    shorter = {k: replace(v, steps=v.steps // 10) for k, v in TRAININGS.items()}
    plan = Plan(
        shared=Path(given.shared), out=given.out, seeds=1 if given.quick else given.seeds,
        trainings=shorter if given.quick else TRAININGS, processes=given.processes,
    )  # fmt: skip
    train(plan)
    rows = rows_of(list(ranking(plan, plan.images)))
    show(rows, seconds=seconds_of(plan), out=plan.out)


if __name__ == "__main__":
    main()
