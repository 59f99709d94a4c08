"""Objectives: what self-supervised training makes of two views of each slide."""

import math
from collections.abc import Callable, Mapping
from copy import deepcopy

import torch
from jaxtyping import Float
from lightly.loss import BarlowTwinsLoss, NegativeCosineSimilarity, NTXentLoss, VICRegLoss
from torch import Tensor, nn

from gigassl.errors import SettingsError, unknown_name
from gigassl.tiles.pretrain.methods.parts import whole_batch
from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.pretrain.arrangement import NeighbourLoss
from gigassl.vectors.slide_encoders import initialise

HIDDEN, PROJECTION = 512, 256
_BYOL_MOMENTUM = 0.996


class ViewPair:
    """Two views of each slide of a batch.

    A plain class, since Lightning takes dataclasses apart and cannot put frozen ones together.
    """

    def __init__(self, first: PackedTiles, second: PackedTiles) -> None:
        self.first = first
        self.second = second


class Objective(nn.Module):
    """A slide encoder, the projector behind it, and a loss of two views of each slide.

    The views pass the network one after the other, as in the published code, so that each has
    batch statistics of its own.

    Args:
        network: the slide encoder.
        width: length of the vectors that the objective sees (see ``represent``).
        loss: of two sets of projections, [slide, projection].
        seed: of the weights behind the network.
    """

    def __init__(self, network: nn.Module, *, width: int, loss: nn.Module, seed: int) -> None:
        super().__init__()
        self.network = network
        self.projector = projector(width)
        self.loss = _InFloat32(loss)
        initialise(self.projector, seed=seed)

    def forward(self, views: ViewPair) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, and the vectors of either view [slide, width] without gradient."""
        first = represent(self.network, views.first)
        second = represent(self.network, views.second)
        loss = self.compare(self.projector(first), self.projector(second), views=views)
        return loss, first.detach().float(), second.detach().float()

    def compare(
        self, first: Float[Tensor, "slide projection"], second: Float[Tensor, "slide projection"],
        *, views: ViewPair,
    ) -> Float[Tensor, ""]:  # fmt: skip
        """The loss of the projections of two views."""
        loss: Tensor = self.loss(first, second)
        return loss

    def after_step(self, progress: float) -> None:
        """Called after each step of the optimiser with the fraction of the training done."""


class SimSiam(Objective):
    """Each view predicts the other one's projection; no negatives, no slow copy.

    Exploring simple Siamese representation learning, arXiv 2011.10566: the projection ends in a
    batch norm, the predictor is a bottleneck, no gradient passes what is predicted.
    """

    def __init__(self, network: nn.Module, *, width: int, loss: nn.Module, seed: int) -> None:
        super().__init__(network, width=width, loss=loss, seed=seed)
        self.projector.append(nn.BatchNorm1d(PROJECTION, affine=False))
        self.predictor = _predictor(hidden=PROJECTION // 4, seed=seed + 1)

    def compare(
        self, first: Float[Tensor, "slide projection"], second: Float[Tensor, "slide projection"],
        *, views: ViewPair,
    ) -> Float[Tensor, ""]:  # fmt: skip
        """The mean loss of each view's prediction with the other's projection."""
        ahead = self.loss(self.predictor(first), second.detach())
        back = self.loss(self.predictor(second), first.detach())
        mean: Tensor = (ahead + back) / 2
        return mean


class Byol(Objective):
    """Each view predicts what a slow copy of network and projector makes of the other view.

    Bootstrap your own latent, arXiv 2006.07733; the copy's momentum goes from 0.996 to 1.
    """

    def __init__(self, network: nn.Module, *, width: int, loss: nn.Module, seed: int) -> None:
        super().__init__(network, width=width, loss=loss, seed=seed)
        self.predictor = _predictor(hidden=HIDDEN, seed=seed + 1)
        self.slow_network = deepcopy(network).requires_grad_(requires_grad=False)
        self.slow_projector = deepcopy(self.projector).requires_grad_(requires_grad=False)

    def compare(
        self, first: Float[Tensor, "slide projection"], second: Float[Tensor, "slide projection"],
        *, views: ViewPair,
    ) -> Float[Tensor, ""]:  # fmt: skip
        """The mean loss of each view's prediction with the other's slow projection."""
        ahead = self.loss(self.predictor(first), self._slow(views.second))
        back = self.loss(self.predictor(second), self._slow(views.first))
        mean: Tensor = (ahead + back) / 2
        return mean

    @torch.no_grad()
    def _slow(self, view: PackedTiles) -> Tensor:
        projection: Tensor = self.slow_projector(represent(self.slow_network, view))
        return projection

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Moves the slow copy a little towards the network."""
        momentum = 1.0 - (1.0 - _BYOL_MOMENTUM) * (math.cos(math.pi * progress) + 1.0) / 2.0
        slow = [*self.slow_network.parameters(), *self.slow_projector.parameters()]
        fast = [*self.network.parameters(), *self.projector.parameters()]
        for ours, theirs in zip(slow, fast, strict=True):
            ours.lerp_(theirs, 1.0 - momentum)


class Neighbours(Objective):
    """Tiles that lie side by side get like features; no slide is compared with another.

    Features have mean zero in each slide, so neither stain nor composition helps; ``NeighbourLoss``
    says how. For slide encoders with ``tile_features``. Nothing is compared across devices.

    Raises:
        SettingsError: another slide encoder.
    """

    def __init__(self, network: nn.Module, *, width: int, loss: nn.Module, seed: int) -> None:
        super().__init__(network, width=width, loss=loss, seed=seed)
        if not callable(getattr(network, "tile_features", None)):
            raise SettingsError(
                f"objective 'neighbours' trains the features of single tiles; "
                f"{type(network).__name__} has none; use slide encoder 'spatial'"
            )
        self.projector = nn.Sequential()
        self.neighbour_loss = loss

    def forward(self, views: ViewPair) -> tuple[Tensor, Tensor, Tensor]:
        """The mean loss of both views, and the vectors of either without gradient."""
        both = (views.first, views.second)
        losses = [self._loss_of(view) for view in both]
        with torch.no_grad():
            first, second = (represent(self.network, view).float() for view in both)
        return torch.stack(losses).mean(), first, second

    def _loss_of(self, view: PackedTiles) -> Tensor:
        values, cells = self.network.tile_features(view)  # type: ignore[operator]
        loss: Tensor = self.neighbour_loss(values, cells)
        return loss


class _InFloat32(nn.Module):
    """A loss that does not follow autocast: bfloat16 knows a logit of 20 to a tenth only."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        with torch.autocast(device_type=first.device.type, enabled=False):
            loss: Tensor = self.loss(first.float(), second.float())
        return loss


class _OfWholeBatch(nn.Module):
    """A loss of the projections of all devices."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        loss: Tensor = self.loss(whole_batch(first, shared=True), whole_batch(second, shared=True))
        return loss


def represent(network: nn.Module, tiles: PackedTiles) -> Float[Tensor, "bag width"]:
    """What the objective sees of a slide encoder: its ``learned`` part where it has one."""
    learned = getattr(network, "learned", None)
    vectors: Tensor = learned(tiles) if callable(learned) else network(tiles)
    return vectors


def projector(width: int) -> nn.Sequential:
    """The published projector: two layers with ReLU *before* batch norm, then a linear one.

    658,688 parameters at a width of 512.
    """
    return nn.Sequential(
        nn.Linear(width, HIDDEN), nn.ReLU(), nn.BatchNorm1d(HIDDEN),
        nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.BatchNorm1d(HIDDEN),
        nn.Linear(HIDDEN, PROJECTION),
    )  # fmt: skip


def _predictor(*, hidden: int, seed: int) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Linear(PROJECTION, hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
        nn.Linear(hidden, PROJECTION),
    )  # fmt: skip
    initialise(layers, seed=seed)
    return layers


OBJECTIVES: Mapping[str, tuple[type[Objective], Callable[[float, bool], nn.Module]]] = {
    "simclr": (
        Objective,
        lambda temperature, gather: NTXentLoss(temperature, gather_distributed=gather),
    ),
    "vicreg": (Objective, lambda _, gather: VICRegLoss(gather_distributed=gather)),
    # lightly's own gathering standardises each device's part of the batch by itself, which the
    # paper does not
    "barlow": (
        Objective,
        lambda _, gather: _OfWholeBatch(BarlowTwinsLoss()) if gather else BarlowTwinsLoss(),
    ),
    "byol": (Byol, lambda *_: NegativeCosineSimilarity()),
    "simsiam": (SimSiam, lambda *_: NegativeCosineSimilarity()),
    "neighbours": (Neighbours, lambda *_: NeighbourLoss()),
}
"""Name → how views are compared, and the loss (of a temperature, and whether several devices
share a batch). SimCLR: arXiv 2002.05709; VICReg: 2105.04906; Barlow Twins: 2103.03230."""


def new_objective(
    name: str, network: nn.Module, *, width: int, temperature: float, seed: int,
    gather: bool = False,
) -> Objective:  # fmt: skip
    """The objective of that name around a slide encoder.

    Args:
        width: length of the vectors that the objective sees.
        temperature: of SimCLR.
        seed: of the weights behind the network.
        gather: several devices share a batch, so losses over the batch gather it.

    Raises:
        SettingsError: unknown name.
    """
    if name not in OBJECTIVES:
        raise unknown_name("objective", name, known=OBJECTIVES)
    kind, loss = OBJECTIVES[name]
    return kind(network, width=width, loss=loss(temperature, gather), seed=seed)
