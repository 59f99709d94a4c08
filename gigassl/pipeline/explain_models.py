"""Models that can be explained: probes on slide vectors and MIL models, and which for a slide."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from gigassl.bags.bag import Bag
from gigassl.errors import SettingsError, SlideError, unknown_name
from gigassl.evaluate.explain.explanation import Explanation
from gigassl.evaluate.explain.grad_cam import explain_crops
from gigassl.evaluate.explain.linear import explain_pooled, readout_of
from gigassl.evaluate.explain.mil import asked_of, explain_bag
from gigassl.evaluate.explain.views import explain_views
from gigassl.evaluate.frozen import KIND as PROBE
from gigassl.evaluate.frozen import FrozenProbe, load_frozen
from gigassl.evaluate.mil.crops import CropReader, Reader
from gigassl.evaluate.mil.grid_cnn import GridCnn
from gigassl.evaluate.mil.models import ON_CROPS
from gigassl.evaluate.mil.saved import KIND as MIL
from gigassl.evaluate.mil.saved import load_mil_model
from gigassl.evaluate.task import Kind
from gigassl.tiles.weights import load_checkpoint
from gigassl.vectors.ensemble import EnsembleSettings, embed_bag
from gigassl.vectors.fitting import facts_of_bag, misfit
from gigassl.vectors.pooling import POOLINGS, l2_normalised, pool
from gigassl.vectors.slide_model import SlideModel, load_slide_model
from gigassl.vectors.tile_store import store_of_bags

SUFFIX = ".safetensors"


@runtime_checkable
class Explainable(Protocol):
    """A model whose answers can be traced to tiles.

    Attributes:
        name: of its file, without the suffix.
        method: what it is; models of one method differ in what they learned from.
        digest: of its file, and of a slide encoder before it.
        kind, classes: of its task.
        n_learned: number of slides that it learned from.
        on_crops: whether it takes the turned variants of a bag.
    """

    name: str
    method: str
    digest: str
    kind: Kind
    classes: tuple[str, ...]
    n_learned: int
    on_crops: bool

    def saw(self, slide_id: str, patient_id: str) -> bool:
        """Whether it learned from the slide, or from another one of the patient."""

    def tested(self, slide_id: str) -> bool:
        """Whether the slide stood on the test side of its split, as far as is known."""

    def says(self, bag: Bag) -> Float64[np.ndarray, " answer"]:
        """Probabilities of the classes, the value or the risk.

        Raises:
            SlideError: a bag of other tiles.
        """

    def explain(self, bag: Bag, *, number: int) -> Explanation:
        """Scores of the bag's tiles for a class (0 for a value or a risk)."""


class ExplainableProbe:
    """A frozen probe with what makes its vectors; attributes as of ``Explainable``."""

    def __init__(self, path: Path, *, slide_encoder: SlideModel | None) -> None:
        frozen = load_frozen(path)
        readout_of(frozen.probe, number=0)  # refuses a probe that is not linear
        self.encoder, self.views = encoder_of(frozen, given=slide_encoder)
        learned = "" if isinstance(self.encoder, str) else self.encoder.digest
        self.name, self.frozen, self.digest = path.stem, frozen, f"{_digest(path)}{learned}"
        self.method = f"{frozen.vectors['name']} · {frozen.probe.method}"
        self.kind: Kind = frozen.kind
        self.classes, self.n_learned, self.on_crops = frozen.classes, len(frozen.slides), False

    def saw(self, slide_id: str, patient_id: str) -> bool:
        """Whether it learned from the slide or the patient."""
        return slide_id in self.frozen.slides or patient_id in self.frozen.patients

    def tested(self, slide_id: str) -> bool:
        """A probe does not say."""
        return False

    def says(self, bag: Bag) -> Float64[np.ndarray, " answer"]:
        """Calibrated probabilities, the value or the risk."""
        if isinstance(self.encoder, str):
            _refuse_other_tiles(bag, learned_from=_tile_encoder(self.frozen))
            vector = l2_normalised(pool(bag.features, method=self.encoder))
        else:
            differs = misfit(self.encoder, facts_of_bag(bag))
            if differs:
                raise SlideError(differs, stage="bag")
            vector = embed_bag(self.encoder, bag, settings=self.views).vector
        said = self.frozen.calibrated(self.frozen.probe.predict(vector[None]))
        answer: Float64[np.ndarray, " answer"] = said[0]
        return answer

    def explain(self, bag: Bag, *, number: int) -> Explanation:
        """Contribution of each tile to the logit, before calibration."""
        readout = readout_of(self.frozen.probe, number=number)
        if isinstance(self.encoder, str):
            return explain_pooled(bag.features, pooling=self.encoder, readout=readout)
        return explain_views(self.encoder, bag, readout=readout, views=self.views)


class ExplainableMil:
    """A MIL model of one split; attributes as of ``Explainable``."""

    def __init__(self, path: Path) -> None:
        saved = load_mil_model(path)
        self.name, self.saved, self.digest = path.stem, saved, _digest(path)
        self.method, self.kind, self.classes = saved.method, saved.aim.kind, saved.aim.classes
        self.n_learned = len(saved.learned)
        self.on_crops = saved.settings.model in ON_CROPS

    def saw(self, slide_id: str, patient_id: str) -> bool:
        """Whether it learned from the slide or the patient."""
        return self.saved.saw(slide_id, patient_id)

    def tested(self, slide_id: str) -> bool:
        """Whether the slide stood on the test side of its split."""
        return slide_id in self.saved.tested

    def says(self, bag: Bag) -> Float64[np.ndarray, " answer"]:
        """Probabilities, the value or the risk."""
        _refuse_other_tiles(bag, learned_from=str(self.saved.tiles.get("encoder_digest", "")))
        said = self.saved.predict(self._reader(bag), np.zeros(1, dtype=np.int64))
        answer: Float64[np.ndarray, " answer"] = said[0]
        return answer

    def explain(self, bag: Bag, *, number: int) -> Explanation:
        """Attention, contributions or Grad-CAM, as the model has it."""
        reader, asked = self._reader(bag), asked_of(self.classes, number)
        model = self.saved.model
        if isinstance(reader, CropReader) and isinstance(model, GridCnn):
            return explain_crops(model, reader, asked=asked)
        return explain_bag(model, reader.batch([0]), asked=asked)

    def _reader(self, bag: Bag) -> Reader:
        store = store_of_bags([bag], patient_ids=[""], on_grid=self.on_crops)
        return self.saved.reader(store)


def load_models(
    paths: Sequence[Path], *, slide_encoder: Path | None = None, method: str | None = None
) -> list[Explainable]:
    """The models of one method, of files and folders.

    Args:
        paths: ``.safetensors`` files of ``gigassl fit`` or ``gigassl mil --keep-models``, folders
            of such, or the predictions of ``mil``, beside which they lie.
        slide_encoder: what made the vectors of probes, unless a pooling did.
        method: which, where there are several.

    Raises:
        SettingsError: no models there, several methods, or what cannot be explained.
    """
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise SettingsError("give at least one model with --model")
    encoder = load_slide_model(slide_encoder) if slide_encoder else None
    models = [_loaded(path, slide_encoder=encoder) for path in files]
    methods = sorted({model.method for model in models})
    if method is not None and method not in methods:
        raise unknown_name("method", method, known=methods)
    if method is None and len(methods) > 1:
        raise SettingsError(
            f"the models are of several methods: {', '.join(methods)}; choose one with --method"
        )
    return [model for model in models if method in (None, model.method)]


def _files(path: Path) -> list[Path]:
    folder = path.with_name(f"{path.name}.models") if path.suffix == ".parquet" else path
    if not folder.is_dir():
        if path.suffix == SUFFIX:
            return [path]
        raise SettingsError(
            f"no models at {folder}; make them with `gigassl mil … --keep-models` or "
            "`gigassl fit … --keep-folds`"
        )
    files = sorted(folder.glob(f"*{SUFFIX}"))
    if not files:
        raise SettingsError(f"{folder} holds no models ({SUFFIX})")
    return files


def _loaded(path: Path, *, slide_encoder: SlideModel | None) -> Explainable:
    kind = load_checkpoint(path).card.get("kind")
    if kind == PROBE:
        return ExplainableProbe(path, slide_encoder=slide_encoder)
    if kind == MIL:
        return ExplainableMil(path)
    raise SettingsError(
        f"{path} is neither a probe of `gigassl fit` nor a model of `gigassl mil --keep-models`"
    )


def encoder_of(
    frozen: FrozenProbe, *, given: SlideModel | None
) -> tuple[str | SlideModel, EnsembleSettings]:
    """What made the vectors that a probe learned from: a pooling, or a slide encoder and its views.

    Raises:
        SettingsError: a slide encoder that is not given, or another one is.
    """
    said: Any = frozen.vectors.get("settings", {}).get("slide_encoder")
    if isinstance(said, str) and said in POOLINGS:
        return said, EnsembleSettings()
    if not isinstance(said, dict):
        raise SettingsError(
            "the probe's vectors do not say how they were made of tiles (they were imported); only "
            "vectors of `gigassl embed` can be explained"
        )
    wanted = f"'{said['architecture']}' (digest {said['digest']})"
    if given is None:
        raise SettingsError(
            f"the probe learned from vectors of the slide encoder {wanted}; give its file with "
            "--slide-encoder"
        )
    if given.digest != said["digest"]:
        raise SettingsError(
            f"the probe learned from vectors of the slide encoder {wanted}; --slide-encoder has "
            f"digest {given.digest}"
        )
    views = EnsembleSettings(
        views=said["views"], tiles_per_view=said["tiles_per_view"], seed=said["seed"]
    )
    return given, views


def chosen_model(
    models: Sequence[Explainable], slide_id: str, patient_id: str, *, include_training: bool
) -> tuple[Explainable, bool]:
    """The model that explains a slide, and whether it learned from it.

    One that never saw slide and patient: best one that tested it, then the one that learned from
    most slides.

    Raises:
        SlideError: all models learned from it, and that is not allowed.
    """
    ranked = sorted(models, key=lambda m: (not m.tested(slide_id), -m.n_learned, m.name))
    for model in ranked:
        if not model.saw(slide_id, patient_id):
            return model, False
    if include_training:
        return ranked[0], True
    how_many = "the model" if len(models) == 1 else f"all {len(models)} models"
    raise SlideError(
        f"{how_many} learned from this slide or its patient, so that an explanation would show "
        "what was learned by heart; give models of folds (--keep-models, --keep-folds), or say "
        "--include-training",
        stage="encode",
    )


def _refuse_other_tiles(bag: Bag, *, learned_from: str) -> None:
    theirs = bag.info.encoder_digest
    if learned_from and theirs and learned_from != theirs:
        raise SlideError(
            f"its tiles are of the encoder digest {theirs}, the model learned from {learned_from}; "
            "encode the slide with the model's tile encoder",
            stage="bag",
        )


def _tile_encoder(frozen: FrozenProbe) -> str:
    """Digest of the tile encoder; "" where the vectors do not say it."""
    settings: Any = frozen.vectors.get("settings", {})
    return str(
        settings.get("bags", {}).get("encoder_digest")
        or (settings.get("tile_encoder") or {}).get("weights", "")
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
