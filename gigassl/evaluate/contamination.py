"""Contamination: which test slides an encoder was pretrained on, without labels.

Self-supervised training may see the slides that a probe is tested on, since it sees no labels; but
a table must say so. Encoders carry the names of their slides in ``pretrained_on``, from the model
card into the provenance of bags, banks and vectors; of published encoders the cohort may be known.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gigassl.errors import SettingsError
from gigassl.evaluate.pretraining_cohorts import Published, is_tcga, published
from gigassl.vectors.pooling import POOLINGS

PRETRAINED_ON = "pretrained_on"
"""Where model cards and provenances hold ``slides_record`` of each stage."""

Stage = Literal["slide_encoder", "tile_encoder"]

_LABELLED = "labelled"
_UNTRAINED = ("random:", "mean-rgb", "nic:mean-rgb")


def slides_record(
    slide_ids: Sequence[str], patient_ids: Sequence[str], *, begun_from: str = "",
    labelled: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """What a model card says of the slides that an encoder was pretrained on, JSON-ready.

    Args:
        slide_ids: their names.
        patient_ids: one a slide.
        begun_from: encoder whose weights it began with, which had learned from slides of its own.
        labelled: whether it learned from labels of theirs.

    Raises:
        SettingsError: lengths that differ.
    """
    if len(slide_ids) != len(patient_ids):
        raise SettingsError(f"{len(slide_ids)} slides and {len(patient_ids)} patients; one each")
    return _record_of_all(slide_ids, patient_ids, begun_from=begun_from, labelled=labelled)


def united(record: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """The record of an encoder that learned from the slides of both, one after the other."""
    return _record_of_all(
        [*record["slides"], *earlier.get("slides", ())],
        [*record["patients"], *earlier.get("patients", ())],
        begun_from=earlier.get("begun_from", "") or record.get("begun_from", ""),
        labelled=bool(earlier.get(_LABELLED) or record.get(_LABELLED)),
    )


def _record_of_all(
    slide_ids: Sequence[str], patient_ids: Sequence[str], *, begun_from: str, labelled: bool
) -> dict[str, Any]:
    slides, patients = sorted(set(slide_ids)), sorted(set(patient_ids))
    digest = hashlib.sha256("\n".join(slides).encode()).hexdigest()[:16]
    begun = {"begun_from": begun_from} if begun_from else {}
    found = {"count": len(slides), "digest": digest, "slides": slides, "patients": patients}
    return {**found, **begun, **({_LABELLED: True} if labelled else {})}


def combined(*pretrained_on: Mapping[str, Any]) -> dict[str, Any]:
    """What several files say of the same encoders: for each, the first that lists its slides."""
    found: dict[str, Any] = {}
    for each in pretrained_on:
        for stage, record in each.items():
            if "slides" not in found.get(stage, {}):
                found[stage] = record
    return found


def counted(record: Any) -> Any:
    """A card or provenance whose lists of slides and patients are left out; counts stay.

    >>> counted({"pretrained_on": {"tile_encoder": {"count": 1, "slides": ["a"]}}})
    {'pretrained_on': {'tile_encoder': {'count': 1}}}
    """
    if isinstance(record, Mapping):
        kept = {
            name: _without_names(v) if name == PRETRAINED_ON else counted(v)
            for name, v in record.items()
        }
        return {name: value for name, value in kept.items() if name != PRETRAINED_ON or value}
    return [counted(each) for each in record] if isinstance(record, (list, tuple)) else record


def _without_names(said: Mapping[str, Any]) -> dict[str, Any]:
    """Of a record, or of one record a stage."""
    return {
        name: _without_names(value) if isinstance(value, Mapping) else value
        for name, value in said.items()
        if not isinstance(value, list)
    }


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """What one encoder saw.

    Attributes:
        stage: which encoder.
        name: what it is called; "" where not known.
        slides, patients: those it was pretrained on, by name; None where they are not listed.
        published: the cohort of a published encoder; None where not known.
        begun_from: the published encoder whose weights it began with; "" where it was none.
        labelled: whether it learned from labels of these slides.
    """

    stage: Stage
    name: str
    slides: frozenset[str] | None
    patients: frozenset[str] = frozenset()
    published: Published | None = None
    begun_from: str = ""
    labelled: bool = False

    @property
    def title(self) -> str:
        """What sentences call it."""
        return f"the {self.stage.replace('_', ' ')}{f' ({self.name})' if self.name else ''}"

    def seen(self, slide_ids: Sequence[str]) -> frozenset[str]:
        """Which of the slides it saw, as far as that is known."""
        listed = (self.slides or frozenset()).intersection(slide_ids)
        before = self.published if self.slides is None else published(self.begun_from)
        if before is None or not before.tcga:
            return listed
        return listed.union(name for name in slide_ids if is_tcga(name))


def exposures(provenance: Mapping[str, Any]) -> tuple[Exposure, ...]:
    """What the slide encoder and the tile encoder of vectors saw.

    A pooling has no weights and saw nothing.
    """
    variants = provenance.get("variants", [provenance])
    return tuple(_exposure(stage, variants) for stage in get_args(Stage))


def seen_slides(provenance: Mapping[str, Any], *, slide_ids: Sequence[str] = ()) -> frozenset[str]:
    """Slides that an encoder was pretrained on, of all that are listed by name.

    Args:
        provenance: of vectors.
        slide_ids: of these, TCGA slides count too where an encoder was published as pretrained on
            TCGA.
    """
    found = exposures(provenance)
    listed = frozenset[str]().union(*(each.slides or () for each in found))
    return listed.union(*(each.seen(slide_ids) for each in found))


def contamination(
    provenance: Mapping[str, Any], *, slide_ids: Sequence[str], patient_ids: Sequence[str]
) -> tuple[str, ...]:
    """One sentence an encoder on how many test slides (and their patients) it saw.

    Args:
        provenance: of the vectors that are tested.
        slide_ids: of the test slides, each once.
        patient_ids: one a slide.
    """
    return tuple(
        _sentence(each, slide_ids=slide_ids, patient_ids=patient_ids)
        for each in exposures(provenance)
        if each.slides is None or each.slides or each.published
    )


def _exposure(stage: Stage, variants: Sequence[Mapping[str, Any]]) -> Exposure:
    records = [variant.get(PRETRAINED_ON, {}).get(stage) for variant in variants]
    listed = [record for record in records if record is not None and "slides" in record]
    name = _name(stage, variants[0].get("settings", {}))
    if listed:
        return Exposure(
            stage=stage,
            name=name,
            slides=frozenset(s for record in listed for s in record["slides"]),
            patients=frozenset(p for record in listed for p in record.get("patients", ())),
            begun_from=next((r["begun_from"] for r in listed if "begun_from" in r), ""),
            labelled=any(record.get(_LABELLED, False) for record in listed),
        )
    untrained = (stage == "slide_encoder" and name in POOLINGS) or name.startswith(_UNTRAINED)
    slides = frozenset[str]() if untrained else None
    return Exposure(stage=stage, name=name, slides=slides, published=published(name))


def _name(stage: Stage, settings: Mapping[str, Any]) -> str:
    said = settings.get(stage)
    if said is None:  # vectors of bags: the bags say which tile encoder it was
        said = settings.get("bags", {}).get("encoder", "") if stage == "tile_encoder" else ""
    if isinstance(said, Mapping):
        said = said.get("name") or said.get("architecture", "")
    return str(said)


def _sentence(exposure: Exposure, *, slide_ids: Sequence[str], patient_ids: Sequence[str]) -> str:
    n, seen = len(slide_ids), exposure.seen(slide_ids)
    if exposure.slides is None:
        return _without_list(exposure, n_seen=len(seen), n_test=n)
    how = "with labels of its own" if exposure.labelled else "without labels"
    said = f"{len(seen)} of {n} test slides were seen, {how}, by {exposure.title}"
    before = published(exposure.begun_from)
    if before is not None:
        said += f", which began as {exposure.begun_from}, pretrained on {before.said}"
    others = sum(
        patient in exposure.patients
        for slide, patient in zip(slide_ids, patient_ids, strict=True)
        if slide not in seen
    )
    return f"{said}; {others} more are of patients that it saw" if others else said


def _without_list(exposure: Exposure, *, n_seen: int, n_test: int) -> str:
    known = exposure.published
    if known is None:
        return f"which slides {exposure.title} was pretrained on is not known"
    trained = f"{exposure.title} was pretrained on {known.said}, see {known.url}"
    if not n_seen:
        return trained
    return f"{n_seen} of {n_test} test slides are of TCGA, and {trained}"
