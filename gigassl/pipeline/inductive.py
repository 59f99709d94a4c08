"""Inductive evaluation: slide encoders pretrained inside each training fold, and probed there.

Self-supervised training sees no labels, so it may see the test slides, and published numbers rest
on that. A claim that must not: here each slide encoder learns from the training slides of its fold
only, embeds the test slides as it would those of another hospital, and no row has been seen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from gigassl.digests import digest_of_settings, plain
from gigassl.errors import GigasslError, SettingsError
from gigassl.evaluate.comparison import CompareSettings, compare
from gigassl.evaluate.contamination import PRETRAINED_ON, contamination, seen_slides
from gigassl.evaluate.mean_mlp import mean_mlp
from gigassl.evaluate.predictions import Predictions, joined, save_predictions
from gigassl.evaluate.pretraining_sets import PretrainingSet, Scope, pretraining_sets
from gigassl.evaluate.probes import DEFAULT_METHODS, ProbeSettings, run_probe
from gigassl.evaluate.task import rows_of
from gigassl.evaluate.vector_set import Control, VectorSet
from gigassl.files import written_whole
from gigassl.pipeline.controls import on_reduced, vector_of
from gigassl.pipeline.evaluation import Question, TaskOptions, question, splits_beside
from gigassl.pipeline.inductive_result import InductiveResult
from gigassl.pipeline.jobs import provenance_of
from gigassl.pipeline.output import claimed, make_folder
from gigassl.pipeline.pretrain import SUFFIX, NetworkSettings, PretrainOptions, pretrain
from gigassl.pipeline.pretrain_data import TrainingData
from gigassl.pipeline.progress import Progress, Silent
from gigassl.training.monitors import Monitor
from gigassl.vectors.ensemble import EnsembleSettings
from gigassl.vectors.pooling import l2_normalised, pool
from gigassl.vectors.pretrain.batches import plan_batches
from gigassl.vectors.pretrain.settings import PretrainSettings
from gigassl.vectors.slide_model import SlideModel, load_slide_model
from gigassl.vectors.store_parts import bags_of_slide, subset
from gigassl.vectors.tile_store import TileStore

_POOLED: tuple[Control, ...] = ("mean", "mean+std")

Vectors = Float32[np.ndarray, "slide width"]


@dataclass(frozen=True, kw_only=True)
class InductiveSettings:
    """What is pretrained in each fold, and how its vectors are read.

    Attributes:
        network: the slide encoder.
        pretrain: its training, the same in each fold.
        views: how it looks at a slide.
        probe: what reads the vectors; None is the usual one for the kind of task.
        scope: whether it learns from a fold's whole training part, also where only a few of its
            slides are labelled ("fold"), or from the labelled slides alone ("split").
    """

    network: NetworkSettings = field(default_factory=NetworkSettings)
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    views: EnsembleSettings = field(default_factory=EnsembleSettings)
    probe: ProbeSettings | None = None
    scope: Scope = "fold"


@dataclass(frozen=True, kw_only=True)
class InductiveOptions:
    """How it is carried out.

    Attributes:
        training: devices, checkpoints.
        monitor: is told of each training.
        progress: is told of each slide that is embedded.
    """

    training: PretrainOptions = field(default_factory=PretrainOptions)
    monitor: Monitor | None = None
    progress: Progress = field(default_factory=Silent)


def inductive(
    data: TrainingData, out: Path, *, task: TaskOptions,
    settings: InductiveSettings | None = None, options: InductiveOptions | None = None,
) -> InductiveResult:  # fmt: skip
    """Pretrains a slide encoder in every training fold and probes it on the test slides.

    The mean, mean + deviation, and mean + MLP of the tiles stand beside it on the same splits.
    Trained slide encoders and their vectors are kept in ``<out>.parts/``: an interrupted run goes
    on where it was, and another probe trains nothing anew.

    Args:
        data: a bank, or bags.
        out: the predictions to write (``.parquet``); splits go to ``<out>.splits/``.
        task: labels and splits.
        settings: of training and probe.
        options: how it is carried out.

    Raises:
        SettingsError: labels, splits or settings that cannot be used, before anything is trained.
        GigasslError: a training whose vectors collapsed.
        BusyError, MachineError: as ``pretrain``.
    """
    settings, options = settings or InductiveSettings(), options or InductiveOptions()
    if out.suffix != ".parquet":
        raise SettingsError(f"-o names the predictions to write and ends in .parquet; got {out}")
    if task.patients != "none":
        raise SettingsError("an inductive evaluation has one row a slide; leave --patients away")
    store = data.store
    asked = question(task, available=dict(zip(store.slide_ids, store.patient_ids, strict=True)))
    with claimed(out):
        run = _Run(data, out, asked=asked, settings=settings)
        predictions = run.carry_out(options)
        asked.save_splits(splits_beside(out))
        save_predictions(predictions, out)
    return InductiveResult(
        out=out,
        question=asked,
        comparison=compare([predictions], settings=CompareSettings()),
        n_trained=len(run.sets),
        seen=run.said_of_seen(),
        failures=tuple(data.failures),
    )


class _Run:
    """One evaluation: which slide encoders it needs, and what they say."""

    def __init__(
        self, data: TrainingData, out: Path, *, asked: Question, settings: InductiveSettings
    ) -> None:
        self.data, self.settings = data, settings
        self.probe = settings.probe or ProbeSettings(method=DEFAULT_METHODS[asked.task.kind])
        self.probe.refuse(asked.task.kind)
        self.task, self.splits = asked.task, asked.splits
        self.parts = out.with_name(f"{out.name}.parts")
        self.place = rows_of(data.store.slide_ids, self.task.slide_ids)
        self.sets = pretraining_sets(self.task, self.splits, scope=settings.scope)
        for each in self.sets:
            self._check(each)

    @property
    def name(self) -> str:
        """What tables call the method."""
        return f"{self.settings.network.architecture}, pretrained in each fold"

    def carry_out(self, options: InductiveOptions) -> Predictions:
        make_folder(self.parts)
        tables: list[tuple[int, pa.Table]] = []
        for each in self.sets:
            vectors = self._vectors(each, options)
            tables += zip(each.splits, self._probed(vectors, each), strict=True)
        own = [table for _, table in sorted(tables, key=lambda pair: pair[0])]
        pooled = [self._pooled(method) for method in _POOLED]
        controls = [run_probe(self.task, each, self.splits, settings=self.probe) for each in pooled]
        controls.append(
            mean_mlp(self.task, pooled[0], self.splits, seed=self.settings.pretrain.seed)
        )
        return joined(self.task.kind, [*own, *controls], provenance=self._provenance())

    def _check(self, each: PretrainingSet) -> None:
        """Refuses, before the first training, a set too small, or one that would see a test slide.

        Raises:
            SettingsError: too small.
        """
        for number in each.splits:
            if np.isin(self.splits[number].test, each.rows).any():
                raise AssertionError(f"{self.splits[number].title}: a test slide would be seen")
        try:
            plan_batches(
                [self.task.patient_ids[row] for row in each.rows],
                batch_size=self.settings.pretrain.batch_size,
            )
        except SettingsError as error:
            raise SettingsError(
                f"{self.splits[each.splits[0]].title}: {error}; pretrain on the fold's whole "
                "training part instead (--pretrain-on fold)"
            ) from error

    def _vectors(self, each: PretrainingSet, options: InductiveOptions) -> VectorSet:
        """Vectors of all slides of the task, by a slide encoder that saw these."""
        model = self._trained(each, options)
        made_of = {
            "model": model.digest,
            "views": plain(self.settings.views),
            "data": self.data.digest,
            "slides": self.task.slide_ids,
        }
        digest = digest_of_settings(made_of)
        file = self.parts / f"{digest}.npy"
        if file.is_file():
            vectors: Vectors = np.load(file)
        else:
            vectors = self._embedded(model, options.progress)
            with written_whole(file) as part, part.open("wb") as handle:
                np.save(handle, vectors)
        return VectorSet(
            name=self.name,
            slide_ids=self.task.slide_ids,
            vectors=vectors,
            first_block=getattr(model.network, "composition_width", None),
            seen=self._seen(model.record.training[PRETRAINED_ON]),
            digest=digest,
        )

    def _trained(self, each: PretrainingSet, options: InductiveOptions) -> SlideModel:
        names = [self.task.slide_ids[row] for row in each.rows]
        digest = digest_of_settings({"data": self.data.digest, "slides": names})
        chosen = {"settings": self.settings.pretrain, "network": self.settings.network}
        name = digest_of_settings({"data": digest, **chosen})
        done = pretrain(
            replace(self.data, store=subset(self.data.store, self.place[each.rows]), digest=digest),
            self.parts / f"{name}{SUFFIX}",
            network=self.settings.network,
            settings=self.settings.pretrain,
            options=options.training,
            monitor=options.monitor,
        )
        if done.interrupted:
            raise KeyboardInterrupt
        if done.alarm():
            raise GigasslError(f"{self.splits[each.splits[0]].title}: {done.alarm()}")
        return load_slide_model(done.out)

    def _embedded(self, model: SlideModel, progress: Progress) -> Vectors:
        if self.data.reduction is not None:  # the features of a bank are reduced already
            model = on_reduced(model)
        progress.started(len(self.task))
        rows = []
        for slide, bags in _each_slide(self.data.store, self.place):
            rows.append(vector_of(model, bags, views=self.settings.views))
            progress.tiles_done(sum(len(bag) for bag in bags))
            progress.slide_done(self.data.store.slide_ids[slide], failed=False)
        return np.stack(rows)

    def _pooled(self, method: Control) -> VectorSet:
        rows = [
            l2_normalised(pool(np.concatenate([bag.features for bag in bags]), method=method))
            for _, bags in _each_slide(self.data.store, self.place)
        ]
        return VectorSet(
            name=f"{self.name}, {method}",
            slide_ids=self.task.slide_ids,
            vectors=np.stack(rows),
            control=method,
            control_of=self.name,
            seen=self._seen(self.data.pretrained_on),
            digest=digest_of_settings({"data": self.data.digest, "method": method}),
        )

    def _probed(self, vectors: VectorSet, each: PretrainingSet) -> list[pa.Table]:
        """The rows of each split, one table a split."""
        return [
            run_probe(self.task, vectors, [self.splits[number]], settings=self.probe)
            for number in each.splits
        ]

    def _seen(self, pretrained_on: Mapping[str, Any]) -> frozenset[str]:
        facts = {"settings": self._encoders(), PRETRAINED_ON: pretrained_on}
        return seen_slides(facts, slide_ids=self.task.slide_ids)

    def _encoders(self) -> dict[str, Any]:
        facts, network = self.data.facts, self.settings.network
        return {
            "slide_encoder": {"architecture": network.architecture},
            "tile_encoder": {"name": facts.encoder, "weights": facts.encoder_digest},
        }

    def _provenance(self) -> dict[str, Any]:
        settings = {**self._encoders(), "inductive": plain(self.settings), "data": self.data.digest}
        return provenance_of(settings, pretrained_on=self.data.pretrained_on)

    def said_of_seen(self) -> Sequence[str]:
        """Sentences on the test slides that encoders saw."""
        tested = np.unique(np.concatenate([split.test for split in self.splits]))
        part = self.task.rows(tested)
        settings = {**self._encoders(), "slide_encoder": "mean"}
        return (
            "no test slide was seen by the slide encoder of its fold",
            *contamination(
                {"settings": settings, PRETRAINED_ON: self.data.pretrained_on},
                slide_ids=part.slide_ids, patient_ids=part.patient_ids,
            ),
        )  # fmt: skip


def _each_slide(
    store: TileStore, place: Int64[np.ndarray, " slide"]
) -> Iterator[tuple[int, Sequence[Any]]]:
    for slide in place.tolist():
        yield slide, bags_of_slide(store, slide)
