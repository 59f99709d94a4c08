"""Self-supervised training of a tile encoder: slides or images to one ``.safetensors`` file."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from gigassl.digests import digest_of_settings, digest_of_tensors, plain
from gigassl.errors import SettingsError
from gigassl.pipeline.output import claimed, make_folder
from gigassl.pipeline.pretrain_tiles_data import (
    TileData,
    TiledFiles,
    failure_of,
    found_tile_data,
    log_layout,
    tile_data,
)
from gigassl.pipeline.pretrain_tiles_files import Kept, TileEncoderFiles, save_weights
from gigassl.pipeline.pretrain_tiles_result import PretrainTilesResult
from gigassl.pipeline.pretrain_tiles_settings import (
    MANY_STEPS,
    PretrainTilesOptions,
    PretrainTilesSettings,
    begun,
    completed,
    kept_round,
)
from gigassl.pipeline.progress import Progress
from gigassl.pipeline.training_log import TrainingLog
from gigassl.tiles.labelled_images import LabelledTiles
from gigassl.tiles.labelled_tasks import LabelledTasks
from gigassl.tiles.pretrain.catalogue import METHOD_PRESETS, new_method
from gigassl.tiles.pretrain.checkpoints import CheckpointFile
from gigassl.tiles.pretrain.held_out import divided
from gigassl.tiles.pretrain.method import Method
from gigassl.tiles.pretrain.options import TileTrainingOptions, planned_steps
from gigassl.tiles.pretrain.train import new_fabric, pretrain_tile_encoder
from gigassl.tiles.pretrain.trained import TrainedTiles
from gigassl.tiles.records import EncoderRecord
from gigassl.tiles.weights import load_checkpoint
from gigassl.training.monitors import Monitor, Monitors, Quiet
from gigassl.versions import installed_version, shaping_versions

_MOST_WORKERS = 8


def pretrain_tiles(
    source: TiledFiles, out: Path, *, settings: PretrainTilesSettings | None = None,
    options: PretrainTilesOptions | None = None, progress: Progress | None = None,
    monitor: Monitor | None = None,
) -> PretrainTilesResult:  # fmt: skip
    """Trains a tile encoder on slides or images, without labels or with those of ``read_tasks``.

    The log (``rounds.csv``, TensorBoard, ``curves.png``, the index of the tiles, the state for
    going on after a stop, the encoder of the best round) lies in a folder beside ``out``. Equal
    slides, settings and versions give an equal file on the CPU, also after a kill.

    Args:
        source: folder or CSV of slides, folder of images, or labelled images (``read_tasks``) for
            the methods that learn from these.
        out: the ``.safetensors`` file to write.
        progress: is told of the slides that are looked at.
        monitor: is told of the training.

    Raises:
        SettingsError: input or settings that cannot be used, or another training's output.
        BusyError: another run writes the same output.
        MachineError: disk full, read-only folder, out of GPU memory.
    """
    options = options or PretrainTilesOptions()
    settings = completed(settings or PretrainTilesSettings(), options)
    kept = kept_round(options, settings)
    options, files = replace(options, keep=kept), TileEncoderFiles(out=out, keep=kept)
    fabric = new_fabric(
        settings.training, device=options.device, devices=options.devices, nodes=options.nodes
    )
    _refuse_misfit(settings, source)
    wanted: dict[str, Any] = {"settings": settings.data, "options": options.data}
    # of several processes the first one holds the lock, looks at the slides and writes
    if fabric.global_rank != 0:
        fabric.launch()
        data = found_tile_data(source, files.folder, **wanted)
        return _Run(data, files, settings=settings, options=options).carry_out(fabric, Quiet())
    with claimed(out):
        size = settings.training.batch_size
        data = tile_data(source, files.folder, fewest=size, progress=progress, **wanted)
        fabric.launch()
        run = _Run(data, files, settings=settings, options=options)
        return run.carry_out(fabric, monitor or Quiet())


def _refuse_misfit(settings: PretrainTilesSettings, source: TiledFiles) -> None:
    """Says what is wrong with network or method before slides are looked at."""
    method = settings.training.method
    uses_small = method not in METHOD_PRESETS or METHOD_PRESETS[method].views.n_small
    if settings.training.views.n_small and not uses_small:
        raise SettingsError(f"{method} has no use for small views; leave out --small-views")
    fresh, labels = begun(settings), source.labels if isinstance(source, LabelledTasks) else None
    # how many steps there are is not known yet; warnings of too few are for later
    made = new_method(
        settings.training, fresh.network, width=fresh.record.dim, steps=MANY_STEPS, labels=labels
    )
    if labels is not None and not made.wants_labels:
        raise SettingsError(
            f"method '{method}' learns without labels; give it slides or one folder of images"
        )


class _Run:
    """One training run: its network, its digest, and what it writes."""

    def __init__(
        self, data: TileData, files: TileEncoderFiles, *, settings: PretrainTilesSettings,
        options: PretrainTilesOptions,
    ) -> None:  # fmt: skip
        self.data, self.files, self.settings, self.options = data, files, settings, options
        self.begun = begun(settings)
        begun_from = "" if self.begun.record.source == "random" else self.begun.record.name
        self.made_of = {
            "method": settings.training.method,
            "settings": plain(settings.training),
            "architecture": self.begun.record.architecture,
            "begun_from": begun_from,
            "begin": digest_of_tensors(self.begun.network.state_dict()),
            "data": plain(settings.data),
            "source": data.facts(),
            "keep": options.keep,
            **({"exam": _digest_of_exam(options.exam)} if options.keep == "best" else {}),
        }
        self.digest = digest_of_settings(self.made_of)

    def carry_out(self, fabric: Fabric, monitor: Monitor) -> PretrainTilesResult:
        files = self.files
        if self._done_before():
            return PretrainTilesResult(
                out=files.out, folder=files.folder, trained=None, failures=files.failures()
            )
        method = self._method(fabric)
        if not fabric.is_global_zero:
            return self._result(self._train(method, fabric, Quiet()))
        self._begin()
        written, begin = TrainingLog(files.folder, log_layout(self.data)), time.monotonic()
        trained = self._train(method, fabric, Monitors(written, monitor))
        written.draw()
        files.note_time(time.monotonic() - begin, step=trained.steps)
        result = self._result(trained)
        files.note_failures(result.failures)
        if trained.stopped_by is not None:
            return result
        return self._saved(result, trained, method)

    def _done_before(self) -> bool:
        """Whether the output is there already.

        Raises:
            SettingsError: it is, of another training.
        """
        found = None if self.options.restart else self.files.digest()
        if found in (None, self.digest):
            return found is not None
        raise SettingsError(
            f"{self.files.out} was made with other settings or tiles; choose another -o, or train "
            "it anew with --restart"
        )

    def _begin(self) -> None:
        make_folder(self.files.folder)
        if self.options.restart:
            self.files.clear()
        self.files.note_failures(self.data.failures)

    def _method(self, fabric: Fabric) -> Method:
        training = self.settings.training
        learned, _ = divided(self.data.source, training)
        return new_method(
            training, self.begun.network, width=self.begun.record.dim,
            steps=planned_steps(training, n_tiles=learned.n_tiles),
            gather=fabric.world_size > 1, labels=self.data.labels,
        )  # fmt: skip

    def _train(self, method: Method, fabric: Fabric, monitor: Monitor) -> TrainedTiles:
        options, record = self.options, self.begun.record
        how = TileTrainingOptions(
            fabric=fabric,
            checkpoint=CheckpointFile(path=self.files.state, digest=self.digest),
            minutes=options.checkpoint_minutes,
            workers=_workers(options, fabric),
            exam=options.exam,
            best=self.files.best_weights,
            pictures=self.files.folder,
        )
        return pretrain_tile_encoder(
            self.data.source, method, settings=self.settings.training, mean=record.mean,
            std=record.std, options=how, monitor=monitor,
        )  # fmt: skip

    def _result(self, trained: TrainedTiles) -> PretrainTilesResult:
        skipped = [failure_of(file, stage="read") for file in trained.unreadable]
        return PretrainTilesResult(
            out=self.files.out,
            folder=self.files.folder,
            trained=trained,
            failures=(*self.data.failures, *skipped),
        )

    def _saved(
        self, result: PretrainTilesResult, trained: TrainedTiles, method: Method
    ) -> PretrainTilesResult:
        """Writes the encoders of the last round and of the best, as far as they are of use."""
        files, written = self.files, dict[Kept, Path]()
        best = load_checkpoint(files.best_weights) if files.best_weights.is_file() else None
        if not trained.diverged:
            last = files.path_of("last") if best is not None else files.out
            written["last"] = files.collapsed if trained.collapsed else last
            weights = method.encoder_to_keep().state_dict()
            self._save(
                written["last"], weights, kept="last", step=trained.steps,
                measured=trained.measured,
            )  # fmt: skip
        if best is not None:
            failed = trained.collapsed or trained.diverged
            written["best"] = files.logged("best") if failed else files.path_of("best")
            self._save(
                written["best"], best.tensors, kept="best", step=best.card["step"],
                measured=best.card["measured"],
            )  # fmt: skip
        if trained.diverged:  # the state stays: it is the last good one
            return replace(result, other=written.get("best"))
        files.finished(collapsed=trained.collapsed)
        out = files.collapsed if trained.collapsed else files.out
        other = next((path for path in written.values() if path != out), None)
        return replace(result, out=out, other=other)

    def _save(
        self, path: Path, weights: Mapping[str, Tensor], *, kept: Kept, step: int,
        measured: Mapping[str, float],
    ) -> None:  # fmt: skip
        settings, first = self.settings, self.begun.record
        record = replace(
            first,
            name=self.files.out.stem,
            source="file",
            repo="",
            mpp=settings.mpp,
            mpp_basis="stated" if self.data.kind == "slides" else "convention",
            bf16_error=None,
            licence=_licence(first),
            gated=False,
            url="",
            pretrained_on=self.data.pretrained_on(first),
        )
        training = {
            **self.made_of,
            "digest": self.digest,
            "kept": kept,
            "step": step,
            "held_out": dict(measured),
            "tiles_seen": step * settings.training.batch_size * settings.training.accumulate,
            "versions": {
                **shaping_versions(),
                **{name: installed_version(name) for name in ("lightly", "pytorch-lightning")},
            },
        }
        save_weights(path, weights, record=record, training=training)


def _licence(first: EncoderRecord) -> str:
    if first.source == "random":
        return "own"
    begun = f"own, begun from weights under: {first.licence}"
    return first.licence if first.licence.startswith("own") else begun


def _workers(options: PretrainTilesOptions, fabric: Fabric) -> int:
    """Processes that read tiles; on the CPU a thread does, since the network takes all cores."""
    if options.workers is not None:
        return options.workers
    if fabric.device.type == "cpu":
        return 0
    return min(_MOST_WORKERS, max(1, (os.cpu_count() or 1) // options.devices - 1))


def _digest_of_exam(exam: LabelledTiles | None) -> str | None:
    if exam is None:
        return None
    arrays = {"tiles": torch.from_numpy(exam.tiles), "labels": torch.from_numpy(exam.labels)}
    return digest_of_settings([digest_of_tensors(arrays), list(exam.groups)])
