"""Training of one MIL model on one split, with early stopping."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from gigassl.errors import GigasslError
from gigassl.evaluate.mil.bags import BagReader, class_share, standard_of
from gigassl.evaluate.mil.crops import CropReader, Reader, reader_for
from gigassl.evaluate.mil.losses import Scale, Targets, loss_of, output_of, scale_of, targets_of
from gigassl.evaluate.mil.models import ON_CROPS, new_model
from gigassl.evaluate.mil.reading import Reading
from gigassl.evaluate.mil.scoring import autocast, precision_of, scores_of
from gigassl.evaluate.mil.settings import MilSettings
from gigassl.evaluate.mil.validation import seed_of_fit, train_and_validation
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Task
from gigassl.training.chance import Chance
from gigassl.training.optimisers import learning_rate, new_optimiser

LEAST_RATE = 1e-5
"""Learning rate below which no plateau takes it."""


@dataclass(frozen=True, kw_only=True)
class EpochLoss:
    """What an epoch came to.

    Attributes:
        epoch: number of epochs done.
        train: mean loss of its batches, in training mode.
        validation: loss of the validation bags in evaluation mode; None where there are none.
    """

    epoch: int
    train: float
    validation: float | None


@runtime_checkable
class Monitor(Protocol):
    """What a run of MIL models tells about itself; any object with these methods will do."""

    def started(self, n_fits: int, *, n_done: int) -> None:
        """The run begins: so many models to fit, of which some were fitted before."""

    def epoch_done(self, loss: EpochLoss, *, epochs: int) -> None:
        """An epoch of the current model is done, of so many at most."""

    def fitted(self, title: str) -> None:
        """A model is fitted and has predicted."""


class Quiet:
    """Says nothing; the default of the Python API."""

    def started(self, n_fits: int, *, n_done: int) -> None:
        """Ignores the start."""

    def epoch_done(self, loss: EpochLoss, *, epochs: int) -> None:
        """Ignores the epoch."""

    def fitted(self, title: str) -> None:
        """Ignores the model."""


@dataclass(frozen=True, kw_only=True)
class FittedMil:
    """A trained model, and how it came about.

    Attributes:
        task: what it learned.
        reader: of the bags, with the training bags' mean and spread where settings say so.
        model: in evaluation mode, with the weights of the best epoch.
        scale: of regression values.
        curve: loss of each epoch.
        best_epoch: the one whose weights it has; the last where nothing was watched.
        train, val: rows of the task that it learned from, and that early stopping watched.
        precision: of the network's arithmetic.
    """

    task: Task
    reader: Reader
    model: nn.Module
    scale: Scale
    curve: tuple[EpochLoss, ...]
    best_epoch: int
    train: Int64[np.ndarray, " train"]
    val: Int64[np.ndarray, " val"]
    precision: torch.dtype

    @property
    def n_validation(self) -> int:
        """Number of bags that early stopping watched."""
        return len(self.val)

    def predict(self, rows: Int64[np.ndarray, " row"]) -> Float64[np.ndarray, "row output"]:
        """Probabilities, values or risks of the task's slides; all tiles of each are read."""
        scores = scores_of(
            self.model, self.reader, rows.tolist(), precision=self.precision, kind=self.task.kind
        )
        return output_of(scores, self.task, scale=self.scale)


def fit_mil(
    task: Task, split: Split, reader: BagReader, *, settings: MilSettings,
    monitor: Monitor | None = None,
) -> FittedMil:  # fmt: skip
    """Trains a model on the training rows of a split; its test rows are never read.

    Args:
        task: the task.
        split: what to learn from, and what to watch.
        reader: of the bags of the task's slides, in the task's order.

    Raises:
        SettingsError: a model that cannot learn this task.
        GigasslError: the loss became infinite.
    """
    training = MilTraining(task, split, reader, settings=settings)
    for loss in training.epochs():
        (monitor or Quiet()).epoch_done(loss, epochs=settings.epochs)
    return training.fitted()


class MilTraining:
    """One training: what is learned from what, and how far it is.

    Arguments as of ``fit_mil``.
    """

    def __init__(
        self, task: Task, split: Split, reader: BagReader, *, settings: MilSettings
    ) -> None:
        seed = seed_of_fit(settings.seed, task, split)
        self.train, self.val = train_and_validation(
            task, split, share=settings.validation, seed=seed
        )
        standard = standard_of(reader, self.train.tolist()) if settings.standardise else None
        self.task, self.settings = task, settings
        self.reader = reader_for(settings, replace(reader, standard=standard))
        self.scale = scale_of(task, self.train)
        self.share = _shares(task, self.train, balanced=settings.balance != "none")
        self.targets = self._targets()
        self.precision = precision_of(settings, reader.device)
        self.chance = Chance(seed=seed, rank=0, device=torch.device("cpu"))
        self.model = new_model(
            settings.model, task, dim=reader.store.dim, seed=seed, options=settings.options
        ).to(reader.device)
        self.optimiser = new_optimiser(
            settings.optimiser, self.model, lr=settings.lr, weight_decay=settings.weight_decay
        )
        self.plateau = ReduceLROnPlateau(
            self.optimiser, factor=0.1, patience=settings.plateau - 1, threshold=0.0,
            min_lr=LEAST_RATE,
        )  # fmt: skip
        self.n_batches = len(self.batches(self.train))
        self.curve: list[EpochLoss] = []
        self.best, self.best_epoch, self.lowest = dict[str, Tensor](), 0, math.inf

    def epochs(self) -> Iterator[EpochLoss]:
        """Trains, epoch by epoch, until the last one or until nothing was gained for long."""
        settings = self.settings
        for epoch in range(settings.epochs):
            train = self._train_epoch(epoch)
            loss = EpochLoss(epoch=epoch + 1, train=train, validation=self._validate())
            self._note(loss)
            if settings.schedule == "plateau":
                self.plateau.step(train if loss.validation is None else loss.validation)
            yield loss
            waited = epoch + 1 - self.best_epoch
            if epoch + 1 >= settings.least_epochs and waited >= settings.patience:
                return

    def order(self, epoch: int) -> Int64[np.ndarray, " turn"]:
        """The training rows as an epoch takes them; drawn with repeats where balance says so."""
        generator = self.chance.shared("deal", epoch)
        if self.settings.balance == "sampling" and self.task.kind == "classification":
            share = self.share / self.share.sum()
            return generator.choice(self.train, size=len(self.train), p=share)
        return generator.permutation(self.train)

    def batches(self, order: Int64[np.ndarray, " turn"]) -> list[Int64[np.ndarray, " batch"]]:
        """Rows a batch at a time; one left over joins the last batch where norms need company."""
        size = self.settings.batch_size
        found = [order[first : first + size] for first in range(0, len(order), size)]
        if self.settings.model in ON_CROPS and len(found) > 1 and len(found[-1]) == 1:
            found[-2:] = [np.concatenate(found[-2:])]
        return found

    def fitted(self) -> FittedMil:
        """The model with the weights of its best epoch."""
        if self.best:
            self.model.load_state_dict(self.best)
        return FittedMil(
            task=self.task,
            reader=self.reader,
            model=self.model.eval(),
            scale=self.scale,
            curve=tuple(self.curve),
            best_epoch=self.best_epoch,
            train=self.train,
            val=self.val,
            precision=self.precision,
        )

    def _targets(self) -> Targets:
        weight = np.ones(len(self.task))
        weight[self.val] = _shares(
            self.task, self.val, balanced=self.settings.balance != "none"
        )  # what is watched weighs classes as training does
        if self.settings.balance == "loss":
            weight[self.train] = self.share
        return targets_of(self.task, scale=self.scale, weight=weight).to(self.reader.device)

    def _train_epoch(self, epoch: int) -> float:
        self.model.train()
        losses = []
        with self.chance.epoch(epoch, device=self.reader.device) as generator:
            for number, rows in enumerate(self.batches(self.order(epoch))):
                self._set_rate(epoch * self.n_batches + number)
                losses.append(self._step(rows, generator=generator))
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise GigasslError(
                f"the loss of '{self.settings.model}' became infinite in epoch {epoch + 1}; try a "
                "lower learning rate, or standardised features"
            )
        return loss

    def _set_rate(self, step: int) -> None:
        settings = self.settings
        if settings.schedule == "plateau":
            return
        warmup = settings.warmup_epochs * self.n_batches
        rate = settings.lr
        if settings.schedule == "cosine" or step < warmup:
            steps = settings.epochs * self.n_batches
            rate = learning_rate(step, peak=rate, warmup_steps=warmup, steps=steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def _step(
        self, rows: Int64[np.ndarray, " batch"], *, generator: torch.Generator
    ) -> Float32[Tensor, ""]:
        bags = self.reader.batch(
            rows.tolist(), max_tiles=self.settings.max_tiles, generator=generator
        )
        with autocast(self.reader.device, self.precision):
            reading: Reading = self.model(bags)
        loss = loss_of(reading, self._targets_of(rows))
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()

    def _targets_of(self, rows: Int64[np.ndarray, " pick"]) -> Targets:
        return self.targets.rows(torch.from_numpy(rows).to(self.reader.device))

    def _validate(self) -> float | None:
        if len(self.val) == 0:
            return None
        self.model.eval()
        reader = self.reader
        if isinstance(reader, CropReader):
            reader = reader.for_watching()
        scores = scores_of(
            self.model, reader, self.val.tolist(), precision=self.precision, kind=self.task.kind
        )
        reading = Reading(scores=scores, streams=(scores,))
        return float(loss_of(reading, self._targets_of(self.val)))

    def _note(self, loss: EpochLoss) -> None:
        self.curve.append(loss)
        if loss.validation is None:
            self.best_epoch = loss.epoch
        elif loss.validation < self.lowest:
            self.lowest, self.best_epoch = loss.validation, loss.epoch
            self.best = copy.deepcopy(self.model.state_dict())


def _shares(
    task: Task, rows: Int64[np.ndarray, " row"], *, balanced: bool
) -> Float64[np.ndarray, " row"]:
    if not balanced or task.kind != "classification" or len(rows) == 0:
        return np.ones(len(rows))
    return class_share(task.labels[rows])
