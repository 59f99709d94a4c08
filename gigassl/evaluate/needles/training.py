"""Training of a needle network: equally many updates whatever the number of images."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gigassl.errors import GigasslError, SettingsError
from gigassl.evaluate.needles.network import NeedleNetwork, NeedleNetworkSettings
from gigassl.slides.needles import NeedleImages
from gigassl.training.chance import Chance

Optimiser = Literal["rmsprop", "sgd", "adam"]

_OPTIMISERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "rmsprop": lambda parameters, lr: torch.optim.RMSprop(parameters, lr=lr, eps=1e-5),
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9),
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr),
}
_FALL = 0.1
_SCORED_PX = 2**22  # pixels of the images that are scored at once


@dataclass(frozen=True, kw_only=True)
class NeedleTrainingSettings:
    """How a needle network is trained; optimiser, batch and falls of the rate as published.

    Attributes:
        updates: steps, the same for any number of images, so that fewer images are not less
            trained on.
        batch_size: images of a step.
        optimiser: RMSprop has ε = 1e-5, SGD a momentum of 0.9.
        lr: learning rate. The published 5e-5 is for 200 epochs of 11,276 images.
        milestones: shares of the updates after which the rate falls to a tenth.
        checks: times at which training and validation images are scored; the weights of the best
            are kept.
        weighted: draw as many images of either class, where they are unequally many.
        device: where it runs.
        seed: of first weights and order.
    """

    updates: int = 1500
    batch_size: int = 32
    optimiser: Optimiser = "rmsprop"
    lr: float = 1e-3
    milestones: tuple[float, ...] = (0.4, 0.6, 0.8)
    checks: int = 10
    weighted: bool = False
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if min(self.updates, self.batch_size) < 1 or not 1 <= self.checks <= self.updates:
            raise SettingsError(
                "updates and batch size must be at least 1, checks 1 to the updates; got "
                f"{self.updates}, {self.batch_size} and {self.checks}"
            )
        if self.lr <= 0:
            raise SettingsError(f"the learning rate must be above 0; got {self.lr}")

    def rate(self, update: int) -> float:
        """Learning rate of an update.

        >>> [round(NeedleTrainingSettings(updates=10).rate(k), 9) for k in (0, 3, 4, 9)]
        [0.001, 0.001, 0.0001, 1e-06]
        """
        passed = sum(update >= share * self.updates for share in self.milestones)
        return self.lr * _FALL**passed


@dataclass(frozen=True, kw_only=True)
class NeedleScore:
    """How well a network finds needles.

    Attributes:
        loss: mean cross-entropy.
        accuracy: share of images that it gets right.
        precision: share of the images it calls positive that are; NaN where it calls none.
        recall: share of the positive images that it calls so.
    """

    loss: float
    accuracy: float
    precision: float
    recall: float


@dataclass(frozen=True, kw_only=True)
class NeedleCheck:
    """Scores after so many updates.

    Attributes:
        update: number of updates done.
        train: of training images, at most as many as there are for validation.
        validation: of all validation images.
    """

    update: int
    train: NeedleScore
    validation: NeedleScore


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedNeedles:
    """A trained network, and how it came about.

    Attributes:
        network: in evaluation mode, with the weights of the best check.
        curve: all checks.
        best: the one with the highest accuracy on validation images; of equals the lowest loss.
    """

    network: NeedleNetwork
    curve: tuple[NeedleCheck, ...]
    best: NeedleCheck


def fit_needles(
    train: NeedleImages, validation: NeedleImages, *, network: NeedleNetworkSettings,
    settings: NeedleTrainingSettings,
) -> FittedNeedles:  # fmt: skip
    """Trains a network to tell images with a needle from images without.

    Raises:
        GigasslError: the loss became infinite.
    """
    chance = Chance(seed=settings.seed, rank=0, device=torch.device("cpu"))
    model = new_needle_network(network, seed=settings.seed).to(settings.device)
    optimiser = _OPTIMISERS[settings.optimiser](model.parameters(), lr=settings.lr)
    tensors = _Images(train, settings.device)
    order = _order(train.labels, settings=settings, generator=chance.shared("deal"))
    checked = {math.ceil(settings.updates * (k + 1) / settings.checks)
               for k in range(settings.checks)}  # fmt: skip
    curve: list[NeedleCheck] = []
    best: dict[str, Tensor] = {}
    with chance.epoch(0, device=torch.device(settings.device)):
        for update in range(settings.updates):
            rate = settings.rate(update)
            _step(model, optimiser, batch=tensors.batch(next(order)), rate=rate)
            if update + 1 in checked:
                curve.append(_check(model, train, validation, update=update + 1))
                if max(curve, key=_worth) is curve[-1]:
                    best = copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    return FittedNeedles(network=model.eval(), curve=tuple(curve), best=max(curve, key=_worth))


def new_needle_network(settings: NeedleNetworkSettings, *, seed: int) -> NeedleNetwork:
    """A network with random weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        return NeedleNetwork(settings)


def score_needles(network: nn.Module, images: NeedleImages) -> NeedleScore:
    """Scores a network on images, in evaluation mode."""
    logits = needle_logits(network, images.images)
    labels = torch.from_numpy(images.labels)
    said, true = (logits[:, 1] > logits[:, 0]).numpy(), images.labels == 1
    called = int(said.sum())
    return NeedleScore(
        loss=float(cross_entropy(logits, labels)),
        accuracy=float((said == true).mean()),
        precision=float((said & true).sum() / called) if called else math.nan,
        recall=float((said & true).sum() / max(1, true.sum())),
    )


def needle_logits(
    network: nn.Module, images: UInt8[np.ndarray, "image side side"]
) -> Float[Tensor, "image 2"]:
    """What a network in evaluation mode says of images, on the CPU; memory stays bounded."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    n = max(1, _SCORED_PX // images[0].size)
    with torch.inference_mode():
        said = [
            network(as_input(images[first : first + n]).to(device)).float().cpu()
            for first in range(0, len(images), n)
        ]
    network.train(was_training)
    return torch.cat(said)


def as_input(images: UInt8[np.ndarray, "image side side"]) -> Float[Tensor, "image 1 side side"]:
    """Images as networks take them: one channel, 0 to 1."""
    return torch.from_numpy(images)[:, None].float() / 255


class _Images:
    """Training images as tensors where the network is."""

    def __init__(self, images: NeedleImages, device: str) -> None:
        self.images = torch.from_numpy(images.images).to(device)
        self.labels = torch.from_numpy(images.labels).to(device)

    def batch(self, rows: Int64[np.ndarray, " batch"]) -> tuple[Tensor, Tensor]:
        picked = torch.from_numpy(rows).to(self.images.device)
        return self.images[picked][:, None].float() / 255, self.labels[picked]


def _order(
    labels: Int64[np.ndarray, " image"], *, settings: NeedleTrainingSettings,
    generator: np.random.Generator,
) -> Iterator[Int64[np.ndarray, " batch"]]:  # fmt: skip
    """Rows of batch after batch, without end: pass after pass, or drawn by weight."""
    if settings.weighted:
        chances = 0.5 / np.bincount(labels, minlength=2)[labels]
        while True:
            yield generator.choice(len(labels), settings.batch_size, p=chances)
    waiting = np.zeros(0, np.int64)
    while True:
        while len(waiting) < settings.batch_size:
            waiting = np.concatenate([waiting, generator.permutation(len(labels))])
        yield waiting[: settings.batch_size]
        waiting = waiting[settings.batch_size :]


def _step(
    model: nn.Module, optimiser: torch.optim.Optimizer, *, batch: tuple[Tensor, Tensor],
    rate: float,
) -> None:  # fmt: skip
    for group in optimiser.param_groups:
        group["lr"] = rate
    images, labels = batch
    loss: Any = cross_entropy(model(images), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _check(
    model: nn.Module, train: NeedleImages, validation: NeedleImages, *, update: int
) -> NeedleCheck:
    check = NeedleCheck(
        update=update,
        train=score_needles(model, train.head(len(validation))),
        validation=score_needles(model, validation),
    )
    if not math.isfinite(check.train.loss):
        raise GigasslError(
            f"the loss became infinite within {update} updates; try a lower learning rate"
        )
    return check


def _worth(check: NeedleCheck) -> tuple[float, float]:
    return check.validation.accuracy, -check.validation.loss
