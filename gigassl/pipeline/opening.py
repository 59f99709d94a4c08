"""Opening a slide in a run: without PyTorch, so that processes that only read stay small."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from gigassl.bags.info import BagInfo
from gigassl.bags.prepare import PreparedSlide, SeenSlide, TileSettings, lay_tiles, look_at
from gigassl.errors import SlideError
from gigassl.files import machine_error
from gigassl.pipeline.staging import Staging
from gigassl.slides.cohort import CohortSlide
from gigassl.slides.grid import GridSettings, TileGrid
from gigassl.slides.masks import save_geojson
from gigassl.slides.overview import save_overview

OUTLINES = "tissue"
"""Folder of the tissue's outlines beside the overviews; as masks they give the same tissue."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How the slides of a run are opened; it can travel to another process.

    Attributes:
        masks: folder of tissue masks to use instead of detection.
        overviews: folder for a PNG per slide with tissue contour and kept tiles, and for the tissue
            as GeoJSON in its folder "tissue".
        staging: makes local files of slides that lie in a store.
    """

    tiles: TileSettings
    masks: Path | None = None
    overviews: Path | None = None
    staging: Staging = field(default_factory=Staging, compare=False)

    def __call__(self, source: CohortSlide) -> PreparedSlide:
        """Opens a slide and lays its tiles; its overview is drawn even where that fails.

        Raises:
            SlideError: it cannot be fetched or opened, or has no tiles.
            MachineError: no file handles left, or no room for its local copy.
        """
        local = self.staging.local(source)
        if local is source:
            return self._opened(source)
        try:
            prepared = self._opened(local)
        except BaseException:
            self.staging.done(source)
            raise
        return replace(prepared, afterwards=partial(self.staging.done, source))

    def _opened(self, source: CohortSlide) -> PreparedSlide:
        wanted = self.overviews is not None
        seen = look_at(source, self.tiles, masks=self.masks, want_thumbnail=wanted)
        prepared = None
        try:
            prepared = lay_tiles(seen, self.tiles)
            return prepared
        finally:
            if self.overviews is not None:
                grid = prepared.grid if prepared else None
                _draw(seen, self.overviews, slide_id=source.slide_id, grid=grid)
            if prepared is None:
                seen.slide.close()


def _draw(seen: SeenSlide, folder: Path, *, slide_id: str, grid: TileGrid | None) -> None:
    """The overview of a slide, and its tissue as outlines that QuPath opens."""
    if seen.thumbnail is not None:
        save_overview(
            folder / f"{slide_id}.png", thumbnail=seen.thumbnail, tissue=seen.tissue, grid=grid,
            slide_id=slide_id, info=seen.slide.info,
        )  # fmt: skip
    if seen.tissue is not None:
        save_geojson(seen.tissue, folder / OUTLINES / f"{slide_id}.geojson")


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What all bags of an encoding run share."""

    encoder: str
    encoder_digest: str
    settings_digest: str
    provenance: Mapping[str, Any]
    grid: GridSettings


def bag_info(source: CohortSlide, prepared: PreparedSlide, facts: RunFacts) -> BagInfo:
    """The facts of the bag that an opened slide becomes."""
    opened, grid = prepared.slide, prepared.grid
    return BagInfo(
        slide_id=source.slide_id,
        encoder=facts.encoder,
        encoder_digest=facts.encoder_digest,
        settings_digest=facts.settings_digest,
        inputs_digest=prepared.inputs_digest,
        provenance=facts.provenance,
        width_l0=opened.info.width_l0,
        height_l0=opened.info.height_l0,
        mpp_l0=opened.info.mpp,
        mpp_source=opened.mpp_source,
        slide_digest=opened.digest,
        tile_px=grid.tile_px,
        side_l0=grid.side_l0,
        target_mpp=facts.grid.target_mpp,
        effective_mpp=grid.plan.mpp,
        overlap_px=facts.grid.overlap_px,
    )


def failure_of(error: SlideError | OSError, source: CohortSlide) -> SlideError:
    """What went wrong with a slide as its failure.

    Raises:
        MachineError: the machine is at fault.
    """
    if isinstance(error, SlideError):
        return error
    if (known := machine_error(error, doing=f"reading {source.where}")) is not None:
        raise known from error
    return SlideError("the file cannot be read", stage="read", detail=str(error))
