"""The exam of a training: kNN accuracy of the encoder on labelled tiles, never learned from."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gigassl.tiles.labelled_images import LabelledTiles
from gigassl.tiles.pretrain.settings import TilePretrainSettings
from gigassl.training.chance import Chance
from gigassl.training.geometry import knn_accuracy

MOST = 4096
"""Labelled tiles that are examined: a fixed random sample where there are more."""


class Exam:
    """Labelled tiles as the network takes them.

    Args:
        labelled: tiles with labels and groups (patients).
        side_px: of the network's input.
        colours: mean and standard deviation of the channels, 0 to 1.
        batch: tiles at a time.
        generator: draws the sample.
    """

    def __init__(
        self, labelled: LabelledTiles, *, side_px: int,
        colours: tuple[Sequence[float], Sequence[float]], batch: int,
        generator: np.random.Generator,
    ) -> None:  # fmt: skip
        chosen = np.sort(generator.permutation(len(labelled.tiles))[:MOST])
        self._tiles: UInt8[Tensor, "tile row col 3"] = torch.from_numpy(labelled.tiles[chosen])
        self._labels: Int64[np.ndarray, " tile"] = labelled.labels[chosen]
        self._groups = np.unique(np.array(labelled.groups), return_inverse=True)[1][chosen]
        self._side_px, self._batch = side_px, batch
        self._mean, self._std = (torch.tensor(v).view(1, 3, 1, 1) for v in colours)

    @classmethod
    def of(
        cls, labelled: LabelledTiles | None, *, settings: TilePretrainSettings,
        colours: tuple[Sequence[float], Sequence[float]], fabric: Fabric,
    ) -> "Exam | None":  # fmt: skip
        """The exam of a training; None without labelled tiles, and on all devices but the first."""
        if labelled is None or not fabric.is_global_zero:
            return None
        chance = Chance(seed=settings.seed, rank=0, device=torch.device("cpu"))
        return cls(
            labelled, side_px=settings.views.side_px, colours=colours,
            batch=settings.batch_size // fabric.world_size, generator=chance.shared("exam"),
        )  # fmt: skip

    def accuracy(self, encoder: nn.Module, fabric: Fabric) -> float | None:
        """Share of tiles whose nearest tiles of other groups have their label.

        Leaves the encoder in evaluation mode. None where no tile has a neighbour.
        """
        encoder.eval()
        parts = torch.split(self._tiles, self._batch)
        vectors = [self._vectors(encoder, few, fabric) for few in parts]
        return knn_accuracy(
            torch.cat(vectors).cpu().numpy(), labels=self._labels, patient=self._groups
        )

    @torch.no_grad()
    def _vectors(
        self, encoder: nn.Module, tiles: UInt8[Tensor, "few row col 3"], fabric: Fabric
    ) -> Float32[Tensor, "few width"]:
        images = tiles.to(fabric.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255.0
        if images.shape[-1] != self._side_px:
            side = (self._side_px, self._side_px)
            images = interpolate(images, side, mode="bilinear", antialias=True)
        images = (images - self._mean.to(images.device)) / self._std.to(images.device)
        with fabric.autocast():
            vectors: Tensor = encoder(images.contiguous(memory_format=torch.channels_last))
        return vectors.float()
