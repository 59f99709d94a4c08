"""Monitors: what each epoch of training says about the vectors, and whether they collapsed."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from gigassl.training.geometry import Geometry, geometry, knn_accuracy
from gigassl.training.monitors import measured

MEASURED, MEASURED_BY_LABEL = 256, 2048
"""Slides that geometry and kNN accuracy are computed on: a fixed random sample."""


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """What one epoch did.

    Attributes:
        epoch: counted from 1.
        loss: mean over its steps.
        lr: learning rate of its last step.
        slides_per_s: slides, of two views each, through a training step.
        geometry: of the vectors that its steps computed.
        knn_accuracy: share of labelled slides whose neighbours of other patients have their
            label; None without labels.
    """

    epoch: int
    loss: float
    lr: float
    slides_per_s: float
    geometry: Geometry
    knn_accuracy: float | None = None

    @property
    def number(self) -> int:
        """Of the row in the log."""
        return self.epoch

    def sentence(self) -> str:
        """The numbers of an epoch in one short line."""
        shown = measured(self.loss, self.geometry, self.knn_accuracy)
        return f"{shown}, lr {self.lr:.2g}, {self.slides_per_s:.0f} slides/s"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is about to be trained, said before it starts."""

    n_slides: int
    n_patients: int
    n_batches: int
    batch_size: int
    epochs: int
    epochs_done: int
    lr: float
    n_parameters: int
    device: str
    n_devices: int
    unit: ClassVar[str] = "epoch"

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.n_batches

    @property
    def rows(self) -> int:
        """Rows of the whole log: one an epoch."""
        return self.epochs

    @property
    def steps_done(self) -> int:
        """Steps done before the training was interrupted."""
        return self.epochs_done * self.n_batches

    @property
    def rows_done(self) -> int:
        """Rows written before the training was interrupted."""
        return self.epochs_done

    def sentence(self) -> str:
        """The plan in one line."""
        devices = self.device if self.n_devices == 1 else f"{self.n_devices} × {self.device}"
        return (
            f"{self.n_slides} slides of {self.n_patients} patients, batches of {self.batch_size}: "
            f"{self.epochs} epochs × {self.n_batches} = {self.steps} steps at learning rate "
            f"{self.lr:.3g} on {devices}, {self.n_parameters:,} parameters"
        )


class Watch:
    """Keeps the vectors that training computes anyway, of a fixed sample of slides.

    Measuring costs no forward pass that way; vectors are of the epoch's changing weights and in
    training mode, which is why a trained network is measured again at the end.

    Args:
        labels: one a slide, -1 where not known; None without labels.
        patient: number of each slide's patient.
        generator: chooses the slides.
    """

    def __init__(
        self, patient: Int64[np.ndarray, " slide"], labels: Int64[np.ndarray, " slide"] | None, *,
        generator: np.random.Generator,
    ) -> None:  # fmt: skip
        order = generator.permutation(len(patient))
        watched = set(order[:MEASURED].tolist())
        if labels is not None:
            watched |= set(order[labels[order] >= 0][:MEASURED_BY_LABEL].tolist())
        self.slides = np.array(sorted(watched), dtype=np.int64)
        self._measured = np.isin(self.slides, order[:MEASURED])
        self._patient = patient[self.slides]
        self._labels = None if labels is None else labels[self.slides]
        self._place = torch.full((len(patient),), -1)
        self._place[torch.from_numpy(self.slides)] = torch.arange(len(self.slides))
        self._vectors: Tensor | None = None

    def note(
        self, slides: Int64[Tensor, " batch"], first: Float[Tensor, "batch width"],
        second: Float[Tensor, "batch width"],
    ) -> None:  # fmt: skip
        """Keeps the vectors of the watched slides of a batch."""
        if self._vectors is None:
            shape = (len(self.slides) + 1, 2, first.shape[1])
            self._place = self._place.to(first.device)
            self._vectors = torch.full(shape, 0.0, device=first.device)
        # all others go to one more row: no synchronisation to find out which they are
        place = self._place[slides.to(first.device)]
        self._vectors[place] = torch.stack([first, second], dim=1)

    def kept(self) -> Float[Tensor, "watched 2 width"]:
        """What was kept, zeros where a slide did not come; then forgets it."""
        if self._vectors is None:
            raise RuntimeError("no batch was noted")
        vectors, self._vectors = self._vectors[:-1], None
        return vectors

    def measured(self, kept: Float[Tensor, "watched 2 width"]) -> tuple[Geometry, float | None]:
        """Geometry and kNN accuracy of what was kept."""
        vectors = kept.cpu().numpy()
        came = np.abs(vectors).sum(axis=(1, 2)) != 0.0
        first, second = vectors[:, 0], vectors[:, 1]
        chosen = came & self._measured
        if chosen.sum() < 2:  # all vectors zero, or hardly any slide came
            chosen = self._measured
        shape = geometry(first[chosen], second[chosen])
        if self._labels is None:
            return shape, None
        usable = came & (self._labels >= 0)
        accuracy = knn_accuracy(
            first[usable] + second[usable],
            labels=self._labels[usable],
            patient=self._patient[usable],
        )
        return shape, accuracy
