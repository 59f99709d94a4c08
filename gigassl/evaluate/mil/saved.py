"""Saved MIL models: the model of one split with all that it needs elsewhere, as one file."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64, Int64
from numpy import ndarray
from torch import Tensor, nn

from gigassl.digests import plain
from gigassl.errors import SettingsError
from gigassl.evaluate.mil.bags import BagReader, Standard
from gigassl.evaluate.mil.crops import Reader, reader_for
from gigassl.evaluate.mil.losses import Scale, output_of
from gigassl.evaluate.mil.models import new_model
from gigassl.evaluate.mil.scoring import scores_of
from gigassl.evaluate.mil.settings import MilSettings
from gigassl.evaluate.mil.training import FittedMil
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Kind
from gigassl.tiles.weights import Checkpoint, load_checkpoint, reading_card, save_checkpoint
from gigassl.vectors.tile_store import TileStore

KIND, VERSION = "mil-model", 1
_NETWORK = "network."


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What a model learned to say.

    Attributes:
        name: of the task.
        kind: of the task.
        classes: names in order; empty unless classification.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedMil:
    """A MIL model that learned from the training slides of one split.

    Attributes:
        method: what tables of predictions call it.
        settings: that it was trained with; ``settings.model`` is its name in ``MIL_MODELS``.
        aim: what it learned to say.
        model: in evaluation mode, on the CPU.
        dim: width of the tile features that it takes.
        scale: of regression values.
        standard: what features are brought to before the model sees them; None as they are.
        precision: of the network's arithmetic.
        split: "scheme", "train_size", "draw" and "fold" as in tables of predictions.
        learned: slides that it learned from or that early stopping watched.
        patients: of those slides.
        tested: slides of the split's test side.
        tiles: of training: "encoder", "encoder_digest", "mpp", "tile_um"; {} where not known.
        made: how training went, JSON-ready.
    """

    method: str
    settings: MilSettings
    aim: Aim
    model: nn.Module
    dim: int
    scale: Scale
    standard: Standard | None
    precision: torch.dtype
    split: Mapping[str, Any]
    learned: frozenset[str]
    patients: frozenset[str]
    tested: frozenset[str]
    tiles: Mapping[str, Any]
    made: Mapping[str, Any]

    def saw(self, slide_id: str, patient_id: str | None = None) -> bool:
        """Whether it learned from a slide, or from another one of the patient."""
        return slide_id in self.learned or patient_id in self.patients

    def reader(self, store: TileStore) -> Reader:
        """A reader of a store's slides that gives bags as the model takes them, on the CPU.

        Raises:
            SettingsError: tile features of another width; or a model that wants compressed slides.
        """
        if store.dim != self.dim:
            raise SettingsError(
                f"the model learned from tile features of {self.dim} numbers; these have "
                f"{store.dim}. Encode the slides with {self.tiles.get('encoder', 'its encoder')}"
            )
        bags = BagReader(store=store, device=torch.device("cpu"), standard=self.standard)
        return reader_for(self.settings, bags)

    def predict(
        self, reader: Reader, slides: Int64[ndarray, " slide"]
    ) -> Float64[ndarray, "slide output"]:
        """Probabilities, values or risks of some slides of a store.

        Args:
            reader: of the store, as ``reader`` makes it.
            slides: numbers of the store's slides.
        """
        scores = scores_of(
            self.model, reader, slides.tolist(), precision=self.precision, kind=self.aim.kind
        )
        return output_of(scores, self.aim, scale=self.scale)


def saved_of(
    fitted: FittedMil, split: Split, *, method: str, settings: MilSettings,
    tiles: Mapping[str, Any], made: Mapping[str, Any],
) -> SavedMil:  # fmt: skip
    """What is kept of a trained model.

    Args:
        fitted: the model.
        split: that it was trained on.
        method: what tables call it.
        settings: that it was trained with.
        tiles: "encoder", "encoder_digest", "mpp" and "tile_um" of the bags.
        made: JSON-ready record of how training went.
    """
    task = fitted.task
    learned = [*fitted.train.tolist(), *fitted.val.tolist()]
    return SavedMil(
        method=method,
        settings=settings,
        aim=Aim(name=task.name, kind=task.kind, classes=task.classes),
        model=fitted.model,
        dim=fitted.reader.store.dim,
        scale=fitted.scale,
        standard=fitted.reader.standard,
        precision=fitted.precision,
        split={
            "scheme": split.scheme, "train_size": split.train_size, "draw": split.draw,
            "fold": split.fold,
        },
        learned=frozenset(task.slide_ids[row] for row in learned),
        patients=frozenset(task.patient_ids[row] for row in learned),
        tested=frozenset(task.slide_ids[row] for row in split.test.tolist()),
        tiles=tiles,
        made=made,
    )  # fmt: skip


def save_mil_model(saved: SavedMil, path: Path) -> None:
    """Writes ``.safetensors``, whole or not at all; everything but the weights is its model card.

    Raises:
        MachineError: disk full, read-only or missing folder.
    """
    card = {
        "kind": KIND,
        "version": VERSION,
        "method": saved.method,
        "settings": plain(saved.settings),
        "task": plain(saved.aim),
        "dim": saved.dim,
        "scale": plain(saved.scale),
        "precision": str(saved.precision).removeprefix("torch."),
        "split": dict(saved.split),
        "slides": {"learned": sorted(saved.learned), "tested": sorted(saved.tested)},
        "patients": sorted(saved.patients),
        "tiles": dict(saved.tiles),
        "made": dict(saved.made),
    }
    tensors = {f"{_NETWORK}{name}": each for name, each in saved.model.state_dict().items()}
    if saved.standard is not None:
        tensors["standard.mean"] = saved.standard.mean
        tensors["standard.factor"] = saved.standard.factor
    save_checkpoint(path, tensors, card=card)


def load_mil_model(path: Path) -> SavedMil:
    """Reads what ``save_mil_model`` wrote; on the CPU it predicts what it did, to the bit.

    Raises:
        SettingsError: no such file, no MIL model, of a newer version, or weights that do not fit.
    """
    if path.is_file() and path.suffix != ".safetensors":
        raise SettingsError(f"{path} is no MIL model of ours; those are .safetensors files")
    checkpoint = load_checkpoint(path)
    checkpoint.expect(
        KIND, VERSION, path=path,
        otherwise="is no MIL model; make one with `gigassl mil --keep-models`",
    )  # fmt: skip
    with reading_card(path):
        return _saved_of_file(checkpoint)


def _saved_of_file(checkpoint: Checkpoint) -> SavedMil:
    card = checkpoint.card
    settings = _settings(card["settings"])
    task = card["task"]
    aim = Aim(name=task["name"], kind=task["kind"], classes=tuple(task["classes"]))
    model = new_model(settings.model, aim, dim=card["dim"], seed=0, options=settings.options)
    _fill(model, checkpoint.tensors)
    return SavedMil(
        method=card["method"],
        settings=settings,
        aim=aim,
        model=model.eval(),
        dim=card["dim"],
        scale=Scale(**card["scale"]),
        standard=_standard(checkpoint.tensors),
        precision=getattr(torch, card["precision"]),
        split=card["split"],
        learned=frozenset(card["slides"]["learned"]),
        patients=frozenset(card["patients"]),
        tested=frozenset(card["slides"]["tested"]),
        tiles=card["tiles"],
        made=card["made"],
    )


def _settings(values: Mapping[str, Any]) -> MilSettings:
    known = {each.name for each in fields(MilSettings)}
    return MilSettings(**{name: value for name, value in values.items() if name in known})


def _fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    weights = {
        name.removeprefix(_NETWORK): each
        for name, each in tensors.items()
        if name.startswith(_NETWORK)
    }
    model.load_state_dict(weights)


def _standard(tensors: Mapping[str, Tensor]) -> Standard | None:
    if "standard.mean" not in tensors:
        return None
    return Standard(mean=tensors["standard.mean"], factor=tensors["standard.factor"])
