"""The two kinds of work behind a run: encoding slides, and reading bags encoded before."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from gigassl.bags.bag import Bag, open_bag
from gigassl.bags.bag_header import open_header
from gigassl.bags.info import BagInfo
from gigassl.bags.layouts import CoordsUnit
from gigassl.bags.prepare import TileSettings, inputs_digest
from gigassl.digests import digest_of_settings, plain
from gigassl.errors import SettingsError, SlideError
from gigassl.evaluate.contamination import PRETRAINED_ON, counted
from gigassl.pipeline.forecast import Expected
from gigassl.pipeline.opening import Opening, RunFacts
from gigassl.pipeline.progress import Progress
from gigassl.pipeline.ray_settings import RayEngine
from gigassl.pipeline.sources import Outcomes, outcome_of_slide, read_bags
from gigassl.pipeline.staging import Staging
from gigassl.pipeline.stream import encode_slides
from gigassl.slides.cohort import CohortSlide
from gigassl.stores import StoreSettings
from gigassl.tiles.engine import EncoderFacts, TileEncoder
from gigassl.vectors.fitting import TileFacts, facts_of_bag
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


class BagJob:
    """Reads bags; all must come from one encoder at one resolution, as the first one does."""

    def __init__(
        self, sources: Sequence[CohortSlide], *, options: RunOptions, default_mpp: float | None
    ) -> None:
        self.options, self.default_mpp = options, default_mpp
        self.staging = Staging(options.stores)
        first = self._first_readable(sources)
        self._expected = {} if first is None else _kind(first.info, dim=first.features.shape[1])
        self.settings: Mapping[str, Any] = {BAGS: self._expected}
        self.gives = None if first is None else facts_of_bag(first)
        said = {} if first is None else first.info.provenance.get(PRETRAINED_ON, {})
        self.pretrained_on: Mapping[str, Any] = said
        made_with = {} if first is None else first.info.provenance.get("settings", {})
        self.origin: Mapping[str, Any] = {
            BAGS: {"settings": made_with, "coords_unit": options.coords_unit}
        }

    def _first_readable(self, sources: Sequence[CohortSlide]) -> Bag | None:
        for source in sources:
            try:
                return self._read(source)[0]
            except (SlideError, OSError):
                continue  # it will be listed among the failures when its turn comes
        return None

    def _read(self, source: CohortSlide) -> tuple[Bag, str]:
        """The bag and its inputs digest."""
        local = self.staging.local(source)
        try:
            bag = open_bag(
                local.path, encoder=self.options.bag_encoder, mpp_l0=source.mpp or self.default_mpp,
                coords_unit=self.options.coords_unit, variants=self.options.variants,
            )  # fmt: skip
            return bag, inputs_digest(local)
        finally:
            self.staging.done(source)

    def count_tiles(self, source: CohortSlide) -> int:
        """Tiles of a local bag, of which no features are read.

        Raises:
            SlideError: whatever reading it would raise, save for features that are not finite.
        """
        header = open_header(
            source.path, encoder=self.options.bag_encoder, mpp_l0=source.mpp or self.default_mpp,
            coords_unit=self.options.coords_unit,
        )  # fmt: skip
        self._refuse_other_kind(_kind(header.info, dim=header.dim))
        return header.n_tiles

    def _open_one(self, source: CohortSlide) -> Bag:
        bag, inputs = self._read(source)
        self._refuse_other_kind(_kind(bag.info, dim=bag.features.shape[1]))
        return replace(bag, info=replace(bag.info, slide_id=source.slide_id, inputs_digest=inputs))

    def _refuse_other_kind(self, given: Mapping[str, Any]) -> None:
        expected = self._expected
        differs = [key for key, value in given.items() if value != expected.get(key)]
        if differs:
            sentence = ", ".join(f"{k} {given[k]} instead of {expected.get(k)}" for k in differs)
            raise SlideError(
                f"the bag is of another kind than the first one: {sentence}; embed it on its own",
                stage="bag",
            )

    def outcomes(self, sources: Sequence[CohortSlide], *, progress: Progress) -> Outcomes:
        """Reads bag after bag."""
        workers = self.options.workers or 2
        bags = read_bags(sources, open_one=self._open_one, workers=workers, progress=progress)
        with closing(bags), self.staging.ahead(sources):
            yield from bags


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


def _kind(info: BagInfo, *, dim: int) -> dict[str, Any]:
    """What must be equal for all bags of one table."""
    return {
        "encoder": info.encoder, "encoder_digest": info.encoder_digest,
        "settings_digest": info.settings_digest, "dim": int(dim),
        "target_mpp": info.target_mpp, "layout": info.layout,
    }  # fmt: skip


def default_workers(device: str) -> int:
    """Reader threads: all cores beside a GPU; two beside an encoder that itself uses the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(2, cores or 2) if device.startswith("cuda") else 2
