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
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

# as the program does, before torch loads: threads that wait must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from benchmarks.nic_glas_report import Ranked, rows_of, show
from benchmarks.nic_glas_training import (
    POOLINGS,
    TRAININGS,
    GlasImages,
    Vectors,
)
from benchmarks.nic_glas_vectors import (
    FOLDS,
    RELEASED,
    Plan,
    folds_of,
    given_vectors,
    quiet,
    random_vectors,
    seconds_of,
    train,
    trained_vectors,
    untrained,
)
from benchmarks.quality_scores import Scores
from gigassl.evaluate.probes import ProbeSettings, fit_folds
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Task
from gigassl.evaluate.vector_set import VectorSet

PROBES: Mapping[str, ProbeSettings] = {
    "C = 1": ProbeSettings(strength=1.0, balanced=False),
    "C chosen": ProbeSettings(),
}
"""The second one is what ``gigassl probe`` does."""


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
        by_seed.append({**each, **trained_vectors(plan, seed)})
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
        shared=Path(given.shared), out=given.out / "quick" if given.quick else given.out,
        seeds=1 if given.quick else given.seeds,
        trainings=shorter if given.quick else TRAININGS, processes=given.processes,
    )  # fmt: skip
    train(plan)
    rows = rows_of(list(ranking(plan, plan.images)))
    show(rows, seconds=seconds_of(plan), out=plan.out)


if __name__ == "__main__":
    main()
