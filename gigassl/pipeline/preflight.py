"""Pre-flight: what embedding a collection will take, without writing anything."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gigassl.bags.prepare import inputs_digest
from gigassl.digests import digest_of_settings
from gigassl.pipeline.bag_job import BagJob
from gigassl.pipeline.bank_estimate import free_bytes
from gigassl.pipeline.embed import DEFAULT_ENCODER, EmbedSettings, shard_path
from gigassl.pipeline.failures import missing_files
from gigassl.pipeline.forecast import Forecast, mean_rate
from gigassl.pipeline.jobs import RunOptions, SlideJob, default_workers, known_inputs
from gigassl.pipeline.parts import Parts
from gigassl.pipeline.places import LocalPlace
from gigassl.pipeline.preflight_result import DiskNeed, EmbedEstimate
from gigassl.pipeline.preflight_survey import Survey, survey
from gigassl.pipeline.preflight_timing import Timed, pick, time_slides
from gigassl.pipeline.progress import Progress, Silent
from gigassl.pipeline.slide_encoding import slide_encoding
from gigassl.slides.cohort import Cohort, CohortSlide, is_bag, read_cohort
from gigassl.slides.grid import make_grid
from gigassl.slides.reader import open_slide
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.engine import TileEncoder

# finding tissue takes a second or so of a large slide: of more slides a sample does
_LOOK_AT = 1000
# those in a store are fetched whole to be looked at
_LOOK_AT_REMOTE = 24
_ROW_FACTS_BYTES = 200


def estimate_embed(
    source: Path | str | Cohort, out: Path | str, *, encoder: TileEncoder | str = DEFAULT_ENCODER,
    settings: EmbedSettings | None = None, options: RunOptions | None = None,
    progress: Progress | None = None,
) -> EmbedEstimate:  # fmt: skip
    """What ``embed`` would take with the same arguments; writes nothing.

    Every slide's header is opened, its tissue found (of more than 1,000 slides, on a random
    sample), and three slides are carried through the whole pipeline: a small, a middle and a large
    one, each for a third of all tiles. The time is the number of tiles times the mean rate of the
    three, with a t-interval on their logarithms. Slides in a store are not opened, save a few.

    Raises:
        SettingsError: input or settings that cannot be used.
        MachineError: no file handles, no memory.
    """
    settings, options = settings or EmbedSettings(), options or RunOptions()
    options = replace(options, overviews=None, engine=None)
    if not isinstance(source, Cohort):
        source = read_cohort(source, slide_dir=options.slide_dir, stores=options.stores)
    if options.shard is not None:
        index, of = options.shard
        source = source.shard(index, of=of)
        out = shard_path(out, index, of=of) if isinstance(out, Path) else out
    flight = _Flight(source, out, encoder=encoder, settings=settings, options=options)
    return flight.estimate(progress or Silent())


class _Flight:
    """One pre-flight: what would be done, and how it is looked at."""

    def __init__(
        self, cohort: Cohort, out: Path | str, *, encoder: TileEncoder | str,
        settings: EmbedSettings, options: RunOptions,
    ) -> None:  # fmt: skip
        self.cohort, self.out, self.options = cohort, out, options
        self.encoding = slide_encoding(settings.slide_encoder, views=settings.views)
        self.job = _job(cohort, encoder=encoder, settings=settings, options=options)
        if self.job.gives is not None:
            self.encoding.check(self.job.gives)

    def estimate(self, progress: Progress) -> EmbedEstimate:
        todo = self._todo()
        seen = self._survey(todo, progress)
        picked = set(pick(seen.tiles))
        ordered = sorted(
            (slide for slide in todo if slide.slide_id in picked),
            key=lambda slide: seen.tiles[slide.slide_id],
        )
        timed = time_slides(self.job, ordered, encoding=self.encoding)
        failures = [*missing_files(self.cohort), *seen.failures, *timed.failures]
        wall = sum(slide.seconds for slide in timed.slides)
        return EmbedEstimate(
            n_slides=len(todo),
            n_reused=len(self.cohort) - len(todo),
            n_looked_at=len(seen.tiles),
            n_tiles=seen.n_tiles,
            failures=sorted(failures, key=lambda failure: failure.slide_id),
            seconds=_seconds(seen, timed),
            cores=sum(slide.cpu_seconds for slide in timed.slides) / wall if wall else 0.0,
            device="" if isinstance(self.job, BagJob) else self.job.encoder.device,
            timed=timed.slides,
            disk=self._disk(todo, seen, timed),
        )

    def _todo(self) -> list[CohortSlide]:
        """Slides without a row that still holds; of an output in a store, all of them."""
        slides = list(self.cohort.slides)
        if not isinstance(self.out, Path):
            return slides
        record = {**self.job.settings, "slide_encoder": self.encoding.settings}
        parts = Parts(
            self.out, place=LocalPlace(), settings_digest=digest_of_settings(record), provenance={}
        )
        done = parts.reusable(slides, known_inputs(slides, masks=self.options.masks))
        return [slide for slide in slides if slide.slide_id not in done]

    def _survey(self, todo: Sequence[CohortSlide], progress: Progress) -> Survey:
        remote = any(slide.remote is not None for slide in todo)
        measures = _Measures(job=self.job, options=self.options)
        is_slides = isinstance(self.job, SlideJob)
        return survey(
            todo,
            size=measures.in_bytes if remote or not is_slides else measures.room,
            count=measures.tiles,
            look_at=_LOOK_AT_REMOTE if remote else _LOOK_AT if is_slides else len(todo),
            workers=self.options.workers or default_workers("cuda"),
            progress=progress,
        )

    def _disk(self, todo: Sequence[CohortSlide], seen: Survey, timed: Timed) -> DiskNeed | None:
        if not timed.slides:
            return None
        n_rows = len(seen.sizes)
        row = max(slide.row_bytes for slide in timed.slides)
        tile = max(slide.bag_bytes / slide.n_tiles for slide in timed.slides)
        remote = sum(slide.n_bytes() for slide in todo if slide.remote is not None)
        cache = min(remote, round(self.options.stores.cache_gb * 1e9))
        return DiskNeed(
            table=n_rows * (4 * timed.dim + _ROW_FACTS_BYTES),
            running=n_rows * row,
            bags=round(seen.n_tiles.value * tile) if self.options.keep_bags else None,
            cache=cache or None,
            free=free_bytes(self.out.parent) if isinstance(self.out, Path) else None,
        )


def _seconds(seen: Survey, timed: Timed) -> Forecast | None:
    """Tiles times the mean rate; the slides to come share the work as their sizes do."""
    if not timed.slides:
        return None
    sizes = np.array([*seen.sizes.values()])
    rate = mean_rate(
        [slide.seconds / slide.n_tiles for slide in timed.slides],
        shares=(sizes / sizes.sum()).tolist(),
    )
    return seen.n_tiles.times(rate)


@dataclass(frozen=True, kw_only=True)
class _Measures:
    """Numbers of one slide, as the survey asks for them."""

    job: SlideJob | BagJob
    options: RunOptions

    def room(self, source: CohortSlide) -> float:
        """Tiles that fit on a slide, tissue or not; the header says it."""
        assert isinstance(self.job, SlideJob)
        inputs_digest(source, masks=self.options.masks)  # it fails where the mask is missing
        tiles = self.job.tiles
        default_mpp = tiles.default_mpp
        with open_slide(source.path, cohort_mpp=source.mpp, default_mpp=default_mpp) as slide:
            return float(len(make_grid(slide.info, tiles.grid, tissue=None)))

    def in_bytes(self, source: CohortSlide) -> float:
        """Size of a file; one in a store is not fetched for it."""
        return float(source.n_bytes())

    def tiles(self, source: CohortSlide) -> float:
        """Tiles that a slide has, or a bag holds."""
        if isinstance(self.job, BagJob):
            return float(self.job.count_tiles(source))
        prepared = self.job.prepare(source)
        try:
            return float(len(prepared.grid))
        finally:
            prepared.close()


def _job(
    cohort: Cohort, *, encoder: TileEncoder | str, settings: EmbedSettings, options: RunOptions
) -> SlideJob | BagJob:
    if cohort.slides and is_bag(cohort.slides[0].path):
        return BagJob(cohort.slides, options=options, default_mpp=settings.tiles.default_mpp)
    return SlideJob(encoder=load_encoder(encoder), tiles=settings.tiles, options=options)
