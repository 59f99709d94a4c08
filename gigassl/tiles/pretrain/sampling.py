"""Which tiles a batch is made of: a pure draw from the index of all tiles."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float64, Int64

from gigassl.tiles.pretrain.draws import inside, jittered, neighbours, seats, spread_within
from gigassl.tiles.pretrain.index import TileIndex
from gigassl.tiles.pretrain.settings import SamplingSettings

# keeps draws apart from whatever else is drawn from the same seed
_DRAW = 0x7469_6C65


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnTiles:
    """Squares to read, in the order of their batch.

    Attributes:
        slide: number of the slide (or image) of each.
        corner: (x, y) of its top-left corner, level-0 px.
        mpp: µm/px that it is read at.
        partner: corner of a neighbour of the same size; None where pairs are of one tile.
        side: of each square, level-0 px.
    """

    slide: Int64[np.ndarray, " drawn"]
    corner: Int64[np.ndarray, "drawn 2"]
    mpp: Float64[np.ndarray, " drawn"]
    partner: Int64[np.ndarray, "drawn 2"] | None
    side: Float64[np.ndarray, " drawn"]

    @property
    def beside(self) -> Bool[np.ndarray, " drawn"] | None:
        """Whether each neighbour lies beside its square, not over a part of it."""
        if self.partner is None:
            return None
        apart = np.abs(self.partner - self.corner).max(axis=1)
        # corners are whole numbers, and sides may not be
        beside: Bool[np.ndarray, " drawn"] = apart > self.side - 1.0
        return beside

    def __len__(self) -> int:
        return len(self.slide)

    def part(self, rank: int, *, world: int) -> "DrawnTiles":
        """What one of several processes reads: every ``world``-th tile, the same number for all."""
        mine = slice(rank, len(self) // world * world, world)
        partner = None if self.partner is None else self.partner[mine]
        return DrawnTiles(
            slide=self.slide[mine], corner=self.corner[mine], mpp=self.mpp[mine], partner=partner,
            side=self.side[mine],
        )  # fmt: skip


def draw_generator(*, seed: int, step: int, attempt: int) -> np.random.Generator:
    """The generator of a batch's tiles, which knows no past."""
    return np.random.default_rng([_DRAW, seed, step, attempt])


def draw_tiles(
    index: TileIndex, settings: SamplingSettings, *, seed: int, step: int, size: int,
    attempt: int = 0,
) -> DrawnTiles:  # fmt: skip
    """The tiles of one batch; a pure function of its arguments.

    Slides are drawn by systematic sampling (see ``seats``), so that the expected share of each is
    exactly in proportion to ``n_tiles ** slide_weight``; of a slide, tiles all over it. A tile
    keeps its centre when its µm/px is jittered, then moves by the offset, and stays in the slide.
    A neighbour lies one side away with its centre on a tile of the index; where there is none in
    any of four directions, it is the tile itself moved by half a side.

    Args:
        attempt: another draw of the same step, for tiles that cannot be read.
    """
    rng = draw_generator(seed=seed, step=step, attempt=attempt)
    weights = index.count.astype(np.float64) ** settings.slide_weight
    slide = seats(weights, size=size, most=settings.slides_per_batch, rng=rng)
    tile = index.first[slide] + spread_within(slide, index.count, rng=rng)
    size_l0, mpp_l0 = index.size_l0[slide], index.mpp_l0[slide]
    # nothing is read that would be larger than its slide
    largest = size_l0.min(axis=1) * mpp_l0 / index.tile_px
    mpp = np.minimum(_resolutions(index, settings, size=size, rng=rng), largest)
    # a grid may lie at its slide's own resolution, a little off the target
    per_mpp = index.side_l0[slide] / index.target_mpp
    side = np.minimum(mpp * per_mpp, size_l0.min(axis=1))
    centre = index.coords[tile] + index.side_l0[slide, None] / 2
    wished = jittered(
        centre - side[:, None] / 2, by=settings.jitter_px * index.side_l0[slide], rng=rng
    )
    corner = inside(wished, side=side, size=size_l0)
    partner = None
    if settings.neighbours:
        allowed = partial(on_a_tile, index, slide)
        partner = neighbours(corner, side=side, size=size_l0, allowed=allowed, rng=rng)
    return DrawnTiles(slide=slide, corner=corner, mpp=mpp, partner=partner, side=side)


def _resolutions(
    index: TileIndex, settings: SamplingSettings, *, size: int, rng: np.random.Generator
) -> Float64[np.ndarray, " drawn"]:
    """µm/px of each tile: the target's or the second one, times a random factor."""
    mpp = np.full(size, index.target_mpp)
    if settings.second_mpp is not None:
        mpp[rng.random(size) < settings.second_share] = settings.second_mpp
    factor = np.exp(rng.uniform(-settings.jitter_mpp, settings.jitter_mpp, size))
    jittered_mpp: Float64[np.ndarray, " drawn"] = mpp * factor
    return jittered_mpp


def on_a_tile(
    index: TileIndex, slide: Int64[np.ndarray, " drawn"], centre: Float64[np.ndarray, "drawn 2"]
) -> Bool[np.ndarray, " drawn"]:
    """Whether the tile of the slide's lattice nearest to each point is one of the index."""
    step = index.step_l0[slide, None]
    nearest = np.rint((centre - index.side_l0[slide, None] / 2) / step)
    wanted = np.rint(nearest * step).astype(np.int64)
    low = index.first[slide]
    end = low + index.count[slide]
    high = end
    # rows come one after another, so that halving finds a corner in all slides at once
    for _ in range(int(index.count.max()).bit_length()):
        middle = np.minimum((low + high) // 2, len(index.coords) - 1)
        x, y = index.coords[middle].T
        before = (y < wanted[:, 1]) | ((y == wanted[:, 1]) & (x < wanted[:, 0]))
        searching = low < high
        low = np.where(searching & before, middle + 1, low)
        high = np.where(searching & ~before, middle, high)
    found = index.coords[np.minimum(low, len(index.coords) - 1)]
    held: Bool[np.ndarray, " drawn"] = (low < end) & (found == wanted).all(axis=1)
    return held
