"""Rounds of steps: what is measured at the end of each, and which had the best encoder."""

import logging
import time
from pathlib import Path

import torch

from gigassl.tiles.pretrain.contact_sheet import save_pictures
from gigassl.tiles.pretrain.exam import Exam
from gigassl.tiles.pretrain.held_out import HeldOut
from gigassl.tiles.pretrain.monitors import RoundRow
from gigassl.tiles.pretrain.progress import Progress
from gigassl.tiles.pretrain.steps import Stepper
from gigassl.tiles.pretrain.trained import COLLAPSED_ROUNDS, collapse_alarm
from gigassl.training.devices import merged_over_devices, over_devices
from gigassl.training.geometry import geometry

log = logging.getLogger("gigassl")


class Rounds:
    """Measures a training round by round.

    Args:
        exam: None without labelled tiles, and on all devices but the first.
        held_out: None where no patients are.
        length: steps of a round.
        n_tiles: of an epoch.
    """

    def __init__(
        self, stepper: Stepper, progress: Progress, *, length: int, n_tiles: int,
        exam: Exam | None = None, held_out: HeldOut | None = None,
    ) -> None:  # fmt: skip
        self.length = length
        self._stepper, self._progress, self._exam, self._n_tiles = stepper, progress, exam, n_tiles
        self._held_out = held_out
        stepper.falls = progress.plateau.falls
        self._begin()

    def _begin(self) -> None:
        self._since, self._since_step = time.perf_counter(), self._progress.step
        self._stepper.waited = 0.0

    def ends(self) -> bool:
        """Whether the last step was a round's last one."""
        step = self._progress.step
        return step == self._stepper.steps or step % self.length == 0

    def end(self) -> RoundRow:
        """The numbers of the round that ends, over all devices."""
        progress, stepper = self._progress, self._stepper
        seconds = time.perf_counter() - self._since
        tiles = (progress.step - self._since_step) * stepper.tiles_a_step
        found = over_devices(stepper.fabric, stepper.recent.kept()).cpu().numpy()
        anywhere = merged_over_devices(stepper.fabric, progress.unreadable)
        progress.skip(anywhere.values(), aloud=stepper.fabric.is_global_zero)
        collapsed = self._looks_collapsed()
        row = RoundRow(
            round=-(-progress.step // self.length),
            step=progress.step,
            epoch=progress.step * stepper.tiles_a_step / self._n_tiles,
            loss=sum(progress.losses) / len(progress.losses),
            lr=stepper.rate,
            tiles_per_s=tiles / seconds,
            waiting=min(1.0, stepper.waited / seconds),
            geometry=geometry(found[:, 0], found[:, 1]),
            knn_accuracy=self._accuracy(),
            n_unreadable=len(progress.unreadable),
            measured=self._measured(),
        )
        progress.row, progress.losses = row, []
        stepper.recent.forget()
        self._note_collapse(row, collapsed=collapsed)
        self._note_best(row)
        stepper.method.train()
        self._begin()
        return row

    def _accuracy(self) -> float | None:
        if self._exam is None:
            return None
        return self._exam.accuracy(self._stepper.method.encoder_to_keep(), self._stepper.fabric)

    def _measured(self) -> dict[str, float]:
        """What held-out tiles say, on which the learning rate may fall."""
        if self._held_out is None:
            return {}
        found, stepper = self._held_out.measure(), self._stepper
        if stepper.settings.schedule == "plateau":
            self._progress.plateau.note(next(iter(found.values())))
            stepper.falls = self._progress.plateau.falls
        return found

    @torch.no_grad()
    def draw(self, folder: Path) -> None:
        """Saves the method's pictures of a few tiles, held out ones where there are.

        Raises:
            MachineError: disk full, read-only or missing folder.
        """
        stepper = self._stepper
        method = stepper.method.eval()
        images = stepper.glance if self._held_out is None else self._held_out.glance()
        generator = stepper.chance.same("held-out")
        for name, lines in method.pictures(images, generator).items():
            save_pictures(folder / f"{name}.png", lines.cpu(), colours=stepper.colours)
        method.train()

    @torch.no_grad()
    def _looks_collapsed(self) -> bool:
        """Whether the vectors of a few views are all alike in evaluation mode.

        In training mode batch norm makes differences where there are none.
        """
        stepper = self._stepper
        stepper.method.eval()
        with stepper.fabric.autocast():
            vectors = stepper.method.encoder_to_keep()(stepper.glance).float()
        found = over_devices(stepper.fabric, vectors).cpu().numpy()
        return geometry(found, found).collapsed

    def _note_collapse(self, row: RoundRow, *, collapsed: bool) -> None:
        progress = self._progress
        progress.collapsed_rounds = progress.collapsed_rounds + 1 if collapsed else 0
        if progress.collapsed_rounds == COLLAPSED_ROUNDS and self._stepper.fabric.is_global_zero:
            log.warning("step %d: %s", progress.step, collapse_alarm(row.geometry))

    def _note_best(self, row: RoundRow) -> None:
        progress, stepper = self._progress, self._stepper
        if not stepper.fabric.is_global_zero or progress.collapsed_rounds:
            return
        unseen = self._exam is None and not row.measured
        if unseen and row.step <= stepper.settings.warmup * stepper.steps:
            return
        if progress.best is None or _merit(row) > _merit(progress.best):
            weights = stepper.method.encoder_to_keep().state_dict()
            progress.best = row
            progress.best_weights = {k: v.detach().cpu().clone() for k, v in weights.items()}


def _merit(row: RoundRow) -> float:
    """What the best round has most of (see ``TileTrainingOptions.best``)."""
    if row.validation is not None:
        return -row.validation
    return row.geometry.effective_rank if row.knn_accuracy is None else row.knn_accuracy
