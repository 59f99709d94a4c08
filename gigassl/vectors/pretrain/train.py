"""The training loop of slide encoders."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from lightning_fabric import Fabric
from torch import Tensor, nn

from gigassl.errors import SettingsError
from gigassl.tiles.pretrain.checkpoints import CheckpointFile, load_training, save_training
from gigassl.training.chance import Chance
from gigassl.training.devices import fabric_of
from gigassl.training.geometry import Geometry, geometry, label_numbers
from gigassl.training.monitors import Monitor, Quiet
from gigassl.training.optimisers import learning_rate, new_optimiser
from gigassl.vectors.matmul import fast_matmul
from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.placement import placed
from gigassl.vectors.pretrain.batches import deal, plan_batches
from gigassl.vectors.pretrain.monitors import EpochRow, Plan, Watch
from gigassl.vectors.pretrain.objectives import ViewPair, new_objective, represent
from gigassl.vectors.pretrain.settings import LR_BATCH, PretrainSettings
from gigassl.vectors.tile_store import TileStore
from gigassl.vectors.views import draw_views

log = logging.getLogger("gigassl")

_SAMPLE_ROWS = 20_000
_EXAM_VIEWS = 4
_GLANCE = 64


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How a training ended.

    Attributes:
        epochs: epochs done.
        collapsed: the vectors say nothing: the training has failed.
        geometry: of the finished network's vectors, in evaluation mode.
        knn_accuracy: of the same; None without labels.
        loss: of the last epoch; None where all were done before.
    """

    epochs: int
    collapsed: bool
    geometry: Geometry
    knn_accuracy: float | None
    loss: float | None


def new_fabric(
    settings: PretrainSettings, *, device: str = "auto", devices: int = 1, nodes: int = 1
) -> Fabric:
    """What runs the training: one device or several, at the precision of the settings.

    Args:
        device: "auto", "cpu" or "cuda".
        devices: how many of them; they share each batch.
        nodes: machines, each started by SLURM or torchrun.

    Raises:
        SettingsError: devices that are not there.
    """
    return fabric_of(settings.precision, device=device, devices=devices, nodes=nodes)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a training is carried out; does not change the weights, save that devices round apart.

    Attributes:
        fabric: what runs it, launched already; None for one device of whatever kind is there.
        checkpoint: where its state is kept; a killed training goes on from there.
        labels: one a slide, None where not known, for kNN accuracy only; never learned from.
    """

    fabric: Fabric | None = None
    checkpoint: CheckpointFile | None = None
    labels: Sequence[str | None] | None = None


def pretrain(
    store: TileStore, network: nn.Module, *, settings: PretrainSettings | None = None,
    options: TrainingOptions | None = None, monitor: Monitor | None = None,
) -> Trained:  # fmt: skip
    """Trains a slide encoder in place, without labels; it ends in evaluation mode on the CPU.

    The same store, settings and seed give the same weights; resumed from a checkpoint too, on
    the CPU to the same bytes.

    Args:
        store: the tiles of the cohort.
        network: any module that makes [bag, width] of ``PackedTiles``; see ``SLIDE_ENCODERS``.

    Raises:
        SettingsError: a cohort too small, or a network without weights to learn.
        MachineError: a checkpoint cannot be written.
    """
    settings, options = settings or PretrainSettings(), options or TrainingOptions()
    try:
        training = _Training(store, network, settings=settings, options=options)
        with fast_matmul(training.fabric.device):
            return training.carry_out(options.checkpoint, monitor or Quiet())
    finally:
        network.eval().cpu()


class _Training:
    """One training: what is trained on what, and how far it is."""

    def __init__(
        self, store: TileStore, network: nn.Module, *, settings: PretrainSettings,
        options: TrainingOptions,
    ) -> None:  # fmt: skip
        fabric = options.fabric or new_fabric(settings)
        self.settings, self.fabric = settings, fabric
        self.batches = plan_batches(store.patient_ids, batch_size=settings.batch_size)
        if self.batches.size < 2 * fabric.world_size:
            raise SettingsError(
                f"a batch of {self.batches.size} slides is too small for {fabric.world_size} "
                "devices; each needs 2"
            )
        for sentence in self.batches.said():
            log.warning("%s", sentence)
        self.store = placed(store, fabric.device)
        self.chance = Chance(seed=settings.seed, rank=fabric.global_rank, device=self.store.device)
        network.to(fabric.device)
        self._prepare(network)
        self.objective = new_objective(
            settings.objective, network, width=self._width(network),
            temperature=settings.temperature, seed=settings.seed, gather=fabric.world_size > 1,
        )  # fmt: skip
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise SettingsError(
                f"{type(network).__name__} has no weights to learn; "
                "`gigassl embed --slide-encoder mean` needs no training"
            )
        self.peak = settings.lr * self.batches.size / LR_BATCH
        self.objective.to(fabric.device)
        self.optimiser = new_optimiser(
            settings.optimiser, self.objective, lr=self.peak, weight_decay=settings.weight_decay
        )
        module, optimiser = fabric.setup(self.objective, self.optimiser)
        self.module, self.stepper = module, optimiser
        self.watch = Watch(
            self.batches.patient,
            None if options.labels is None else label_numbers(options.labels)[0],
            generator=self.chance.shared("watch"),
        )  # fmt: skip
        self.epoch = self.n_collapsed = 0

    @property
    def n_steps(self) -> int:
        return self.settings.epochs * self.batches.n_batches

    @property
    def n_warmup(self) -> int:
        epochs = min(self.settings.warmup_epochs, self.settings.epochs / 10)
        return round(epochs * self.batches.n_batches)

    def carry_out(self, checkpoint: CheckpointFile | None, monitor: Monitor) -> Trained:
        """Trains to the last epoch, or until the vectors have collapsed for too long."""
        if checkpoint is not None:
            self._resume(checkpoint)
        monitor.started(self._plan())
        loss = None
        while self.epoch < self.settings.epochs and not self._given_up(loss):
            row = self._train_epoch(monitor)
            loss = row.loss
            self.epoch += 1
            self.n_collapsed = self.n_collapsed + 1 if self._looks_collapsed() else 0
            monitor.row_done(row)
            if checkpoint is not None:
                self._save(checkpoint)
        found, accuracy = self._examine()
        return Trained(
            epochs=self.epoch,
            collapsed=found.collapsed or self._given_up(loss),
            geometry=found,
            knn_accuracy=accuracy,
            loss=loss,
        )

    def _given_up(self, loss: float | None) -> bool:
        diverged = loss is not None and not math.isfinite(loss)
        return diverged or self.n_collapsed >= self.settings.stop_on_collapse

    def _plan(self) -> Plan:
        trained = [p for p in self.objective.network.parameters() if p.requires_grad]
        return Plan(
            n_slides=len(self.store),
            n_patients=self.batches.n_patients,
            n_batches=self.batches.n_batches,
            batch_size=self.batches.size,
            epochs=self.settings.epochs,
            epochs_done=self.epoch,
            lr=self.peak,
            n_parameters=sum(p.numel() for p in trained),
            device=self.fabric.device.type,
            n_devices=self.fabric.world_size,
        )

    def _train_epoch(self, monitor: Monitor) -> EpochRow:
        begin = time.perf_counter()
        self.module.train()
        losses = []
        rate = 0.0
        with self.chance.epoch(self.epoch, device=self.fabric.device) as generator:
            for number, slides in enumerate(self._my_batches()):
                step = self.epoch * self.batches.n_batches + number
                rate = learning_rate(
                    step, peak=self.peak, warmup_steps=self.n_warmup, steps=self.n_steps
                )
                losses.append(self._step(slides, lr=rate, generator=generator))
                self.objective.after_step((step + 1) / self.n_steps)
                monitor.step_done()
        # the number waits for the device, so that the time is of work done
        loss = float(self._over_devices(torch.stack(losses).mean(), "mean"))
        seconds = time.perf_counter() - begin
        found, accuracy = self._measured()
        return EpochRow(
            epoch=self.epoch + 1,
            loss=loss,
            lr=rate,
            slides_per_s=self.batches.n_used / seconds,
            geometry=found,
            knn_accuracy=accuracy,
        )

    def _my_batches(self) -> list[Int64[Tensor, " batch"]]:
        """The batches of this epoch, of which each device takes an equal part."""
        rank, world = self.fabric.global_rank, self.fabric.world_size
        dealt = deal(self.batches, generator=self.chance.shared("deal", self.epoch))
        mine = [batch[: len(batch) // world * world][rank::world] for batch in dealt]
        every = torch.from_numpy(np.concatenate(mine)).to(self.store.device)
        return list(torch.split(every, [len(batch) for batch in mine]))

    def _step(
        self, slides: Int64[Tensor, " batch"], *, lr: float, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        views = ViewPair(self._view(slides, generator), self._view(slides, generator))
        for group in self.stepper.param_groups:
            group["lr"] = lr
        loss, first, second = self.module(views)
        self.fabric.backward(loss)
        self.stepper.step()
        self.stepper.zero_grad()
        self.watch.note(slides, first, second)
        mean: Tensor = loss.detach()
        return mean

    def _view(self, slides: Int64[Tensor, " batch"], generator: torch.Generator) -> PackedTiles:
        drawn = draw_views(self.store, slides, settings=self.settings.views, generator=generator)
        return drawn.to(self.fabric.device)

    def _measured(self) -> tuple[Geometry, float | None]:
        # a slide comes to one device at most, and is zero on the others
        return self.watch.measured(self._over_devices(self.watch.kept(), "sum"))

    def _over_devices(self, values: Tensor, how: Literal["mean", "sum"]) -> Tensor:
        reduced: Tensor = self.fabric.all_reduce(values, reduce_op=how)  # type: ignore[assignment]
        return reduced

    def _looks_collapsed(self) -> bool:
        """Whether the vectors of a few slides are all alike in evaluation mode.

        In training mode dropout and batch norm make differences where there are none.
        """
        slides = self.watch.slides[:: -(-len(self.watch.slides) // _GLANCE)]
        (vectors,) = self._vectors(slides, times=1)
        found = vectors.cpu().numpy()
        return geometry(found, found).collapsed

    def _examine(self) -> tuple[Geometry, float | None]:
        """Measures the finished network as it will be used: in evaluation mode, of some views."""
        vectors = self._vectors(self.watch.slides, times=2 * _EXAM_VIEWS)
        first, second = vectors[::2].mean(dim=0), vectors[1::2].mean(dim=0)
        return self.watch.measured(torch.stack([first, second], dim=1))

    @torch.no_grad()
    def _vectors(
        self, slides: Int64[np.ndarray, " slide"], *, times: int
    ) -> Float[Tensor, "times slide width"]:
        """Vectors of so many views of each slide, in evaluation mode."""
        self.module.eval()
        generator = self.chance.own("exam")
        chosen = torch.from_numpy(slides).to(self.store.device)
        with self.fabric.autocast():
            parts = [
                torch.stack([
                    represent(self.objective.network, self._view(few, generator)).float()
                    for _ in range(times)
                ])
                for few in torch.split(chosen, LR_BATCH)
            ]  # fmt: skip
        return torch.cat(parts, dim=1)

    def _prepare(self, network: nn.Module) -> None:
        """Lets a network that needs statistics of the features see a random sample of them."""
        prepare = getattr(network, "prepare", None)
        if not callable(prepare):
            return
        generator = self.chance.own("sample")
        device = self.store.device
        slide = torch.randint(len(self.store), (_SAMPLE_ROWS,), generator=generator, device=device)
        group = torch.randint(
            self.store.first.shape[1], (_SAMPLE_ROWS,), generator=generator, device=device
        )
        first, count = self.store.first[slide, group], self.store.count[slide, group]
        chance = torch.rand(_SAMPLE_ROWS, generator=generator, device=device, dtype=torch.float64)
        rows = first + (chance * count).long()
        prepare(self.store.features.index_select(0, rows).float().to(self.fabric.device))

    @torch.no_grad()
    def _width(self, network: nn.Module) -> int:
        """Length of the vectors that the objective sees: found by making two."""
        slides = torch.arange(2, device=self.store.device)
        return represent(network.eval(), self._view(slides, self.chance.own("exam"))).shape[1]

    def _resume(self, checkpoint: CheckpointFile) -> None:
        saved = load_training(checkpoint, self.objective, self.optimiser)
        if saved is not None:
            self.epoch, self.n_collapsed = saved.progress["epoch"], saved.progress["n_collapsed"]
            log.info("going on after epoch %d of %d", self.epoch, self.settings.epochs)

    def _save(self, checkpoint: CheckpointFile) -> None:
        last = self.epoch == self.settings.epochs
        if self.fabric.is_global_zero and (last or self.epoch % checkpoint.every == 0):
            progress = {"epoch": self.epoch, "n_collapsed": self.n_collapsed}
            save_training(checkpoint, self.objective, self.optimiser, progress=progress)
