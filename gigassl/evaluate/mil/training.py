"""Training of one MIL model on one split, with early stopping."""

import copy
import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor, nn

from gigassl.errors import GigasslError
from gigassl.evaluate.mil.bags import BagReader, class_share, standard_of
from gigassl.evaluate.mil.losses import Scale, Targets, loss_of, output_of, scale_of, targets_of
from gigassl.evaluate.mil.models import new_model
from gigassl.evaluate.mil.reading import Reading
from gigassl.evaluate.mil.settings import MilSettings
from gigassl.evaluate.mil.validation import train_and_validation
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Task
from gigassl.training.chance import Chance
from gigassl.training.optimisers import learning_rate, new_optimiser


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
    reader: BagReader
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
        scores = scores_of(self.model, self.reader, rows.tolist(), precision=self.precision)
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
        self.reader = replace(reader, standard=standard)
        self.scale = scale_of(task, self.train)
        self.share = _shares(task, self.train, balanced=settings.balance != "none")
        self.targets = self._targets()
        self.precision = precision_of(settings, reader.device)
        self.chance = Chance(seed=seed, rank=0, device=torch.device("cpu"))
        self.model = new_model(
            settings.model, task, dim=reader.store.dim, seed=seed, options=settings.options
        ).to(reader.device)
        self.optimiser = new_optimiser(
            "adamw", self.model, lr=settings.lr, weight_decay=settings.weight_decay
        )
        self.n_batches = -(-len(self.train) // settings.batch_size)
        self.curve: list[EpochLoss] = []
        self.best, self.best_epoch, self.lowest = dict[str, Tensor](), 0, math.inf

    def epochs(self) -> Iterator[EpochLoss]:
        """Trains, epoch by epoch, until the last one or until nothing was gained for long."""
        settings = self.settings
        for epoch in range(settings.epochs):
            train = self._train_epoch(epoch)
            loss = EpochLoss(epoch=epoch + 1, train=train, validation=self._validate())
            self._note(loss)
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
        order = self.order(epoch)
        losses = []
        with self.chance.epoch(epoch, device=self.reader.device) as generator:
            for number in range(self.n_batches):
                self._set_rate(epoch * self.n_batches + number)
                size = self.settings.batch_size
                rows = order[number * size : (number + 1) * size]
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
        with _autocast(self.reader.device, self.precision):
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
        rows = self.val.tolist()
        scores = scores_of(self.model, self.reader, rows, precision=self.precision)
        reading = Reading(scores=scores, streams=(scores,))
        return float(loss_of(reading, self._targets_of(self.val)))

    def _note(self, loss: EpochLoss) -> None:
        self.curve.append(loss)
        if loss.validation is None:
            self.best_epoch = loss.epoch
        elif loss.validation < self.lowest:
            self.lowest, self.best_epoch = loss.validation, loss.epoch
            self.best = copy.deepcopy(self.model.state_dict())


def scores_of(
    model: nn.Module, reader: BagReader, slides: Sequence[int], *, precision: torch.dtype
) -> Float32[Tensor, "slide output"]:
    """What a model in evaluation mode says of whole bags; memory stays bounded."""
    with torch.inference_mode(), _autocast(reader.device, precision):
        said = [model(bags).scores.float() for bags in reader.in_turn(slides)]
    return torch.cat(said)


def seed_of_fit(seed: int, task: Task, split: Split) -> int:
    """The seed of one split: the same for every model and whatever else is in the run."""
    text = f"{seed}|{task.name}|{split.title}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def precision_of(settings: MilSettings, device: torch.device) -> torch.dtype:
    """What the network computes in."""
    said = settings.precision
    half = said == "bf16" or (said == "auto" and device.type == "cuda")
    return torch.bfloat16 if half else torch.float32


def _autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16)


def _shares(
    task: Task, rows: Int64[np.ndarray, " row"], *, balanced: bool
) -> Float64[np.ndarray, " row"]:
    if not balanced or task.kind != "classification" or len(rows) == 0:
        return np.ones(len(rows))
    return class_share(task.labels[rows])
