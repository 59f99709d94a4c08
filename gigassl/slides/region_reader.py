"""Region reader: squares anywhere in a slide, at any resolution, by the fastest right way."""

from collections.abc import Collection

import numpy as np
from jaxtyping import UInt8

from gigassl.errors import SlideError
from gigassl.slides.grid import GridSettings, ReadPlan, plan_reading
from gigassl.slides.jpeg import open_jpeg_level
from gigassl.slides.level_reader import LevelReader, verified_jpeg_level
from gigassl.slides.reader import Slide

# a region and the one beside it share stored tiles; others are far away
_KEEP_BYTES = 4 << 20


class RegionReader:
    """Reads squares of one slide; may be called from several threads at once."""

    def __init__(self, slide: Slide, *, jpeg_levels: Collection[int] | None = None) -> None:
        """Opens nothing yet.

        Args:
            slide: stays open as long as the reader is used.
            jpeg_levels: levels whose stored JPEG tiles are known to give OpenSlide's pixels (see
                ``verified_jpeg_levels``); None checks a level when it is first read.
        """
        self._slide = slide
        self._jpeg_levels = jpeg_levels
        self._levels: dict[int, LevelReader] = {}

    def read_into(
        self, out: UInt8[np.ndarray, "side side 3"], *, x_l0: int, y_l0: int, mpp: float
    ) -> None:
        """Fills ``out`` with the square whose top-left corner is given, at ``mpp`` µm/px.

        Read is the coarsest level that is fine enough; one within 2 % of ``mpp`` as it is, others
        area-averaged. What is wanted finer than level 0 is enlarged. The corner is rounded to a
        pixel of the level, and moved inside where that rounding would leave the slide.

        Raises:
            SlideError: the square does not lie in the slide, or stored pixels are damaged.
            MachineError: no file handles left.
        """
        settings = GridSettings(tile_px=out.shape[0], target_mpp=mpp, allow_upsampling=True)
        plan = plan_reading(self._slide.info, settings)
        corner, read_px = self._place(x_l0, y_l0, plan=plan, tolerance=settings.mpp_tolerance)
        level = self._level(plan.level)
        level.read_square(*corner, read_px=read_px, out=out)

    def _place(
        self, x_l0: int, y_l0: int, *, plan: ReadPlan, tolerance: float
    ) -> tuple[tuple[int, int], int]:
        """Corner and side in px of the level, inside it."""
        sizes = self._slide.level_sizes[plan.level]
        # one px more for the rounding of the corner, one for that of the side
        slack = plan.read_px * tolerance + 2
        found = []
        for position, size in zip((x_l0, y_l0), sizes, strict=True):
            at = round(position / plan.downsample)
            over = at + plan.read_px - size
            if at < 0 or over > slack:
                raise SlideError(
                    f"the square of {plan.read_px * plan.downsample:.0f} px at ({x_l0}, {y_l0}) "
                    "does not lie in the slide",
                    stage="read",
                )
            found.append(max(0, min(at, size - plan.read_px)))
        return (found[0], found[1]), min(plan.read_px, *sizes)

    def _level(self, number: int) -> LevelReader:
        reader = self._levels.get(number)
        if reader is None:
            slide, known = self._slide, self._jpeg_levels
            if known is None:
                jpeg = verified_jpeg_level(slide, number)
            else:
                size = slide.level_sizes[number]
                jpeg = open_jpeg_level(slide.path, size) if number in known else None
            if jpeg is not None:
                jpeg.keep_at_most(_KEEP_BYTES)
            reader = self._levels[number] = LevelReader(slide, number, jpeg=jpeg)
        return reader


def verified_jpeg_levels(slide: Slide) -> list[int]:
    """Levels whose stored JPEG tiles give exactly OpenSlide's pixels when decoded directly.

    Raises:
        SlideError: the slide cannot be read.
        MachineError: no file handles left.
    """
    levels = range(len(slide.level_sizes))
    return [level for level in levels if verified_jpeg_level(slide, level) is not None]
