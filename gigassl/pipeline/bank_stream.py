"""Slides in, augmented features out: reading runs one step ahead of encoding, in bounded memory."""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32

from gigassl.bags.bank_draws import (
    DrawSettings,
    ReadingStep,
    SlideDraws,
    draw_for_slide,
    reading_steps,
)
from gigassl.bags.reduction import Reduction
from gigassl.pipeline.progress import Progress
from gigassl.pipeline.stream import Prepare, SlideInHand, close, failing, reading
from gigassl.slides.cohort import CohortSlide
from gigassl.slides.tile_reader import TileReader
from gigassl.tiles.engine import TileEncoder

# of decoded tiles per slide; two slides may be in hand where one ends
MEMORY_BUDGET = 1 << 30
_TILES_PER_READ = 16

_Tiles = list[np.ndarray[Any, np.dtype[np.uint8]]]


@dataclass(kw_only=True)
class AugmentedSlide:
    """One slide on its way: its draws, its decoded tiles, its features as they come.

    Attributes:
        slide: its file; closed for reading once handed out. ``slide.failure`` says why there are no
            features.
        pixels: decoded tiles by position in the grid, from first to last use.
    """

    slide: SlideInHand
    draws: SlideDraws | None = None
    features: Float32[np.ndarray, "augmentation tile dim"] | None = None
    pixels: dict[int, np.ndarray[Any, np.dtype[np.uint8]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """A step whose tiles are being read; the last one of a slide ends it."""

    work: AugmentedSlide
    step: ReadingStep | None
    reads: Sequence["Future[_Tiles]"]
    is_last: bool

    @property
    def slide(self) -> SlideInHand:
        """Whose it is."""
        return self.work.slide


@dataclass(frozen=True, kw_only=True)
class Augmenting:
    """How tiles become stored features.

    Attributes:
        settings: what is drawn.
        reduction: applied to what the encoder gives, if any.
        memory_budget: bytes of decoded tiles per slide.
    """

    encoder: TileEncoder
    settings: DrawSettings
    reduction: Reduction | None = None
    memory_budget: int = MEMORY_BUDGET


def encode_augmented(
    sources: Sequence[CohortSlide], *, prepare: Prepare, how: Augmenting, workers: int,
    progress: Progress,
) -> Generator[AugmentedSlide, None, None]:  # fmt: skip
    """Yields every slide, in the order given, with its features or with its failure.

    Each distinct tile is decoded once. While the tiles of one step are encoded, reader threads
    decode those of the next, across the border of slides.

    Raises:
        MachineError: disk, memory or file handles, which would hit every slide alike.
    """
    in_flight: deque[_Stretch] = deque()
    with reading(sources, prepare=prepare, workers=workers, in_flight=in_flight) as ahead:
        for stretch in _stretches(ahead.slides, readers=ahead.readers, how=how):
            if stretch is not None:
                in_flight.append(stretch)
            if stretch is None or len(in_flight) > 1:
                yield from _encode(in_flight.popleft(), how=how, progress=progress)
        while in_flight:
            yield from _encode(in_flight.popleft(), how=how, progress=progress)


def _stretches(
    slides: Iterator[SlideInHand | None], *, readers: ThreadPoolExecutor, how: Augmenting
) -> Iterator[_Stretch | None]:
    """Submits the reads of one step after another; the caller draws one step ahead."""
    for slide in slides:
        if slide is None:
            yield None
            continue
        work, prepared = AugmentedSlide(slide=slide), slide.prepared
        if prepared is None:
            yield _Stretch(work=work, step=None, reads=(), is_last=True)
            continue
        work.draws = draw_for_slide(
            how.settings, slide_id=slide.source.slide_id, coords=prepared.grid.coords
        )
        most_held = how.memory_budget // (3 * prepared.grid.tile_px**2)
        steps = reading_steps(work.draws.tiles, most_held=most_held)
        for step in steps:
            if slide.failure is not None:
                yield _Stretch(work=work, step=None, reads=(), is_last=True)
                break
            pieces = range(0, len(step.new), _TILES_PER_READ)
            reads = [
                readers.submit(_read_apart, prepared.tiles, step.new[i : i + _TILES_PER_READ])
                for i in pieces
            ]
            yield _Stretch(work=work, step=step, reads=reads, is_last=step is steps[-1])


def _read_apart(reader: TileReader, indices: np.ndarray[Any, np.dtype[np.int64]]) -> _Tiles:
    """Each tile as an array of its own, so that it can be let go of on its own."""
    return [reader.read(indices[i : i + 1])[0] for i in range(len(indices))]


def _encode(stretch: _Stretch, *, how: Augmenting, progress: Progress) -> Iterator[AugmentedSlide]:
    """Encodes one step; yields the slide when this was its last."""
    work, step = stretch.work, stretch.step
    if step is not None:
        with failing(work.slide):
            if work.slide.failure is None:
                _take(stretch, step)
                for number in step.augmentations:
                    _encode_batch(work, number, how=how)
                    progress.tiles_done(how.settings.tiles)
                for index in step.spent.tolist():
                    del work.pixels[index]
    if work.slide.failure is not None:
        work.pixels.clear()
        # let threads finish before the file is closed
        wait([read for read in stretch.reads if not read.cancel()])
    if stretch.is_last:
        close(work.slide)
        failed = work.slide.failure is not None
        progress.slide_done(work.slide.source.slide_id, failed=failed)
        yield work


def _take(stretch: _Stretch, step: ReadingStep) -> None:
    indices = iter(step.new.tolist())
    for read in stretch.reads:
        for tile in read.result():
            stretch.work.pixels[next(indices)] = tile


def _encode_batch(work: AugmentedSlide, number: int, *, how: Augmenting) -> None:
    """Encodes the tiles of one augmentation; batches are cut alike whatever the run."""
    assert work.draws is not None
    wanted, drawn = work.draws.tiles[number].tolist(), work.draws.augmentations[number]
    found = []
    for start in range(0, len(wanted), how.encoder.batch_size):
        some = wanted[start : start + how.encoder.batch_size]
        tiles = np.stack([work.pixels[index] for index in some])
        found.append(how.encoder.encode(tiles, augmentation=drawn))
    features = np.concatenate(found)
    if how.reduction is not None:
        features = how.reduction.apply(features)
    if work.features is None:
        shape = (*work.draws.tiles.shape, features.shape[1])
        work.features = np.empty(shape, dtype=np.float32)
    work.features[number] = features
