"""Patients held out of a training: what its method measures on their tiles after each round."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gigassl.errors import SettingsError
from gigassl.tiles.pretrain.method import Method
from gigassl.tiles.pretrain.settings import TilePretrainSettings
from gigassl.tiles.pretrain.source import (
    BatchPlan,
    ChoosingTiles,
    DivisibleTiles,
    TileBatch,
    TileSource,
)
from gigassl.tiles.pretrain.steps import GLANCE, Stepper
from gigassl.training.devices import mean_over_devices

MOST = 2048
"""Held-out tiles that are measured, always the same ones; they stay in memory."""
FEWEST_BATCHES = 4

# keeps the draw of patients apart from whatever else is drawn from the same seed
_DIVIDE = 0x6865_6C64


def divided(
    source: TileSource, settings: TilePretrainSettings
) -> tuple[TileSource, TileSource | None]:
    """What is learned from, and what is held out: no patient is in both.

    Raises:
        SettingsError: a single patient, or a source that cannot be divided.
    """
    if not settings.validation:
        return source, None
    if not isinstance(source, DivisibleTiles):
        raise SettingsError(
            "no patients can be held out of this source of tiles, which has no method 'some'; "
            "leave validation out"
        )
    patients = sorted(set(source.patient_ids))
    if len(patients) < 2:
        raise SettingsError(
            f"{settings.validation:g} of the patients are to be held out, and all tiles are of one "
            "patient; give more slides or images, or hold nobody out "
            "(--validation 0 --schedule constant)"
        )
    rng = np.random.default_rng([_DIVIDE, settings.seed])
    if isinstance(source, ChoosingTiles):
        held = source.held_out(settings.validation, rng=rng)
    else:
        n_held = min(max(1, round(settings.validation * len(patients))), len(patients) - 1)
        held = frozenset(patients[k] for k in rng.permutation(len(patients))[:n_held].tolist())
    files: tuple[list[int], list[int]] = ([], [])
    for number, patient in enumerate(source.patient_ids):
        files[patient in held].append(number)
    return _Part(source, files[0]), _Part(source, files[1])


class _Part:
    """Some files of a source; in its batches they keep the numbers that they have in the whole."""

    names: Sequence[str]
    patient_ids: Sequence[str]
    n_tiles: int
    tile_px: int
    digest: str

    def __init__(self, whole: DivisibleTiles, files: Sequence[int]) -> None:
        self._numbers = torch.tensor(files)
        self._part = part = whole.some(files)
        self.names, self.patient_ids, self.n_tiles = part.names, part.patient_ids, part.n_tiles
        self.tile_px, self.digest = part.tile_px, part.digest

    def batches(self, plan: BatchPlan) -> Iterator[TileBatch]:
        for batch in self._part.batches(plan):
            batch.file = self._numbers[batch.file]
            yield batch


class HeldOut:
    """Tiles of patients that are never learned from, read once.

    Args:
        source: of these patients.
        stepper: makes views of tiles as it does of those that are learned from.

    Raises:
        SettingsError: the method measures nothing, or there are too few tiles.
    """

    def __init__(self, source: TileSource, stepper: Stepper) -> None:
        settings, fabric = stepper.settings, stepper.fabric
        if type(stepper.method).measure is Method.measure:
            raise SettingsError(
                f"method '{settings.method}' measures nothing on held-out patients; leave "
                "validation out (--validation 0), or watch it with labelled images (--labelled)"
            )
        world = fabric.world_size
        size = min(settings.batch_size, source.n_tiles) // world * world
        if size < 2 * world:
            raise SettingsError(
                f"the {len(set(source.patient_ids))} held-out patients have {source.n_tiles} tiles,"
                f" too few for {world} devices; hold more patients out"
            )
        wanted = min(max(source.n_tiles // size, FEWEST_BATCHES), max(1, MOST // size))
        plan = BatchPlan(
            last=wanted, size=size, rank=fabric.global_rank, world=world, seed=settings.seed
        )
        self._stepper = stepper
        self._batches = list(source.batches(plan))
        stepper.unreadable += [file for batch in self._batches for file in batch.unreadable]

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """What the method measures, over all devices; leaves it in evaluation mode."""
        method, fabric = self._stepper.method.eval(), self._stepper.fabric
        found: list[dict[str, Tensor]] = []
        for number, batch in enumerate(self._batches):
            chance = self._stepper.chance.own("held-out", number)
            views = self._views(method.prepare(batch, chance), number)
            with fabric.autocast():
                found.append(dict(method.measure(views, chance)))
        names = list(found[0])
        table = torch.stack([torch.stack([one[name].float() for name in names]) for one in found])
        means = mean_over_devices(fabric, table.mean(dim=0)).tolist()
        return dict(zip(names, means, strict=True))

    def glance(self) -> Float[Tensor, "few 3 row col"]:
        """Views of a few of the tiles, always the same ones."""
        return self._views(self._batches[0], 0)[0][:GLANCE]

    def _views(self, batch: TileBatch, number: int) -> list[Tensor]:
        generator = self._stepper.chance.same("held-out", number)
        return list(self._stepper.views(batch, generator))
