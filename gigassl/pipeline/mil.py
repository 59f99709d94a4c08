"""MIL models on bags or a bank: from labels to a table of predictions, resumable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gigassl.bags.layouts import CoordsUnit
from gigassl.digests import digest_of_settings, plain
from gigassl.errors import SettingsError
from gigassl.evaluate.mil.bags import BagReader
from gigassl.evaluate.mil.crops import settled
from gigassl.evaluate.mil.models import ON_CROPS
from gigassl.evaluate.mil.run import check_model, predict_split, reader_of, settings_for, stored
from gigassl.evaluate.mil.saved import saved_of
from gigassl.evaluate.mil.settings import MilSettings
from gigassl.evaluate.mil.training import Monitor, Quiet
from gigassl.evaluate.patients import patient_predictions
from gigassl.evaluate.predictions import Predictions, joined, open_predictions, save_predictions
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Task
from gigassl.pipeline.evaluation import Question, TaskOptions, question, splits_beside
from gigassl.pipeline.failures import failures_path, save_failures
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.mil_models import KeptModels, models_beside
from gigassl.pipeline.mil_parts import MilParts, digest_of_split, digest_of_task, facts_of
from gigassl.pipeline.mil_result import MilResult
from gigassl.pipeline.output import claimed
from gigassl.pipeline.pretrain_data import TrainingData, training_data
from gigassl.slides.cohort import Cohort
from gigassl.vectors.tile_store import TileStore
from gigassl.versions import shaping_versions


@dataclass(frozen=True, kw_only=True)
class MilOptions:
    """Which models are trained, and how.

    Attributes:
        models: names of ``MIL_MODELS``.
        changes: fields of ``MilSettings`` that differ from the models' presets.
        crop: side of the crops of ``nic-cnn`` in tiles; None: by the largest slide, 400 at most.
        name: of the method in the table, such as that of the encoder; of several models, what
            their names begin with. "" for the models' own.
        keep_models: write each model to ``<out>.models/`` too; ``load_mil_model`` reads them.
        restart: train anew over what is there.
        bag_encoder, coords_unit, slide_mpp: what other tools' bags do not say.
    """

    models: Sequence[str]
    changes: Mapping[str, Any] = field(default_factory=dict)
    crop: int | None = None
    name: str = ""
    keep_models: bool = False
    restart: bool = False
    bag_encoder: str | None = None
    coords_unit: CoordsUnit | None = None
    slide_mpp: float | None = None

    @property
    def on_grid(self) -> bool:
        """Whether a model wants compressed slides."""
        return any(name in ON_CROPS for name in self.models)

    def method(self, model: str) -> str:
        """What the table calls a model."""
        if not self.name:
            return model
        return self.name if len(self.models) == 1 else f"{self.name} {model}"


def open_bags(
    source: Path | Cohort, *, options: RunOptions | None = None, default_mpp: float | None = None
) -> TileStore:
    """The tiles of a bank (which stays on disk), or of a collection of bags.

    Args:
        source: folder of a bank; or folder or CSV of bags, ours or other tools'.
        options: for bags: names and units that other tools' files do not say.
        default_mpp: level-0 µm/px of slides of which neither bag nor table says it.

    Raises:
        SettingsError: neither of the two, or bags of different kinds.
    """
    return training_data(source, options=options, default_mpp=default_mpp).store


def mil(
    source: Path | Cohort | TrainingData, out: Path, *, options: TaskOptions, models: MilOptions,
    monitor: Monitor | None = None,
) -> MilResult:  # fmt: skip
    """Trains MIL models on each split of a task, and writes what they predict of its test slides.

    Each finished model is kept in ``<out>.parts/``: a killed run goes on from there. The splits lie
    in ``<out>.splits/``, for the next method. Equal bags, labels, settings and versions give an
    equal file on the CPU; on another number of threads too, save that TransMIL rounds apart there.

    Args:
        source: folder of a bank; or folder or CSV of bags, ours or other tools'; or such that are
            open already.
        out: the table of predictions to write.
        options: labels and splits.
        models: which are trained, and how.

    Raises:
        SettingsError: labels, splits, bags or settings that cannot be used, or another run's
            output; before any training.
        BusyError: another run writes the same output.
        MachineError: disk full, read-only folder.
    """
    if options.patients == "vectors":
        raise SettingsError(
            "bags have no mean vector a patient; ask for --patients predictions, the mean of what "
            "is predicted of a patient's slides"
        )
    with claimed(out):
        wanted = RunOptions(bag_encoder=models.bag_encoder, coords_unit=models.coords_unit)
        data = (
            source
            if isinstance(source, TrainingData)
            else training_data(
                source, options=wanted, default_mpp=models.slide_mpp, on_grid=models.on_grid
            )
        )
        store = data.store
        available = dict(zip(store.slide_ids, store.patient_ids, strict=True))
        asked = question(options, available=available)
        return _Run(data, out, asked=asked, options=options, models=models).carry_out(
            monitor or Quiet()
        )


class _Run:
    """One run: what is asked, by which models, and what is done of it."""

    def __init__(
        self, data: TrainingData, out: Path, *, asked: Question, options: TaskOptions,
        models: MilOptions,
    ) -> None:  # fmt: skip
        self.data, self.out, self.asked, self.models = data, out, asked, models
        self.by_patient = options.patients == "predictions"
        self.settings = _all_settings(asked.task, models, seed=options.split.seed, data=data)
        for settings in self.settings:
            check_model(asked.task, settings, dim=data.store.dim)
        self.made_of = {
            "bags": data.digest,
            "task": digest_of_task(asked.task),
            "versions": shaping_versions(),
        }
        self.parts = MilParts(
            folder=out.with_name(f"{out.name}.parts"),
            kind=asked.task.kind,
            digest=digest_of_settings(self.made_of),
        )
        self.kept = KeptModels(folder=models_beside(out)) if models.keep_models else None
        self.n_new = 0

    def carry_out(self, monitor: Monitor) -> MilResult:
        """Fits what is missing and writes the table."""
        before = self._done_before()
        if before is not None:
            return self._result(before, n_reused=self.n_fits)
        if self.models.restart:
            self.parts.clear()
        found = self._found()
        monitor.started(self.n_fits, n_done=len(found))
        try:
            parts = self._fit_rest(found, monitor)
        except KeyboardInterrupt:
            return self._result(None, n_reused=len(found))
        predictions = joined(
            self.asked.task.kind,
            [part.data for part in parts],
            provenance={**self.provenance(), "fits": [dict(part.provenance) for part in parts]},
        )
        if self.by_patient:
            predictions = patient_predictions(predictions)
        self.asked.save_splits(splits_beside(self.out))
        save_failures(self.data.failures, failures_path(self.out))
        save_predictions(predictions, self.out)
        self.parts.clear()
        return self._result(predictions, n_reused=len(found))

    @property
    def n_fits(self) -> int:
        """Number of models, over all splits."""
        return len(self.settings) * len(self.asked.splits)

    def provenance(self) -> dict[str, Any]:
        """What the predictions are made of."""
        return {
            "command": "mil",
            **self.made_of,
            "settings": [plain(settings) for settings in self.settings],
            "methods": [self.models.method(settings.model) for settings in self.settings],
            "splits": [digest_of_split(split) for split in self.asked.splits],
            "by_patient": self.by_patient,
            "tile_encoder": self.data.facts.encoder,
            "tile_encoder_digest": self.data.facts.encoder_digest,
        }

    def _done_before(self) -> Predictions | None:
        """The output, where it is there already and holds what is asked, with kept models.

        Raises:
            SettingsError: it is there, of another run.
        """
        if self.models.restart or not self.out.exists():
            return None
        earlier = open_predictions(self.out)
        known = {name: earlier.provenance.get(name) for name in self.provenance()}
        if known == plain(self.provenance()):
            return earlier if all(self._is_kept(*each) for each in self._plan()) else None
        raise SettingsError(
            f"{self.out} was made with other bags, labels, splits or settings; choose another -o, "
            "or make it anew with --restart"
        )

    def _plan(self) -> list[tuple[MilSettings, Split]]:
        return [(settings, split) for settings in self.settings for split in self.asked.splits]

    def _found(self) -> dict[Path, Predictions]:
        found = {
            self._part(*each): self.parts.found(self._part(*each))
            for each in self._plan()
            if self._is_kept(*each)
        }
        return {path: part for path, part in found.items() if part is not None}

    def _part(self, settings: MilSettings, split: Split) -> Path:
        return self.parts.path(settings, split, method=self.models.method(settings.model))

    def _is_kept(self, settings: MilSettings, split: Split) -> bool:
        """Whether its model is there, where models are to be kept."""
        method, run = self.models.method(settings.model), self._part(settings, split).stem
        return self.kept is None or self.kept.holds(method, split, run=run)

    def _fit_rest(self, found: Mapping[Path, Predictions], monitor: Monitor) -> list[Predictions]:
        parts, reader = [], None
        for settings, split in self._plan():
            part = found.get(self._part(settings, split))
            if part is None:
                reader = reader or reader_of(
                    self.asked.task, self.data.store, device=settings.device
                )
                part = self._fit(settings, split, reader, monitor=monitor)
                monitor.fitted(f"{settings.model}, {split.title}")
            parts.append(part)
        return parts

    def _fit(
        self, settings: MilSettings, split: Split, reader: BagReader, *, monitor: Monitor
    ) -> Predictions:
        path, method = self._part(settings, split), self.models.method(settings.model)
        done = predict_split(
            self.asked.task, split, reader, settings=settings, name=method, monitor=monitor
        )
        facts = facts_of(done.fitted, settings.model, split)
        if self.kept is not None:  # before the part, which says that all is done
            made = {**facts, "run": path.stem, "split_digest": digest_of_split(split)}
            saved = saved_of(
                done.fitted, split, method=method, settings=settings, made=made,
                tiles=plain(self.data.facts),
            )  # fmt: skip
            self.kept.keep(saved, split)
        part = self.parts.commit(path, rows=done.rows, facts=facts)
        self.n_new += 1
        return part

    def _result(self, predictions: Predictions | None, *, n_reused: int) -> MilResult:
        return MilResult(
            out=self.out,
            predictions=predictions,
            question=self.asked,
            n_new=self.n_new,
            n_reused=n_reused,
            failures=tuple(self.data.failures),
            models=None if self.kept is None else self.kept.folder,
        )


def _all_settings(
    task: Task, models: MilOptions, *, seed: int, data: TrainingData
) -> list[MilSettings]:
    if not models.models or len(set(models.models)) != len(models.models):
        raise SettingsError(f"name at least one MIL model, each once; got {list(models.models)}")
    if models.crop is not None and not models.on_grid:
        raise SettingsError(
            f"only {', '.join(ON_CROPS)} sees crops; got a crop of {models.crop} for "
            f"{', '.join(models.models)}"
        )
    store, found = stored(task, data.store), list[MilSettings]()
    for name in models.models:
        settings = replace(settings_for(name, task.kind), **{"seed": seed, **models.changes})
        if models.crop is not None and name in ON_CROPS:
            settings = replace(settings, options={"crop": models.crop, **settings.options})
        found.append(settled(settings, store))
    return found
