"""The training of tile encoders."""

import logging
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from torch import Tensor

from gigassl.errors import SettingsError
from gigassl.tiles.pretrain.exam import Exam
from gigassl.tiles.pretrain.held_out import HeldOut, divided
from gigassl.tiles.pretrain.method import Method
from gigassl.tiles.pretrain.monitors import TilePlan
from gigassl.tiles.pretrain.options import TileTrainingOptions, planned_steps, round_length
from gigassl.tiles.pretrain.progress import Keeper, finite
from gigassl.tiles.pretrain.rounds import Rounds
from gigassl.tiles.pretrain.settings import TilePretrainSettings
from gigassl.tiles.pretrain.source import BatchPlan, TileBatch, TileSource
from gigassl.tiles.pretrain.steps import Stepper
from gigassl.tiles.pretrain.trained import COLLAPSED_ROUNDS, TrainedTiles
from gigassl.tiles.weights import save_checkpoint
from gigassl.training.devices import fabric_of, fast_convolutions, mean_over_devices, over_devices
from gigassl.training.monitors import Monitor, Quiet
from gigassl.training.stopping import ASKED, Asked, StopSignals

log = logging.getLogger("gigassl")

_LOOK_EVERY = 8


def new_fabric(
    settings: TilePretrainSettings, *, device: str = "auto", devices: int = 1, nodes: int = 1
) -> Fabric:
    """What runs the training: one device or several, at the precision of the settings.

    Args:
        device: "auto", "cpu" or "cuda".
        devices: how many of each machine; they share each batch.
        nodes: machines, each started by SLURM or torchrun.

    Raises:
        SettingsError: devices that are not there, or a batch that they cannot share.
    """
    if settings.batch_size % (devices * nodes):
        raise SettingsError(
            f"a batch of {settings.batch_size} tiles cannot be shared by {devices * nodes} "
            f"devices; take a multiple of {devices * nodes} as --batch-size"
        )
    return fabric_of(settings.precision, device=device, devices=devices, nodes=nodes)


def pretrain_tile_encoder(  # noqa: PLR0913 - all that makes the encoder, and how
    source: TileSource, method: Method, *, settings: TilePretrainSettings,
    mean: Sequence[float], std: Sequence[float],
    options: TileTrainingOptions | None = None, monitor: Monitor | None = None,
) -> TrainedTiles:  # fmt: skip
    """Trains a tile encoder in place, without labels; it ends in evaluation mode on the CPU.

    The same source, settings and seed give the same weights, also with other numbers of workers;
    and when stopped, killed and resumed: on the CPU to the same bytes.

    Args:
        source: what tiles are drawn from.
        method: a method of ``METHODS`` with the encoder inside; see ``new_method``.
        mean, std: of RGB in 0..1, that the encoder's input is normalised with.
        monitor: is told of the plan, each step and each round.

    Raises:
        SettingsError: too few tiles, or the state of another training.
        MachineError: out of GPU memory, no file handles, or the state cannot be written.
    """
    options = options or TileTrainingOptions()
    try:
        training = _Training(
            source, method, settings=settings, colours=(mean, std), options=options
        )
        return training.carry_out(monitor or Quiet())
    finally:
        method.eval().cpu().to(memory_format=torch.contiguous_format)


class _Training:
    """One training: what is trained on what, and how far it is."""

    def __init__(
        self, source: TileSource, method: Method, *, settings: TilePretrainSettings,
        colours: tuple[Sequence[float], Sequence[float]], options: TileTrainingOptions,
    ) -> None:  # fmt: skip
        self.method, self.settings, self.options = method, settings, options
        self.source, held_out = divided(source, settings)
        self.fabric = options.fabric or new_fabric(settings)
        self.steps = planned_steps(settings, n_tiles=self.source.n_tiles)
        self.round_steps = options.round_steps or round_length(
            settings, n_tiles=self.source.n_tiles
        )
        self.stepper = Stepper(
            method, settings=settings, steps=self.steps, colours=colours, fabric=self.fabric
        )
        self.exam = Exam.of(options.exam, settings=settings, colours=colours, fabric=self.fabric)
        self.held_out = None if held_out is None else HeldOut(held_out, self.stepper)
        self.n_held_out = 0 if held_out is None else len(set(held_out.patient_ids))
        self.keeper = Keeper(
            options.checkpoint, minutes=options.minutes, method=method,
            optimiser=self.stepper.optimiser,
        )  # fmt: skip
        # to look at a loss is to wait for the device, and for the other ones
        waits = self.fabric.device.type != "cpu" or self.fabric.world_size > 1
        self.look_every = _LOOK_EVERY if waits else 1
        self.signals = StopSignals()
        self.losses: list[Tensor] = []
        self.asked: Asked | None = None
        self.diverged = False

    def carry_out(self, monitor: Monitor) -> TrainedTiles:
        """Trains to the last step, or until it is asked to stop or the loss is no number."""
        progress = self.progress = self.keeper.resume()
        self._require_shared_state()
        if progress.recent is not None:
            self._restore_recent(progress.recent)
        if progress.step:
            log.info("going on after step %d of %d", progress.step, self.steps)
        monitor.started(self._plan())
        self.method.train()
        rounds = Rounds(
            self.stepper, progress, length=self.round_steps, n_tiles=self.source.n_tiles,
            exam=self.exam, held_out=self.held_out,
        )  # fmt: skip
        with self.signals, fast_convolutions(), self._batches() as batches:
            while progress.step < self.steps and not self.diverged and self.asked is None:
                self._advance(batches, rounds, monitor=monitor)
        if not self.asked and self.fabric.is_global_zero:
            self._save_best()
        self.fabric.barrier()  # a process that ends may take the others with it
        return self._ended()

    def _plan(self) -> TilePlan:
        trained = [p for p in self.method.encoder.parameters() if p.requires_grad]
        return TilePlan(
            method=self.settings.method,
            n_tiles=self.source.n_tiles,
            n_files=len(self.source.names),
            n_patients=len(set(self.source.patient_ids)),
            batch_size=self.settings.batch_size,
            accumulate=self.settings.accumulate,
            steps=self.steps,
            round_steps=self.round_steps,
            steps_done=self.progress.step,
            lr=self.stepper.peak,
            n_parameters=sum(p.numel() for p in trained),
            device=self.fabric.device.type,
            n_devices=self.fabric.world_size,
            n_held_out=self.n_held_out,
        )

    @contextmanager
    def _batches(self) -> Iterator[Iterator[TileBatch]]:
        """The batches from where the training is; what reads them ahead ends with it."""
        accumulate = self.settings.accumulate
        batches = self.source.batches(
            BatchPlan(
                first=self.progress.step * accumulate,
                last=self.steps * accumulate,
                size=self.settings.batch_size,
                rank=self.fabric.global_rank,
                world=self.fabric.world_size,
                workers=self.options.workers,
                seed=self.settings.seed,
            )
        )
        try:
            yield batches
        finally:
            if isinstance(batches, Generator):
                batches.close()

    def _advance(self, batches: Iterator[TileBatch], rounds: Rounds, *, monitor: Monitor) -> None:
        """One step, and what is due after it."""
        progress = self.progress
        self.losses.append(self.stepper.take(progress.step, batches))
        progress.step += 1
        monitor.step_done()
        progress.skip(self.stepper.unreadable, aloud=self.fabric.is_global_zero)
        self.stepper.unreadable.clear()
        ends = rounds.ends()
        if not ends and progress.step % self.look_every:
            return
        due = self._agree()
        if self.diverged:
            return
        if ends:
            monitor.row_done(rounds.end())
            if self.options.pictures is not None and self.fabric.is_global_zero:
                rounds.draw(self.options.pictures)
        if due or self.asked or progress.step == self.steps:
            self._save()

    def _agree(self) -> bool:
        """Looks at the losses, and at what devices are asked to do; whether a state is due."""
        flags = [*(self.signals.asked == name for name in ASKED), self.keeper.due()]
        told = torch.stack([*self.losses, *torch.tensor(flags).float().to(self.losses[0].device)])
        told = mean_over_devices(self.fabric, told)
        losses, (*asked, due) = told[: -len(flags)].tolist(), told[-len(flags) :].tolist()
        self.losses.clear()
        self.progress.losses += losses
        self.asked = next((name for name, came in zip(ASKED, asked, strict=True) if came), None)
        if not all(math.isfinite(loss) for loss in losses):
            self.diverged = True
        return bool(due)

    def _save(self) -> None:
        """Keeps the state of all devices, unless it is none to go on from."""
        if not finite(self.method):
            self.diverged = True
            return
        recent = self.stepper.recent
        self.progress.recent = over_devices(self.fabric, recent.kept()) if len(recent) else None
        if self.fabric.is_global_zero:
            self.keeper.save(self.progress)

    def _require_shared_state(self) -> None:
        """Checks that all devices go on from the same step.

        Raises:
            SettingsError: some do not see the state that the others see.
        """
        step = torch.tensor([self.progress.step], device=self.fabric.device)
        steps = over_devices(self.fabric, step).tolist()
        if len(set(steps)) > 1:
            raise SettingsError(
                f"machines that share a training found states of steps {min(steps)} to "
                f"{max(steps)}; give an -o that is the same place for all of them"
            )

    def _restore_recent(self, vectors: Tensor) -> None:
        fabric = self.fabric
        mine = vectors.chunk(fabric.world_size)[fabric.global_rank]
        size = self.settings.batch_size // fabric.world_size
        self.stepper.recent.restore(mine.to(fabric.device), batch=size)

    def _save_best(self) -> None:
        best, path = self.progress.best, self.options.best
        if best is None or path is None:
            return
        card = {
            "kind": "tile-encoder-weights",
            "step": best.step,
            "knn_accuracy": best.knn_accuracy,
            "measured": best.measured,
        }
        save_checkpoint(path, self.progress.best_weights, card=card)

    def _ended(self) -> TrainedTiles:
        progress, row, best = self.progress, self.progress.row, self.progress.best
        rounds = -(-progress.step // self.round_steps)
        return TrainedTiles(
            steps=progress.step,
            steps_wanted=self.steps,
            epochs=progress.step * self.stepper.tiles_a_step / self.source.n_tiles,
            loss=row.loss if row else None,
            geometry=row.geometry if row else None,
            knn_accuracy=row.knn_accuracy if row else None,
            tiles_per_s=row.tiles_per_s if row else None,
            waiting=row.waiting if row else None,
            best_step=best.step if best else None,
            best_knn_accuracy=best.knn_accuracy if best else None,
            collapsed=0 < min(COLLAPSED_ROUNDS, rounds) <= progress.collapsed_rounds,
            diverged=self.diverged,
            stopped_by=self.asked if progress.step < self.steps else None,
            unreadable=tuple(progress.unreadable.values()),
            state=self.keeper.said(),
            measured=row.measured if row else {},
            best_measured=best.measured if best else {},
        )
