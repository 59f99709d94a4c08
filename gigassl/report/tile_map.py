"""Tile map: scores of a slide's tiles as colours, and as a picture that covers the slide."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

PX_PER_TILE = 4
"""Side of a tile in the picture: fine enough for tiles that overlap or lie off a grid."""

_EXTREMES = (1.0, 99.0)  # percentiles: one extreme tile must not leave all others without colour


@dataclass(frozen=True, kw_only=True, eq=False)
class TileMap:
    """Scores of the tiles of one slide, and where they lie.

    Attributes:
        slide_id: name of the slide.
        coords: (x, y) of each tile's top-left corner, level-0 px.
        side_l0: side of a tile in level-0 px, not rounded.
        score: of each tile; NaN for none.
        signed: whether scores have a sign that means something: colours then part at zero.
        width_l0, height_l0: size of the slide in level-0 px; where it is not known, of the tiles.
        mpp_l0: level-0 resolution, µm/px; None where not known.
    """

    slide_id: str
    coords: Int64[np.ndarray, "tile 2"]
    side_l0: float
    score: Float64[np.ndarray, " tile"]
    signed: bool
    width_l0: int
    height_l0: int
    mpp_l0: float | None = None

    @property
    def colour_map(self) -> str:
        """Name of Matplotlib's colour map."""
        return "RdBu_r" if self.signed else "inferno"

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Scores that have the first and the last colour; those beyond have them too."""
        known = self.score[np.isfinite(self.score)]
        if len(known) == 0:
            return -1.0, 1.0
        if self.signed:
            most = float(np.percentile(np.abs(known), _EXTREMES[1])) or float(np.abs(known).max())
            return (-most, most) if most > 0 else (-1.0, 1.0)
        low, high = (float(value) for value in np.percentile(known, _EXTREMES))
        if low < high:
            return low, high
        # all (or nearly all) are equal: the middle of the scale
        around = max(abs(low), 1e-12)
        return low - around, low + around

    @cached_property
    def colours(self) -> UInt8[np.ndarray, "tile 3"]:
        """RGB of each tile; grey where there is no score."""
        from matplotlib import colormaps

        low, high = self.limits
        place = np.clip((self.score - low) / (high - low), 0, 1)
        rgb = colormaps[self.colour_map](np.nan_to_num(place))[:, :3]
        rgb[~np.isfinite(self.score)] = 0.6
        found: UInt8[np.ndarray, "tile 3"] = np.rint(rgb * 255).astype(np.uint8)
        return found

    @property
    def l0_per_px(self) -> float:
        """Level-0 px per pixel of ``picture``."""
        return self.side_l0 / PX_PER_TILE

    @cached_property
    def picture(self) -> Float32[np.ndarray, "row col"]:
        """Scores over the whole slide, from its top-left corner; NaN where there is none.

        Where tiles overlap, their mean.
        """
        shape = tuple(
            max(1, int(np.ceil(length / self.l0_per_px)))
            for length in (self.height_l0, self.width_l0)
        )
        total, count = np.zeros(shape), np.zeros(shape, dtype=np.int64)
        first = np.rint(self.coords / self.l0_per_px).astype(np.int64)
        ends = np.rint((self.coords + self.side_l0) / self.l0_per_px).astype(np.int64)
        known = np.isfinite(self.score)
        for (x0, y0), (x1, y1), score in zip(
            first[known].tolist(), ends[known].tolist(), self.score[known].tolist(), strict=True
        ):
            total[y0:y1, x0:x1] += score
            count[y0:y1, x0:x1] += 1
        found = np.full(shape, np.nan, dtype=np.float32)
        np.divide(total, count, out=found, where=count > 0, casting="same_kind")
        return found
