"""Batches in which every slide is of another patient, so that no negative is a near-positive."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from gigassl.errors import SettingsError

FEWEST_SLIDES, FEWEST_PATIENTS = 4, 2


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """How a cohort is dealt out each epoch.

    Attributes:
        patient: number of each slide's patient, counted from 0.
        asked: the batch size asked for.
        n_batches: batches of an epoch.
        n_used: slides of an epoch; the rest, of patients with more slides than there are batches,
            sit out, others each time.
        size: slides of the largest batch; the smallest has at most one less.
    """

    patient: Int64[np.ndarray, " slide"]
    asked: int
    n_batches: int
    n_used: int

    @property
    def size(self) -> int:
        """Slides of the largest batch; the smallest has at most one less."""
        return -(-self.n_used // self.n_batches)

    @property
    def n_patients(self) -> int:
        """Number of patients."""
        return int(self.patient.max()) + 1

    def said(self) -> Sequence[str]:
        """What a user should know: batches smaller than asked for, slides that sit out."""
        n_slides, sentences = len(self.patient), []
        if self.size < self.asked and min(n_slides, self.n_patients) < self.asked:
            sentences.append(
                f"{n_slides} slides of {self.n_patients} patients do not fill a batch of "
                f"{self.asked}: batches of {self.size} are used, and a learning rate smaller by "
                f"the same factor of {self.asked / self.size:.2g}"
            )
        if self.n_used < n_slides:
            sentences.append(
                f"{n_slides - self.n_used} of {n_slides} slides sit out each epoch, others each "
                f"time: their patients have more slides than an epoch has batches "
                f"({self.n_batches}), and a batch holds one slide of a patient"
            )
        return sentences


def plan_batches(patient_ids: Sequence[str], *, batch_size: int) -> BatchPlan:
    """Chooses the number of batches so that they are full and no patient is twice in one.

    No batch is larger than ``batch_size`` or the number of patients, nor smaller than half of
    that: where a few patients have most of the slides, there are fewer batches instead. (Batches
    of 2 may become 3, so that none is of 1.)

    Raises:
        SettingsError: a batch of less than two, or a cohort too small to learn from.
    """
    if batch_size < 2:
        raise SettingsError(f"a batch needs at least 2 slides; got {batch_size}")
    names, patient, counts = np.unique(
        np.array(patient_ids, dtype=object).astype(str), return_inverse=True, return_counts=True
    )
    n_slides, n_patients = len(patient_ids), len(names)
    if n_slides < FEWEST_SLIDES or n_patients < FEWEST_PATIENTS:
        raise SettingsError(
            f"{n_slides} slides of {n_patients} patients are too few to learn from: a slide is "
            f"told apart from those of other patients; give at least {FEWEST_SLIDES} slides of "
            f"{FEWEST_PATIENTS} patients"
        )
    size = min(batch_size, n_patients)
    n_batches = _n_batches(counts, size=size)
    return BatchPlan(
        patient=patient.astype(np.int64),
        asked=batch_size,
        n_batches=n_batches,
        n_used=int(np.minimum(counts, n_batches).sum()),
    )


def _n_batches(counts: Int64[np.ndarray, " patient"], *, size: int) -> int:
    """The most batches up to ⌈slides / size⌉ that stay at least half full."""
    fewest = max(2, -(-size // 2))
    low, high = 1, -(-int(counts.sum()) // size)
    while low < high:  # slides per batch only fall as batches are added
        middle = (low + high + 1) // 2
        if int(np.minimum(counts, middle).sum()) >= fewest * middle:
            low = middle
        else:
            high = middle - 1
    return low


def deal(plan: BatchPlan, *, generator: np.random.Generator) -> list[Int64[np.ndarray, " batch"]]:
    """The batches of one epoch: slide numbers, no patient twice in a batch.

    Slides are listed patient by patient in random order and dealt out in turn, so that those of
    one patient, at most as many as there are batches, go to different ones.
    """
    n_slides = len(plan.patient)
    shuffled = generator.permutation(n_slides)
    turn = generator.permutation(plan.n_patients)[plan.patient[shuffled]]
    by_patient = np.argsort(turn, kind="stable")
    slides, turn = shuffled[by_patient], turn[by_patient]
    # the how-manieth slide of its patient each one is
    starts = np.flatnonzero(np.diff(turn, prepend=-1))
    rank = np.arange(n_slides) - np.repeat(starts, np.diff(starts, append=n_slides))
    kept = slides[rank < plan.n_batches]
    return [kept[number :: plan.n_batches] for number in range(plan.n_batches)]
