"""Self-supervised training of a slide encoder: from a bank or bags to one ``.safetensors`` file."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from gigassl.bags.layouts import CoordsUnit
from gigassl.digests import digest_of_settings, digest_of_tensors, plain
from gigassl.errors import SettingsError
from gigassl.evaluate.contamination import PRETRAINED_ON, slides_record
from gigassl.evaluate.labels import labels_of, read_labels
from gigassl.pipeline.failures import save_failures
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.output import claimed, make_folder
from gigassl.pipeline.pretrain_data import TrainingData, training_data
from gigassl.pipeline.pretrain_result import FAILURES, PretrainResult, finite, log_folder
from gigassl.pipeline.training_log import EPOCHS, TrainingLog
from gigassl.slides.cohort import Cohort
from gigassl.tiles.pretrain.checkpoints import CheckpointFile
from gigassl.tiles.weights import load_checkpoint, reading_card
from gigassl.training.monitors import Monitor, Monitors, Quiet
from gigassl.vectors.layer4 import layer4_of
from gigassl.vectors.pretrain.settings import PretrainSettings
from gigassl.vectors.pretrain.train import Trained, TrainingOptions, new_fabric
from gigassl.vectors.pretrain.train import pretrain as train
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.slide_model import SlideEncoderRecord, SlideModel, save_slide_model
from gigassl.versions import installed_version, shaping_versions

log = logging.getLogger("gigassl")

SUFFIX, STATE = ".safetensors", "state.safetensors"
_CHECKPOINTS = 50


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Which network is trained, and what it begins as.

    Attributes:
        architecture: a name of ``SLIDE_ENCODERS``.
        options: keywords of the architecture.
        init_from: tile encoder (name or file) whose last stage ``scm`` begins as; None for random
            weights.
    """

    architecture: str = "scm"
    options: Mapping[str, Any] = field(default_factory=dict)
    init_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """How a training is carried out; none of it shapes the weights.

    Attributes:
        device, devices, nodes: "auto", "cpu" or "cuda", how many of a machine, and machines.
        labels: table with a label a slide, for kNN accuracy only.
        label_column: its column; without ``labels``, a column of the cohort's own table.
        checkpoint_every: epochs between two; None for a fiftieth of all.
        restart: train anew over what is there.
        bag_encoder, coords_unit, slide_mpp: what other tools' bags do not say.
    """

    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    labels: Path | None = None
    label_column: str | None = None
    checkpoint_every: int | None = None
    restart: bool = False
    bag_encoder: str | None = None
    coords_unit: CoordsUnit | None = None
    slide_mpp: float | None = None


def pretrain(
    source: Path | Cohort | TrainingData, out: Path, *, network: NetworkSettings | None = None,
    settings: PretrainSettings | None = None, options: PretrainOptions | None = None,
    monitor: Monitor | None = None,
) -> PretrainResult:  # fmt: skip
    """Trains a slide encoder without labels (Giga-SSL, arXiv 2212.03273).

    The log (``epochs.csv``, TensorBoard, ``curves.png``, the state for going on after a kill) lies
    in a folder beside ``out``. Equal tiles, settings and versions give an equal file on the CPU,
    also after a kill.

    Args:
        source: folder of a bank; or folder or CSV of bags, ours or other tools'; or what was read
            of them before.
        out: the ``.safetensors`` file to write.

    Raises:
        SettingsError: input or settings that cannot be used, or another training's output.
        BusyError: another run writes the same output.
        MachineError: disk full, read-only folder.
    """
    settings, options = settings or PretrainSettings(), options or PretrainOptions()
    if out.suffix != SUFFIX:
        raise SettingsError(f"slide encoders are {SUFFIX} files; got -o {out}")
    fabric = new_fabric(
        settings, device=options.device, devices=options.devices, nodes=options.nodes
    )
    # of several processes the first one holds the lock and writes
    with claimed(out) if fabric.global_rank == 0 else nullcontext():
        data = source if isinstance(source, TrainingData) else _data(source, options)
        fabric.launch()
        run = _Run(data, out, network=network or NetworkSettings(), settings=settings)
        return run.carry_out(fabric, options, monitor=monitor or Quiet())


def _data(source: Path | Cohort, options: PretrainOptions) -> TrainingData:
    wanted = RunOptions(bag_encoder=options.bag_encoder, coords_unit=options.coords_unit)
    return training_data(source, options=wanted, default_mpp=options.slide_mpp)


class _Run:
    """One training run: its network, its digest, and what it writes."""

    def __init__(
        self, data: TrainingData, out: Path, *, network: NetworkSettings, settings: PretrainSettings
    ) -> None:
        self.data, self.out, self.chosen, self.settings = data, out, network, settings
        self.folder = log_folder(out)
        self.network = _network(network, data, seed=settings.seed)
        self.made_of = {
            "settings": plain(settings),
            "network": plain(network),
            "begin": digest_of_tensors(self.network.state_dict()),
            "data": data.digest,
            "slides": len(data.store),
            "patients": len(set(data.store.patient_ids)),
        }
        self.digest = digest_of_settings(self.made_of)

    def carry_out(
        self, fabric: Fabric, options: PretrainOptions, *, monitor: Monitor
    ) -> PretrainResult:
        labels = self._labels(options)
        if self._done_before(restart=options.restart):
            return self._result(None)
        if not self.data.contiguous and self.settings.views.window == "dense":
            log.warning(
                "this bank's tiles come from all over each slide, so dense windows of it hold few "
                "true neighbours; encode it with --draw window"
            )
        if fabric.is_global_zero:
            self._begin(options)
        file = CheckpointFile(
            path=self.folder / STATE,
            digest=self.digest,
            every=options.checkpoint_every or max(1, self.settings.epochs // _CHECKPOINTS),
        )
        how = TrainingOptions(fabric=fabric, checkpoint=file, labels=labels)
        if not fabric.is_global_zero:
            return self._result(self._train(how, Quiet()))
        written = TrainingLog(self.folder)
        try:
            trained = self._train(how, Monitors(written, monitor))
        except KeyboardInterrupt:
            written.draw()
            return replace(self._result(None), interrupted=True)
        written.draw()
        return self._result(trained, saved_as=self._save(trained))

    def _train(self, how: TrainingOptions, monitor: Monitor) -> Trained:
        return train(
            self.data.store, self.network, settings=self.settings, options=how, monitor=monitor
        )

    def _labels(self, options: PretrainOptions) -> Sequence[str | None] | None:
        column, slides = options.label_column, self.data.store.slide_ids
        if options.labels is not None:
            if column is None:
                raise SettingsError(f"say which column of {options.labels}: --label-column NAME")
            found = read_labels(options.labels, column)
            return labels_of(slides, found, where=f"column '{column}' of {options.labels}")
        if column is None:
            return None
        own = {s: values[column] for s, values in self.data.labels.items() if values.get(column)}
        return labels_of(slides, own, where=f"column '{column}' of the cohort's table")

    def _done_before(self, *, restart: bool) -> bool:
        """Whether the output is there already.

        Raises:
            SettingsError: it is, of another training.
        """
        if restart or not self.out.exists():
            return False
        card = load_checkpoint(self.out).card
        with reading_card(self.out):
            if card.get("record", {}).get("training", {}).get("digest") == self.digest:
                return True
        raise SettingsError(
            f"{self.out} was made with other settings or tiles; choose another -o, or train it "
            "anew with --restart"
        )

    def _begin(self, options: PretrainOptions) -> None:
        make_folder(self.folder)
        if options.restart:
            written = (STATE, EPOCHS.table)
            for path in (self.out, self.collapsed_out, *(self.folder / name for name in written)):
                path.unlink(missing_ok=True)
        save_failures(self.data.failures, self.folder / FAILURES)

    @property
    def collapsed_out(self) -> Path:
        """Where a slide encoder goes that is of no use: nobody shall take it by mistake."""
        return self.out.with_suffix(f".collapsed{SUFFIX}")

    def _save(self, trained: Trained) -> Path:
        out = self.collapsed_out if trained.collapsed else self.out
        save_slide_model(out, self._model(trained))
        with suppress(OSError):
            (self.folder / STATE).unlink(missing_ok=True)
            if not trained.collapsed:
                self.collapsed_out.unlink(missing_ok=True)
        return out

    def _model(self, trained: Trained) -> SlideModel:
        facts, views = self.data.facts, self.settings.views
        record = SlideEncoderRecord(
            architecture=self.chosen.architecture,
            options=dict(self.chosen.options),
            dim=facts.dim,
            width=_width(self.network),
            cell=self.data.store.tile_um,
            tiles_per_view=views.tiles,
            window=views.window,
            tile_encoder=facts.encoder,
            tile_encoder_digest=facts.encoder_digest,
            mpp=facts.mpp,
            tile_um=self.data.store.tile_um,
            training={
                **self.made_of,
                "digest": self.digest,
                PRETRAINED_ON: {
                    **self.data.pretrained_on,
                    "slide_encoder": slides_record(
                        self.data.store.slide_ids, self.data.store.patient_ids
                    ),
                },
                "epochs": trained.epochs,
                "geometry": finite(asdict(trained.geometry)),
                "versions": {
                    **shaping_versions(),
                    **{name: installed_version(name) for name in ("lightly", "pytorch-lightning")},
                },
            },
        )
        return SlideModel(record=record, network=self.network, reduction=self.data.reduction)

    def _result(self, trained: Trained | None, *, saved_as: Path | None = None) -> PretrainResult:
        return PretrainResult(
            out=saved_as or self.out,
            folder=self.folder,
            trained=trained,
            failures=tuple(self.data.failures),
        )


def _network(chosen: NetworkSettings, data: TrainingData, *, seed: int) -> nn.Module:
    network = new_network(
        chosen.architecture, dim=data.store.dim, cell=data.store.tile_um, seed=seed,
        options=chosen.options,
    )  # fmt: skip
    if chosen.init_from is None:
        return network
    if chosen.architecture != "scm":
        raise SettingsError(
            f"--init-from gives the last stage of a ResNet18 to the slide encoder scm; "
            f"'{chosen.architecture}' has no such stage"
        )
    if data.store.dim != 256:
        raise SettingsError(
            f"the last stage of a ResNet18 takes 256 numbers a tile; these have {data.store.dim}"
        )
    network.load_state_dict(layer4_of(chosen.init_from))
    return network


def _width(network: nn.Module) -> int:
    width = network.width
    if not isinstance(width, int):
        raise SettingsError(f"{type(network).__name__}.width must be the length of its vectors")
    return width
