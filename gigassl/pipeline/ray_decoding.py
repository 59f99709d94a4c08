"""What a decoder does: a slide into parcels of tiles; no Ray and no PyTorch here."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8

from gigassl.bags.info import BagInfo
from gigassl.bags.prepare import PreparedSlide
from gigassl.errors import SlideError
from gigassl.files import MachineError
from gigassl.pipeline.opening import Opening, RunFacts, bag_info, failure_of
from gigassl.slides.cohort import CohortSlide

# tiles that travel together: small batches would spend their time on the way
_TILES_PER_PARCEL = 64


@dataclass(frozen=True, kw_only=True)
class OpenedSlide:
    """What comes before the tiles of a slide."""

    info: BagInfo
    coords: Int64[np.ndarray, "tile 2"]


Parcel = OpenedSlide | UInt8[np.ndarray, "tile row col 3"] | SlideError | MachineError
"""First the opened slide, then its tiles in order; an error is the last one."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How slides are decoded; it travels to the decoders.

    Attributes:
        batch_size: a parcel holds whole batches of so many tiles.
        threads: that read one slide.
    """

    opening: Opening
    batch_size: int
    threads: int

    @property
    def parcel_tiles(self) -> int:
        """Tiles of a parcel, whole batches.

        >>> from gigassl.bags.prepare import TileSettings
        >>> opening = Opening(tiles=TileSettings())
        >>> Decoding(opening=opening, batch_size=24, threads=1).parcel_tiles
        72
        """
        return -(-_TILES_PER_PARCEL // self.batch_size) * self.batch_size


def decode_slide(source: CohortSlide, how: Decoding, facts: RunFacts) -> Iterator[Parcel]:
    """Yields a slide's facts, and then its tiles parcel by parcel; an error ends it."""
    prepared: PreparedSlide | None = None
    try:
        prepared = how.opening(source)
        yield OpenedSlide(info=bag_info(source, prepared, facts), coords=prepared.grid.coords)
        yield from _parcels(prepared, how)
    except (SlideError, OSError) as error:
        yield _told(error, source)
    except MachineError as error:
        yield error
    finally:
        if prepared is not None:
            prepared.close()


def _told(error: SlideError | OSError, source: CohortSlide) -> SlideError | MachineError:
    try:
        return failure_of(error, source)
    except MachineError as known:
        return known


def _parcels(
    prepared: PreparedSlide, how: Decoding
) -> Iterator[UInt8[np.ndarray, "tile row col 3"]]:
    """Tiles in the order of the grid, read ahead by as many parcels as there are threads."""
    ahead: deque[Future[UInt8[np.ndarray, "tile row col 3"]]] = deque()
    n_tiles = len(prepared.grid)
    with ThreadPoolExecutor(how.threads, thread_name_prefix="read") as readers:
        try:
            for start in range(0, n_tiles, how.parcel_tiles):
                indices = np.arange(start, min(start + how.parcel_tiles, n_tiles))
                ahead.append(readers.submit(prepared.tiles.read, indices))
                if len(ahead) > how.threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            readers.shutdown(cancel_futures=True)
