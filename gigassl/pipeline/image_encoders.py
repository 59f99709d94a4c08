"""Vectors of images by several tile encoders, and by the controls that stand beside them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gigassl.evaluate.contamination import PRETRAINED_ON, contamination, seen_slides
from gigassl.evaluate.task import Task
from gigassl.evaluate.vector_set import VectorSet
from gigassl.pipeline.image_features import ImageFeatures, ImageJob, image_features
from gigassl.pipeline.image_survey import Survey
from gigassl.pipeline.probe_tiles_options import ProbeTilesOptions
from gigassl.pipeline.progress import Progress
from gigassl.tiles.encoders import load_encoder, random_twin
from gigassl.tiles.engine import TileEncoder
from gigassl.tiles.image_tiles import ImageCut
from gigassl.tiles.records import EncoderRecord

log = logging.getLogger("gigassl")

COLOUR = "colour (mean + std of RGB)"


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What is judged: an encoder or a control.

    Attributes:
        title: what tables call it.
        vectors: one an image.
        record, found: of an encoder, what it is and what it gave; None for the colour.
        weights: digest of its weights.
        weight_bytes: how large they are.
    """

    title: str
    vectors: VectorSet
    record: EncoderRecord | None = None
    found: ImageFeatures | None = None
    weights: str = ""
    weight_bytes: int | None = None


def cut_of(record: EncoderRecord, options: ProbeTilesOptions) -> ImageCut:
    """How images become tiles of an encoder: of its input's side, at its µm/px."""
    return ImageCut(tile_px=record.input_px, mpp=record.mpp, image_mpp=options.image_mpp)


def encoder_vectors(
    titles: Mapping[str, str], job: ImageJob, *, options: ProbeTilesOptions, progress: Progress
) -> Iterator[Judged]:
    """Each encoder, then the same network with random weights; one network in memory at a time.

    Args:
        titles: what tables call each encoder.
        job: the images.
        options: how encoders run; whether there are controls.
        progress: is told of images.

    Raises:
        SettingsError: an encoder that cannot be had.
        MachineError: no memory, no space, no file handles left.
    """
    for name, title in titles.items():
        encoder = load_encoder(
            name, backend=options.backend, device=options.device, precision=options.precision,
            batch_size=options.batch_size,
        )  # fmt: skip
        yield _encoded(encoder, title, job, options=options, progress=progress, twin=False)
        if options.controls and encoder.record.source not in ("random", "none"):
            twin = random_twin(encoder)
            del encoder
            yield _encoded(twin, title, job, options=options, progress=progress, twin=True)


def colour_vectors(job: ImageJob, seen: Survey) -> Judged:
    """The colour of the images, which needs no network: what is no better has learned nothing."""
    vectors = VectorSet(
        name=COLOUR, slide_ids=tuple(job.names), vectors=seen.colours, control="colour",
        digest=seen.digest,
    )  # fmt: skip
    return Judged(title=COLOUR, vectors=vectors)


def _encoded(
    encoder: TileEncoder, title: str, job: ImageJob, *,
    options: ProbeTilesOptions, progress: Progress, twin: bool,
) -> Judged:  # fmt: skip
    record = encoder.record
    found = image_features(encoder, cut_of(record, options), job, progress=progress)
    log.info(
        "%s: %d tiles of %d images%s", record.name, found.n_tiles, len(job.names),
        ", features from before" if found.reused else "",
    )  # fmt: skip
    vectors = VectorSet(
        name=f"{title}, random weights" if twin else title,
        slide_ids=tuple(job.names),
        vectors=found.features,
        control="random-weights" if twin else "",
        control_of=title if twin else "",
        seen=seen_slides(_provenance(record), slide_ids=job.names),
        digest=found.digest,
    )
    return Judged(
        title=record.name if twin else title, vectors=vectors, record=record, found=found,
        weights=encoder.digest, weight_bytes=encoder.weight_bytes,
    )  # fmt: skip


def _provenance(record: EncoderRecord) -> dict[str, Any]:
    """What is known of the slides that an encoder learned from, as vectors of slides say it."""
    said = {"tile_encoder": record.pretrained_on} if record.pretrained_on else {}
    # images have no slide encoder; their mean over tiles is a pooling, which saw nothing
    settings = {"tile_encoder": record.name, "slide_encoder": "mean"}
    return {PRETRAINED_ON: said, "settings": settings}


def notes_on(
    judged: Sequence[Judged], task: Task, *, options: ProbeTilesOptions
) -> tuple[str, ...]:
    """How images became tiles, how speed was measured, and what encoders had seen."""
    notes = [_cut_note(options)]
    for each in judged:
        if each.record is None or each.found is None or each.record.source == "random":
            continue
        if options.image_mpp is not None:
            notes.append(_scale_note(each.title, each.record, each.found, options=options))
        exposed = contamination(
            _provenance(each.record), slide_ids=task.slide_ids, patient_ids=task.patient_ids
        )
        notes += [f"{each.title}: {sentence}" for sentence in exposed]
    return (*notes, *_speed_notes(judged))


def _scale_note(
    title: str, record: EncoderRecord, found: ImageFeatures, *, options: ProbeTilesOptions
) -> str:
    side = cut_of(record, options).side
    how = "enlarged" if side < record.input_px else "shrunk"
    change = "" if side == record.input_px else f", {how} from {side:.0f} px"
    return f"{title}: {found.n_tiles} tiles of {record.input_px} px at {record.mpp:g} µm/px{change}"


def _cut_note(options: ProbeTilesOptions) -> str:
    if options.image_mpp is None:
        return (
            "each image is one tile, resized whole to the encoder's input; give --image-mpp to cut "
            "large images at the encoder's own µm/px"
        )
    return "an image's features are the mean of its tiles', side by side at the encoder's own µm/px"


def _speed_notes(judged: Sequence[Judged]) -> list[str]:
    found: dict[str, dict[str, None]] = {}  # names in order, each once
    for each in judged:
        if each.found is not None:
            found.setdefault(each.found.speed.said(), {})[each.title] = None
    notes = [
        f"tiles/s of {', '.join(titles) if len(found) > 1 else 'all'}: {conditions}; encoding "
        "alone, the fastest of several batches in memory"
        for conditions, titles in found.items()
    ]
    slowed = {each.title: None for each in judged if each.found and each.found.speed.unsteady}
    if slowed:
        notes.append(
            f"the machine was busy with other work while tiles/s of {', '.join(slowed)} were "
            "measured, so they may be too low; choose another -o to measure them again"
        )
    return notes
