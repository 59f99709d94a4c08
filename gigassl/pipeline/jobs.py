"""The work behind a run: what it is done with, and encoding slides."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from gigassl.bags.layouts import CoordsUnit
from gigassl.bags.prepare import TileSettings, inputs_digest
from gigassl.digests import digest_of_settings, plain
from gigassl.errors import SettingsError, SlideError
from gigassl.evaluate.contamination import PRETRAINED_ON, counted
from gigassl.pipeline.forecast import Expected
from gigassl.pipeline.opening import Opening, RunFacts
from gigassl.pipeline.progress import Progress
from gigassl.pipeline.ray_settings import RayEngine
from gigassl.pipeline.sources import Outcomes, outcome_of_slide
from gigassl.pipeline.staging import Staging
from gigassl.pipeline.stream import encode_slides
from gigassl.slides.cohort import CohortSlide
from gigassl.stores import StoreSettings
from gigassl.tiles.engine import EncoderFacts, TileEncoder
from gigassl.vectors.fitting import TileFacts
from gigassl.versions import shaping_versions

log = logging.getLogger("gigassl")

BAGS = "bags"
"""Where the settings of a table say of which kind its bags are, and its provenance their origin."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out; what changes a vector is recorded with each slide.

    Attributes:
        workers: reader threads; None chooses by the encoder's device.
        shard: (i, n): only part i of n of the cohort, for job arrays.
        slide_dir: where the slides of a table without paths lie.
        masks: folder of tissue masks ``<slide_id>.png`` / ``.geojson`` to use instead of detection.
        keep_bags: folder, or its URL, to write the bags to as well.
        overviews: folder for a PNG per slide with tissue contour and kept tiles, and for the tissue
            as GeoJSON in its folder "tissue".
        bag_encoder: name of the tile encoder of foreign bags whose file does not say it.
        coords_unit: unit of the coordinates of foreign bags without one: "um" or "px".
        stores: how slides and bags at URLs are reached, and where their local copies lie.
        variants: encode the eight turned and mirrored variants of each slide, or read those that
            its bag holds, instead of the slide as it lies only.
        engine: the Ray cluster that encodes the slides; None: this process does.
        expected: what a dry run foretold; the log ends with it against what the run took.
    """

    workers: int | None = None
    shard: tuple[int, int] | None = None
    slide_dir: Path | None = None
    masks: Path | None = None
    keep_bags: Path | str | None = None
    overviews: Path | None = None
    bag_encoder: str | None = None
    coords_unit: CoordsUnit | None = None
    stores: StoreSettings = field(default_factory=StoreSettings)
    variants: bool = False
    engine: RayEngine | None = None
    expected: Expected | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise SettingsError(f"--workers must be at least 1; got {self.workers}")
        if self.masks is not None and not self.masks.is_dir():
            raise SettingsError(f"no such folder of tissue masks: {self.masks}")


@runtime_checkable
class Job(Protocol):
    """Turns sources into outcomes, under one settings record.

    Attributes:
        settings: the whole record that decides a bag.
        gives: what tiles its bags hold; None where not one of them can be read.
        pretrained_on: slides that the tile encoder learned from; {} where not known.
        origin: what else of the bags a provenance holds, so that their slides' rows can be made
            again from the table alone; {} where the settings say it all.
    """

    settings: Mapping[str, Any]
    gives: TileFacts | None
    pretrained_on: Mapping[str, Any]
    origin: Mapping[str, Any]

    def outcomes(self, sources: Sequence[CohortSlide], *, progress: Progress) -> Outcomes:
        """One outcome a source, in any order."""


class EncodingJob(ABC):
    """What is the same wherever slides are encoded.

    Attributes:
        encoder: what is known of the tile encoder.
        settings: the whole record that decides a bag; its digest names the bag's settings.
        gives: what tiles its bags hold.
        pretrained_on: slides that the tile encoder learned from, by name.
        prepare: opens a slide and lays its tiles.
        origin: nothing; the settings say it all.
    """

    origin: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *, encoder: EncoderFacts, tiles: TileSettings, options: RunOptions) -> None:
        self.encoder = encoder
        self.tiles = replace(tiles, external_masks=options.masks is not None)
        self.options = options
        self.staging = Staging(options.stores)
        self.prepare = Opening(
            tiles=self.tiles, masks=options.masks, overviews=options.overviews,
            staging=self.staging,
        )  # fmt: skip
        _warn_of_other_mpp(encoder, self.tiles)
        self.settings: Mapping[str, Any] = {
            "tiles": plain(self.tiles),
            "tile_encoder": encoder.identity(),
        }
        learned_from = encoder.record.pretrained_on
        self.pretrained_on: Mapping[str, Any] = (
            {"tile_encoder": learned_from} if learned_from else {}
        )
        grid = self.tiles.grid
        self.gives: TileFacts | None = TileFacts(
            encoder=encoder.record.name,
            encoder_digest=encoder.digest,
            dim=encoder.dim,
            mpp=grid.target_mpp,
            tile_um=grid.tile_px * grid.target_mpp,
        )
        self.facts = RunFacts(
            encoder=encoder.record.name,
            encoder_digest=encoder.digest,
            settings_digest=digest_of_settings(self.settings),
            # thousands of names would not fit the attributes of a bag, nor belong in each of them
            provenance=counted(provenance_of(self.settings, pretrained_on=self.pretrained_on)),
            grid=self.tiles.grid,
        )

    @abstractmethod
    def outcomes(self, sources: Sequence[CohortSlide], *, progress: Progress) -> Outcomes:
        """One outcome a source, in any order."""


class SlideJob(EncodingJob):
    """Encodes slides in this process."""

    def __init__(self, *, encoder: TileEncoder, tiles: TileSettings, options: RunOptions) -> None:
        super().__init__(encoder=encoder, tiles=tiles, options=options)
        self.encoder: TileEncoder = encoder

    def outcomes(self, sources: Sequence[CohortSlide], *, progress: Progress) -> Outcomes:
        """Encodes slide after slide."""
        slides = encode_slides(
            sources, prepare=self.prepare, encoder=self.encoder, progress=progress,
            workers=self.options.workers or default_workers(self.encoder.device),
            variants=self.options.variants,
        )  # fmt: skip
        with closing(slides), self.staging.ahead(sources):
            for slide in slides:
                yield outcome_of_slide(slide, self.facts)


def known_inputs(slides: Sequence[CohortSlide], *, masks: Path | None) -> dict[str, str]:
    """Inputs digest by slide_id; without slides whose file or mask cannot be looked at.

    Those fail when their turn comes, with the reason.
    """
    found = {}
    for slide in slides:
        with suppress(SlideError, OSError):
            found[slide.slide_id] = inputs_digest(slide, masks=masks)
    return found


def known_sizes(slides: Sequence[CohortSlide]) -> dict[str, float]:
    """Bytes of each slide's file; without those whose size cannot be had."""
    found = {}
    for slide in slides:
        with suppress(SlideError, OSError):
            found[slide.slide_id] = float(slide.n_bytes())
    return found


def _warn_of_other_mpp(encoder: EncoderFacts, tiles: TileSettings) -> None:
    expected, grid = encoder.record.mpp, tiles.grid
    if abs(grid.target_mpp / expected - 1) > grid.mpp_tolerance:
        log.warning(
            "%s expects tiles at %g µm/px; they are read at %g",
            encoder.record.name, expected, grid.target_mpp,
        )  # fmt: skip


def provenance_of(
    settings: Mapping[str, Any], *, pretrained_on: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Settings and versions; no clock, host, path or worker count: equal runs, equal bytes.

    Args:
        pretrained_on: slides that encoders learned from (see ``gigassl.evaluate.contamination``).
    """
    found = {"settings": dict(settings), "versions": shaping_versions()}
    return {**found, PRETRAINED_ON: dict(pretrained_on)} if pretrained_on else found


def default_workers(device: str) -> int:
    """Reader threads: all cores beside a GPU; two beside an encoder that itself uses the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(2, cores or 2) if device.startswith("cuda") else 2
