"""Timing: three slides, carried through the whole pipeline, and what their rates say."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from gigassl.bags.bag import save_bag
from gigassl.bags.prepare import PreparedSlide
from gigassl.errors import SlideError
from gigassl.pipeline.bag_job import BagJob
from gigassl.pipeline.failures import Failure
from gigassl.pipeline.forecast import N_TIMED
from gigassl.pipeline.jobs import SlideJob, default_workers
from gigassl.pipeline.rows import slide_row
from gigassl.pipeline.slide_encoding import SlideEncoding
from gigassl.pipeline.sources import Outcome, Outcomes, outcome_of_slide
from gigassl.pipeline.stream import Prepare, encode_slides
from gigassl.slides.cohort import CohortSlide
from gigassl.tiles.engine import TileEncoder
from gigassl.vectors.table import one_row, save_table

_SECONDS_A_SLIDE = 20.0
_FEWEST_BATCHES = 8


@dataclass(frozen=True, kw_only=True)
class TimedSlide:
    """One slide that was timed.

    Attributes:
        n_tiles: tiles that were read and encoded; of a large slide not all.
        seconds: they took, beside the opening of the next slide.
        cpu_seconds: of all threads meanwhile.
        row_bytes: of its row, as a file of its own.
        bag_bytes: of its bag.
    """

    slide_id: str
    n_tiles: int
    seconds: float
    cpu_seconds: float
    row_bytes: int
    bag_bytes: int


@dataclass(frozen=True, kw_only=True)
class Timed:
    """The slides that were timed, and those that failed in it.

    Attributes:
        dim: width of their vectors.
    """

    slides: Sequence[TimedSlide]
    failures: Sequence[Failure] = ()
    dim: int = 0


def pick(tiles: Mapping[str, int]) -> Sequence[str]:
    """A small, a middle and a large slide, each for a third of all tiles.

    >>> pick({"a": 1, "b": 1, "c": 4, "d": 20, "e": 100})
    ['d', 'e']
    """
    names = sorted(tiles, key=lambda name: (tiles[name], name))
    if not names:
        return []
    share = np.cumsum([tiles[name] for name in names]) / sum(tiles.values())
    at = {int(np.searchsorted(share, (2 * k + 1) / (2 * N_TIMED))) for k in range(N_TIMED)}
    return [names[i] for i in sorted(at)]


def time_slides(
    job: SlideJob | BagJob, sources: Sequence[CohortSlide], *, encoding: SlideEncoding
) -> Timed:
    """Carries slides through reading, encoding and writing, as a run does, and times each.

    The files are written to a temporary folder, which is gone afterwards.

    Raises:
        MachineError: disk, memory or file handles.
    """
    watch = _Watch()
    kept: list[tuple[Outcome, Future[_Written | Failure]]] = []
    with (
        TemporaryDirectory() as folder,
        ThreadPoolExecutor(1, thread_name_prefix="write") as writer,
        closing(_outcomes(job, sources, watch)) as outcomes,
    ):
        for outcome in outcomes:
            written = writer.submit(_write, outcome, Path(folder), encoding=encoding)
            kept.append((outcome, written))
    slides, failures, dims = [], [], [0]
    for (outcome, future), mark in zip(kept, watch.marks, strict=True):
        done = future.result()
        if isinstance(done, Failure):
            failures.append(done)
            continue
        dims.append(done.dim)
        slides.append(_timed(outcome, mark, done))
    return Timed(slides=slides, failures=failures, dim=dims[-1])


def _timed(outcome: Outcome, mark: "_Mark", done: "_Written") -> TimedSlide:
    return TimedSlide(
        slide_id=outcome.source.slide_id, n_tiles=mark.n_tiles, seconds=mark.seconds,
        cpu_seconds=mark.cpu_seconds, row_bytes=done.row_bytes, bag_bytes=done.bag_bytes,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Written:
    """What was written of a slide."""

    dim: int
    row_bytes: int
    bag_bytes: int


@dataclass(frozen=True, kw_only=True)
class _Mark:
    n_tiles: int
    seconds: float
    cpu_seconds: float


@dataclass(kw_only=True)
class _Watch:
    """A progress that notes when slides are done; it runs from when the first one was opened."""

    marks: list[_Mark] = field(default_factory=list)
    n_tiles: int = 0
    last: tuple[float, float] | None = None

    def begin(self) -> None:
        if self.last is None:
            self.last = _now()

    def started(self, n_slides: int) -> None:
        pass

    def tiles_done(self, n_tiles: int) -> None:
        self.n_tiles += n_tiles

    def slide_done(self, slide_id: str, *, failed: bool) -> None:
        now = _now()
        wall, cpu = self.last or now
        self.marks.append(
            _Mark(n_tiles=self.n_tiles, seconds=now[0] - wall, cpu_seconds=now[1] - cpu)
        )
        self.n_tiles, self.last = 0, now


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _outcomes(job: SlideJob | BagJob, sources: Sequence[CohortSlide], watch: _Watch) -> Outcomes:
    if isinstance(job, BagJob):
        watch.begin()
        yield from job.outcomes(sources, progress=watch)
        return
    prepare = _shortened(job.prepare, most=_most_tiles(job.encoder, job.tiles.grid.tile_px))

    def opened(source: CohortSlide) -> PreparedSlide:
        prepared = prepare(source)
        watch.begin()
        return prepared

    slides = encode_slides(
        sources, prepare=opened, encoder=job.encoder, progress=watch,
        workers=job.options.workers or default_workers(job.encoder.device),
    )  # fmt: skip
    with closing(slides), job.staging.ahead(sources):
        for slide in slides:
            yield outcome_of_slide(slide, job.facts)


def _most_tiles(encoder: TileEncoder, tile_px: int) -> int:
    """So many tiles that a slide takes some seconds; the first calls also set things up."""
    tiles = np.zeros((encoder.batch_size, tile_px, tile_px, 3), dtype=np.uint8)
    encoder.encode(tiles)
    begin = time.perf_counter()
    encoder.encode(tiles)
    batches = _SECONDS_A_SLIDE / max(time.perf_counter() - begin, 1e-6)
    return encoder.batch_size * max(_FEWEST_BATCHES, int(batches))


def _shortened(prepare: Prepare, *, most: int) -> Prepare:
    """Opens slides with no more than their first tiles."""

    def shortened(source: CohortSlide) -> PreparedSlide:
        prepared = prepare(source)
        grid = prepared.grid
        if len(grid) <= most:
            return prepared
        short = replace(grid, coords=grid.coords[:most], tissue=grid.tissue[:most])
        return replace(prepared, grid=short)

    return shortened


def _write(outcome: Outcome, folder: Path, *, encoding: SlideEncoding) -> _Written | Failure:
    """Writes row and bag of a slide."""
    if outcome.bag is None:
        failure = outcome.failure or SlideError("no features came back", stage="encode")
        return Failure.of(outcome.source, failure)
    table, bag = folder / "row.parquet", folder / "bag.h5"
    try:
        row = slide_row(outcome.source, outcome.bag, encoding=encoding, settings_digest="")
        save_bag(outcome.bag, bag)
    except SlideError as error:
        return Failure.of(outcome.source, error)
    save_table(one_row(row, provenance={}), table)
    return _Written(
        dim=len(row.embedding), row_bytes=table.stat().st_size, bag_bytes=bag.stat().st_size
    )
