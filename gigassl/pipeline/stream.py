"""Slides in, bags out: opening, reading and encoding overlap, in bounded memory and fixed order."""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float16, Float32, UInt8

from gigassl.bags.prepare import PreparedSlide
from gigassl.errors import SlideError
from gigassl.pipeline.opening import failure_of
from gigassl.pipeline.progress import Progress
from gigassl.slides.cohort import CohortSlide
from gigassl.slides.grid import TileGrid
from gigassl.tiles.engine import TileEncoder
from gigassl.tiles.turns import N_VARIANTS

# slides opened ahead of the one that is being read: hides opening, thumbnail and tissue finding
_OPEN_AHEAD = 2

Prepare = Callable[[CohortSlide], PreparedSlide]


@dataclass(kw_only=True)
class SlideInHand:
    """One slide on its way: opened, its features filled in batch by batch, or failed.

    ``features`` are those of the slide as it lies, and of its turned variants if they are wanted.
    Once handed out, ``prepared`` is closed for reading; its facts and its grid stay usable.
    """

    source: CohortSlide
    prepared: PreparedSlide | None = None
    features: Float16[np.ndarray, "variant tile dim"] | None = None
    failure: SlideError | None = None


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A batch of tiles that a reader thread is decoding; the last one of a slide ends it."""

    slide: SlideInHand
    start: int
    tiles: "Future[UInt8[np.ndarray, 'tile row col 3']] | None"
    is_last: bool


def encode_slides(
    sources: Sequence[CohortSlide], *, prepare: Prepare, encoder: TileEncoder, workers: int,
    progress: Progress, variants: bool = False,
) -> Generator[SlideInHand, None, None]:  # fmt: skip
    """Yields every slide, in the order given, with float16 features or with its failure.

    Reader threads (decoding releases the interpreter lock) work ahead of the encoder by a fixed
    number of batches, across the border of slides. Batches are cut per slide, so features depend
    neither on the neighbours in the run nor on ``workers``.

    Args:
        variants: encode every batch eight times, turned and mirrored (``gigassl.tiles.turns``); it
            is read once.

    Raises:
        MachineError: disk, memory or file handles, which would hit every slide alike.
    """
    in_flight: deque[_Read] = deque()
    how = _Encoding(encoder=encoder, n_variants=N_VARIANTS if variants else 1, progress=progress)
    with reading(sources, prepare=prepare, workers=workers, in_flight=in_flight) as ahead:
        for read in _reads(ahead.slides, readers=ahead.readers, batch_size=encoder.batch_size):
            if read is not None:
                in_flight.append(read)
            if read is None or len(in_flight) > workers + 1:
                yield from _encode(in_flight.popleft(), how)
        while in_flight:
            yield from _encode(in_flight.popleft(), how)


@dataclass(frozen=True, kw_only=True)
class _Encoding:
    """What turns tiles into features, and how often."""

    encoder: TileEncoder
    n_variants: int
    progress: Progress


@runtime_checkable
class InFlight(Protocol):
    """Something being read of a slide."""

    @property
    def slide(self) -> SlideInHand:
        """Whose it is."""


@dataclass(frozen=True, kw_only=True)
class ReadingAhead:
    """Slides opened one after another, and the threads that read them.

    While the next slide is not open yet, ``slides`` gives None as long as something is in flight:
    the caller finishes one thing, which may be what the next slide waits for.
    """

    slides: Generator[SlideInHand | None, None, None]
    readers: ThreadPoolExecutor


@contextmanager
def reading(
    sources: Sequence[CohortSlide], *, prepare: Prepare, workers: int,
    in_flight: Collection[InFlight],
) -> Iterator[ReadingAhead]:  # fmt: skip
    """Opens slides ahead inside; at the end threads have stopped and no slide is left open.

    Args:
        in_flight: what the caller has not finished when it leaves.
    """
    readers = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="read")
    opener = ThreadPoolExecutor(max_workers=_OPEN_AHEAD, thread_name_prefix="open")
    slides = _opened_ahead(sources, prepare=prepare, opener=opener, in_flight=in_flight)
    try:
        yield ReadingAhead(slides=slides, readers=readers)
    finally:
        readers.shutdown(cancel_futures=True)
        # before the openers end: one may wait for the room that a slide in flight takes
        for item in in_flight:
            close(item.slide)
        opener.shutdown(cancel_futures=True)
        slides.close()


def _opened_ahead(
    sources: Sequence[CohortSlide], *, prepare: Prepare, opener: ThreadPoolExecutor,
    in_flight: Collection[InFlight],
) -> Generator[SlideInHand | None, None, None]:  # fmt: skip
    """Opens slides a few ahead, and closes those left open when the run ends early."""
    ahead: deque[tuple[CohortSlide, Future[PreparedSlide]]] = deque()
    waiting = iter(sources)
    try:
        while True:
            while len(ahead) < _OPEN_AHEAD and (source := next(waiting, None)) is not None:
                ahead.append((source, opener.submit(prepare, source)))
            if not ahead:
                return
            while in_flight and not ahead[0][1].done():
                yield None
            source, future = ahead.popleft()
            slide = SlideInHand(source=source)
            with failing(slide):
                slide.prepared = future.result()
            yield slide
    finally:
        for _, future in ahead:
            if not future.cancel() and future.exception() is None:
                future.result().close()


def _reads(
    slides: Iterator[SlideInHand | None], *, readers: ThreadPoolExecutor, batch_size: int
) -> Iterator[_Read | None]:
    """Submits batches, slide after slide; the caller draws only as many as may be in flight."""
    for slide in slides:
        if slide is None:
            yield None
            continue
        prepared = slide.prepared
        if prepared is None:
            yield _Read(slide=slide, start=0, tiles=None, is_last=True)
            continue
        n_tiles = len(prepared.grid)
        for start in range(0, n_tiles, batch_size):
            if slide.failure is not None:
                yield _Read(slide=slide, start=start, tiles=None, is_last=True)
                break
            indices = np.arange(start, min(start + batch_size, n_tiles))
            tiles = readers.submit(prepared.tiles.read, indices)
            yield _Read(
                slide=slide, start=start, tiles=tiles, is_last=start + batch_size >= n_tiles
            )


def _encode(read: _Read, how: _Encoding) -> Iterator[SlideInHand]:
    """Encodes one batch; yields the slide when this was its last."""
    slide = read.slide
    if read.tiles is not None and slide.failure is not None:
        # a batch of a slide given up meanwhile: let its thread finish before the file is closed
        if not read.tiles.cancel():
            wait([read.tiles])
    elif read.tiles is not None:
        with failing(slide):
            tiles = read.tiles.result()
            for variant in range(how.n_variants):
                features = how.encoder.encode(tiles, variant=variant)
                _fill(slide, features, start=read.start, variant=variant, of=how.n_variants)
            how.progress.tiles_done(len(tiles))
    if read.is_last:
        close(slide)
        how.progress.slide_done(slide.source.slide_id, failed=slide.failure is not None)
        yield slide


def _fill(
    slide: SlideInHand, features: Float32[np.ndarray, "tile dim"], *, start: int, variant: int,
    of: int,
) -> None:  # fmt: skip
    """Stores a batch's features."""
    if slide.features is None:
        slide.features = np.empty((of, len(_grid(slide)), features.shape[1]), dtype=np.float16)
    slide.features[variant, start : start + len(features)] = as_stored(features)


def as_stored(features: Float32[np.ndarray, "tile dim"]) -> Float16[np.ndarray, "tile dim"]:
    """Features in float16, the precision of bags on disk.

    Raises:
        SlideError: float16 cannot hold one of them.
    """
    with np.errstate(over="ignore"):
        half = features.astype(np.float16)
    if not np.isfinite(half).all():
        raise SlideError(
            f"the tile encoder gave features beyond float16 (to {np.abs(features).max():.3g})",
            stage="encode",
        )
    return half


def _grid(slide: SlideInHand) -> TileGrid:
    assert slide.prepared is not None
    return slide.prepared.grid


def close(slide: SlideInHand) -> None:
    """Closes the slide's file; its facts and its grid stay usable."""
    if slide.prepared is not None:
        slide.prepared.close()


@contextmanager
def failing(slide: SlideInHand) -> Iterator[None]:
    """What goes wrong inside is this slide's failure, unless the machine is at fault.

    Raises:
        MachineError: the machine is at fault.
    """
    try:
        yield
    except (SlideError, OSError) as error:
        # its frames hold the slide, and the slide would hold them: a circle that keeps files open
        slide.failure = failure_of(error, slide.source).with_traceback(None)
