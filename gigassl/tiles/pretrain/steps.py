"""The steps of a training of a tile encoder: tiles, views, loss, gradients, optimiser."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from gigassl.files import MachineError
from gigassl.tiles.pretrain.method import Method, Views
from gigassl.tiles.pretrain.monitors import MEASURED, Recent
from gigassl.tiles.pretrain.schedule import rate_at
from gigassl.tiles.pretrain.settings import LR_BATCH, TilePretrainSettings
from gigassl.tiles.pretrain.source import TileBatch, UnreadableFile
from gigassl.tiles.pretrain.views import draw_views
from gigassl.training.chance import Chance
from gigassl.training.optimisers import new_optimiser

GLANCE = 64
"""Views of the last batch that are kept, to be looked at in evaluation mode."""


class Stepper:
    """Takes the steps of a training; the same step k whoever takes it, and when.

    Attributes:
        optimiser: of the method's weights.
        recent: vectors of the last batches of this device.
        glance: views of the last batch.
        unreadable: files that were skipped, in the order in which they were met.
        waited: seconds that steps waited for their tiles.
        rate: learning rate of the last step.
        falls: how often it has fallen on a plateau.
    """

    glance: Float[Tensor, "few 3 row col"]

    def __init__(
        self, method: Method, *, settings: TilePretrainSettings, steps: int,
        colours: tuple[Sequence[float], Sequence[float]], fabric: Fabric,
    ) -> None:  # fmt: skip
        """Moves the method to the device and gets it ready.

        Args:
            steps: of the whole training.
            colours: mean and standard deviation of the channels, 0 to 1.
        """
        self.fabric, self.settings, self.steps = fabric, settings, steps
        self.method, self.colours = method, colours
        self.tiles_a_step = settings.batch_size * settings.accumulate
        self.peak = settings.lr * self.tiles_a_step / LR_BATCH
        self.chance = Chance(
            seed=settings.seed, rank=fabric.global_rank, device=torch.device("cpu")
        )
        if fabric.world_size > 1 and fabric.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(method)  # type: ignore[no-untyped-call]
        method.to(fabric.device).to(memory_format=torch.channels_last)
        self.optimiser = new_optimiser(
            settings.optimiser, method, lr=self.peak, weight_decay=settings.weight_decay
        )
        self._module, self._stepper = fabric.setup(method, self.optimiser)
        self.recent = Recent(MEASURED // fabric.world_size)
        self.unreadable: list[UnreadableFile] = []
        self.waited = self.rate = 0.0
        self.falls = 0

    def take(self, step: int, batches: Iterator[TileBatch]) -> Float[Tensor, ""]:
        """Takes one step and returns its loss, which the device may still be at.

        Raises:
            MachineError: out of memory of the GPU.
        """
        accumulate, progress = self.settings.accumulate, step / self.steps
        self.rate = rate_at(
            step, settings=self.settings, peak=self.peak, steps=self.steps, falls=self.falls
        )
        for group in self._stepper.param_groups:
            group["lr"] = self.rate
        losses = []
        with self._memory_told():
            for number in range(step * accumulate, (step + 1) * accumulate):
                last = number + 1 == (step + 1) * accumulate
                with self.fabric.no_backward_sync(self._module, enabled=not last):
                    losses.append(self._add_gradients(number, batches, progress=progress))
            if self.settings.clip_norm is not None:
                self.fabric.clip_gradients(
                    self._module, self._stepper, max_norm=self.settings.clip_norm,
                    error_if_nonfinite=False,
                )  # fmt: skip
            self.method.before_step(progress)
            self._stepper.step()
            self._stepper.zero_grad()
            self.method.after_step((step + 1) / self.steps)
        return torch.stack(losses).mean()

    def _add_gradients(
        self, number: int, batches: Iterator[TileBatch], *, progress: float
    ) -> Float[Tensor, ""]:
        """Adds the gradients of one batch to those of its step."""
        begin = time.perf_counter()
        batch = next(batches)
        self.waited += time.perf_counter() - begin
        self.unreadable += batch.unreadable
        batch = self.method.prepare(batch, self.chance.own("pairs", number))
        with self.chance.epoch(number, device=self.fabric.device):
            views = self.views(batch, self.chance.same("views", number))
            loss, first, second = self._module(
                views, progress=progress, generator=self.chance.same("masks", number)
            )
            self.fabric.backward(loss / self.settings.accumulate)
        self.recent.note(first, second)
        self.glance = views[0][:GLANCE].clone()  # a slice would keep all of them in memory
        mean: Tensor = loss.detach().float()
        return mean

    def views(self, batch: TileBatch, generator: torch.Generator) -> Views:
        """Views of a batch on the device.

        Args:
            generator: on the CPU; in the same state in all processes that share the batch.
        """
        device = self.fabric.device
        partners = batch.partners
        views = draw_views(
            batch.tiles.to(device, non_blocking=True),
            None if partners is None else partners.to(device, non_blocking=True),
            settings=self.settings.views, mean=self.colours[0], std=self.colours[1],
            generator=generator,
            part=(self.fabric.global_rank, self.fabric.world_size),
        )  # fmt: skip
        return [view.contiguous(memory_format=torch.channels_last) for view in views]

    @contextmanager
    def _memory_told(self) -> Iterator[None]:
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            size, accumulate = self.settings.batch_size, self.settings.accumulate
            world = self.fabric.world_size
            half = max(size // 2 // world, 1) * world
            raise MachineError(
                f"out of memory on the GPU with {size} tiles a batch; try --batch-size {half}"
                f" --accumulate {2 * accumulate}, which takes as many tiles a step, or smaller "
                "views, --precision bf16 or more devices"
            ) from error
