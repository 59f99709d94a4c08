"""What is asked of an explanation, and what is refused before any work."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gigassl.bags.layouts import CoordsUnit
from gigassl.errors import SettingsError, unknown_name
from gigassl.evaluate.predictions import open_predictions
from gigassl.pipeline.explain_models import Explainable
from gigassl.pipeline.explain_words import answer_of
from gigassl.slides.cohort import Cohort, is_bag

PREDICTED, TRUE = "predicted", "true"


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """What is explained, of which slides, by which model.

    Attributes:
        models: files and folders of models, see ``load_models``.
        method: which, where they hold several.
        slide_encoder: what made the vectors of a probe, unless a pooling did.
        only: names of slides; none for all of the bags.
        target: the class that is explained: "predicted", "true", or its name.
        predictions: table of predictions that knows the true classes.
        slides: folder, file or table of the slides themselves, for pictures.
        masks: folder of ``<slide_id>.png`` or ``.geojson`` masks to compare with.
        against: folder of an earlier run, whose agreement is compared with.
        include_training: explain also slides that all models learned from.
        restart: explain anew what is there.
        seed: of the shuffled control.
        bag_encoder, coords_unit, slide_mpp: what other tools' bags do not say.
    """

    models: Sequence[Path]
    method: str | None = None
    slide_encoder: Path | None = None
    only: Sequence[str] = ()
    target: str = PREDICTED
    predictions: Path | None = None
    slides: Path | None = None
    masks: Path | None = None
    against: Path | None = None
    include_training: bool = False
    restart: bool = False
    seed: int = 0
    bag_encoder: str | None = None
    coords_unit: CoordsUnit | None = None
    slide_mpp: float | None = None


def refuse(options: ExplainOptions, model: Explainable) -> None:
    """Refuses what cannot be explained.

    Raises:
        SettingsError: a class that the model does not have, or things that do not go together.
    """
    if options.masks is not None and not options.masks.is_dir():
        raise SettingsError(f"no such folder of masks: {options.masks}")
    if options.against is not None and options.masks is None:
        raise SettingsError("--against compares agreement with masks; give them with --masks")
    if options.target in (PREDICTED, TRUE) and model.classes:
        if options.target == TRUE and options.predictions is None:
            raise SettingsError(
                "the true classes are not known; give the table of predictions that holds them "
                "with --predictions"
            )
        return
    if model.classes and options.target not in model.classes:
        raise unknown_name("class", options.target, known=[PREDICTED, TRUE, *model.classes])
    if not model.classes and options.target != PREDICTED:
        raise SettingsError(
            f"the models say a {answer_of(model)}, no classes; leave out the class to explain"
        )


def wanted(cohort: Cohort, only: Sequence[str]) -> Cohort:
    """The bags to explain.

    Raises:
        SettingsError: slides instead of bags, or no bag of that name.
    """
    if not all(is_bag(slide.path) for slide in cohort.slides):
        raise SettingsError(
            "these are slides; their bags are explained: encode them first with `gigassl encode`, "
            "and give the slides themselves with --slides"
        )
    known = {slide.slide_id for slide in (*cohort.slides, *cohort.missing)}
    for name in only:
        if name not in known:
            raise unknown_name("slide", name, known=known)
    chosen = set(only) or known
    return Cohort(
        slides=tuple(s for s in cohort.slides if s.slide_id in chosen),
        missing=tuple(s for s in cohort.missing if s.slide_id in chosen),
    )


def truth_of(predictions: Path | None) -> dict[str, str]:
    """True class of each slide of a table of predictions."""
    if predictions is None:
        return {}
    data = open_predictions(predictions).data
    if "y_true" not in data.column_names:
        return {}
    pairs = zip(data["slide_id"].to_pylist(), data["y_true"].to_pylist(), strict=True)
    return {slide: str(name) for slide, name in pairs if name is not None}
