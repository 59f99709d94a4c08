"""Tiles to learn from, read straight from slides."""

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from gigassl.digests import digest_of_settings
from gigassl.errors import SettingsError, SlideError
from gigassl.files import machine_error
from gigassl.slides.reader import Slide, open_slide
from gigassl.slides.region_reader import RegionReader
from gigassl.tiles.pretrain.index import TileIndex, chosen
from gigassl.tiles.pretrain.sampling import DrawnTiles, draw_tiles
from gigassl.tiles.pretrain.settings import SamplingSettings
from gigassl.tiles.pretrain.source import BatchPlan, TileBatch
from gigassl.tiles.pretrain.workers import FileNames, batches_of, refuse_too_few

KEEP_OPEN = 64
"""Slides that one process holds open."""

# a square and its neighbour; what is read next lies elsewhere
_CACHE_BYTES = 8 << 20
_TOLERANCE = 1.02


class SlideTiles:
    """A tile source: squares of the tissue of slides (see ``TileSource`` and ``draw_tiles``)."""

    def __init__(
        self, index: TileIndex, *, tile_px: int, target_mpp: float, settings: SamplingSettings
    ) -> None:
        """Opens no slide.

        Args:
            index: where the tissue is.
            tile_px: side of the tiles that are drawn; another one than the index's will do.
            target_mpp: µm/px that they are drawn at.
            settings: how they are drawn.

        Raises:
            SettingsError: slides are coarser than a resolution that is asked for.
        """
        self._index = replace(index, tile_px=tile_px, target_mpp=target_mpp)
        self._settings = settings
        self.names = index.slide_ids
        self.patient_ids = index.patient_ids
        self.n_tiles = len(index.coords)
        self.tile_px = tile_px
        self.digest = digest_of_settings(
            {"index": self._index.digest, "sampling": settings, "kind": "slides"}
        )
        _refuse_coarse(self._index, settings, laid_at=index.target_mpp)

    def some(self, files: Sequence[int]) -> "SlideTiles":
        """The same of some slides."""
        return SlideTiles(
            chosen(self._index, files), tile_px=self.tile_px,
            target_mpp=self._index.target_mpp, settings=self._settings,
        )  # fmt: skip

    def batches(self, plan: BatchPlan) -> Iterator[TileBatch]:
        """The batches of a plan, in order.

        Raises:
            SettingsError: fewer tiles than a batch; while reading, hardly a slide can be read.
            MachineError: no file handles left.
        """
        refuse_too_few(self.n_tiles, plan, what="these slides hold")
        files = SlideFiles(self._index, self._settings)
        names = FileNames(names=self.names, paths=self._index.paths)
        return batches_of(files, plan, tile_px=self.tile_px, names=names)


def _refuse_coarse(index: TileIndex, settings: SamplingSettings, *, laid_at: float) -> None:
    finest = min(index.target_mpp, settings.second_mpp or math.inf)
    coarse = index.mpp_l0 > finest * _TOLERANCE
    # what the tiles were laid at, the grid settings have allowed
    if finest < laid_at and coarse.any():
        raise SettingsError(
            f"{int(coarse.sum())} of {len(index)} slides are coarser than {finest:g} µm/px "
            f"(to {index.mpp_l0.max():.3g}); choose a coarser resolution, or leave them out"
        )


class SlideFiles:
    """The slides of an index, opened when needed; the least recently used are closed again."""

    def __init__(
        self, index: TileIndex, settings: SamplingSettings, *, keep_open: int = KEEP_OPEN
    ) -> None:
        self._index = index
        self._settings = settings
        self._keep_open = keep_open
        # a tensor, since torch lays those that go to other processes in memory shared by all
        self._coords = torch.from_numpy(index.coords)
        self._open: OrderedDict[int, tuple[Slide, RegionReader]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process gets: the index, its largest part shared, and no open slide."""
        index = replace(
            self._index, coords=np.zeros((0, 2), np.int64), tissue=np.zeros(0, np.float32)
        )
        kept = {"_settings": self._settings, "_keep_open": self._keep_open}
        return {**kept, "_index": index, "_coords": self._coords, "_open": OrderedDict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        coords = self._coords.numpy()
        self._index = replace(self._index, coords=coords, tissue=np.ones(len(coords), np.float32))

    def draw(self, plan: BatchPlan, step: int, *, attempt: int) -> DrawnTiles:
        """The tiles of a whole batch."""
        return draw_tiles(
            self._index, self._settings, seed=plan.seed, step=step, size=plan.size,
            attempt=attempt,
        )  # fmt: skip

    def read_into(
        self, out: UInt8[np.ndarray, "side side 3"], *, file: int, corner: tuple[int, int],
        mpp: float,
    ) -> None:  # fmt: skip
        """Fills ``out`` with a square of a slide.

        Raises:
            SlideError: it cannot be read, or is not the slide that the index was made from.
            MachineError: no file handles left.
        """
        path = self._index.paths[file]
        try:
            _, reader = self._opened(file)
            reader.read_into(out, x_l0=corner[0], y_l0=corner[1], mpp=mpp)
        except SlideError:
            # OpenSlide reads nothing more after an error; anew, it reads what is whole
            self._close(file)
            raise
        except OSError as error:
            self._close(file)
            if (known := machine_error(error, doing=f"reading {path}")) is not None:
                raise known from error
            raise SlideError("the file cannot be read", stage="read", detail=str(error)) from error

    def close(self) -> None:
        """Closes all slides."""
        for number in list(self._open):
            self._close(number)

    def _opened(self, number: int) -> tuple[Slide, RegionReader]:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        if len(self._open) >= self._keep_open:
            self._close(next(iter(self._open)))
        index = self._index
        slide = open_slide(
            index.paths[number], cohort_mpp=float(index.mpp_l0[number]), cache_bytes=_CACHE_BYTES
        )
        if slide.digest != index.slide_digests[number]:
            slide.close()
            raise SlideError(
                "the file has changed since its tiles were laid; begin the run anew", stage="open"
            )
        bits = int(index.jpeg_levels[number])
        levels = [level for level in range(len(slide.level_sizes)) if bits >> level & 1]
        self._open[number] = slide, RegionReader(slide, jpeg_levels=levels)
        return self._open[number]

    def _close(self, number: int) -> None:
        if number in self._open:
            slide, _ = self._open.pop(number)
            slide.close()
