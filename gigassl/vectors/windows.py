"""Windows: which tiles of each slide a batch of views sees, without a loop over slides."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from gigassl.vectors.tile_store import TileStore

Window = Literal["scatter", "dense"]

_RINGS_PER_TILE = 8
# distances are compared in eighths of a tile, so that grids rounded to whole pixels still tie


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """One group of rows a view: its augmentation, drawn."""

    first: Int64[Tensor, " view"]
    count: Int64[Tensor, " view"]


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where all tiles of each view's group lie, in tile sides; padded to the largest group.

    Attributes:
        place: (x, y) counted from the group's first tile.
        inside: which of them are tiles at all, and lie within the crop.
    """

    place: Float32[Tensor, "view n 2"]
    inside: Bool[Tensor, "view n"]


def draw_rows(
    store: TileStore, slides: Int64[Tensor, " view"], *, tiles: int, window: Window, crop: float,
    generator: torch.Generator,
) -> Int64[Tensor, "view {tiles}"]:  # fmt: skip
    """Rows of the store that each view sees: of one augmentation of its slide, drawn at random.

    "scatter" draws with replacement, as the published method does. "dense" takes the tiles that
    are nearest (Chebyshev, ties at random) to a tile drawn at random; of a group with fewer tiles
    than asked every tile comes in turn. ``crop`` below 1 keeps to an axis-aligned window around a
    tile drawn at random, its sides that fraction of the slide's.
    """
    groups = _draw_groups(store, slides, generator=generator)
    if window == "scatter" and crop == 1.0:
        return groups.first[:, None] + _below(groups.count, tiles, generator=generator)
    layout = _layout(store, slides, groups=groups)
    if crop < 1.0:
        layout = _cropped(layout, groups, crop=crop, generator=generator)
    chosen = (
        _scattered(layout.inside, tiles, generator=generator)
        if window == "scatter"
        else _nearest(layout, tiles, generator=generator)
    )
    return groups.first[:, None] + chosen


def _below(
    bound: Int64[Tensor, " view"], n_draws: int, *, generator: torch.Generator
) -> Int64[Tensor, "view {n_draws}"]:
    """Whole numbers from 0 up to each bound; uneven by less than one in 2**31."""
    shape = (len(bound), n_draws)
    drawn = torch.randint(2**62, shape, device=bound.device, generator=generator)
    return drawn % bound[:, None]


def _draw_groups(
    store: TileStore, slides: Int64[Tensor, " view"], *, generator: torch.Generator
) -> _Groups:
    n_augmentations = store.first.shape[1]
    # drawn also where there is but one, so that banks and bags take the same random numbers
    which = torch.randint(n_augmentations, (len(slides),), device=store.device, generator=generator)
    return _Groups(first=store.first[slides, which], count=store.count[slides, which])


def _layout(store: TileStore, slides: Int64[Tensor, " view"], *, groups: _Groups) -> _Layout:
    order = torch.arange(int(groups.count.max()), device=store.device)
    inside = order < groups.count[:, None]
    rows = groups.first[:, None] + torch.where(inside, order, 0)
    corners = store.coords.index_select(0, rows.flatten()).view(*rows.shape, 2)
    tiles_per_unit = store.um_per_unit[slides] / store.tile_um
    place = (corners - corners[:, :1]).float() * tiles_per_unit[:, None, None]
    return _Layout(place=place, inside=inside)


def _cropped(
    layout: _Layout, groups: _Groups, *, crop: float, generator: torch.Generator
) -> _Layout:
    # padding repeats the first tile, so it cannot widen the extent
    extent = layout.place.amax(dim=1) - layout.place.amin(dim=1) + 1.0
    centre = _place_of(layout, _below(groups.count, 1, generator=generator))
    near = (layout.place - centre).abs() <= (extent * (0.5 * crop))[:, None, :]
    return _Layout(place=layout.place, inside=layout.inside & near.all(dim=2))


def _scattered(
    inside: Bool[Tensor, "view n"], n_draws: int, *, generator: torch.Generator
) -> Int64[Tensor, "view {n_draws}"]:
    """Draws with replacement among the tiles that are inside."""
    upto = inside.cumsum(dim=1)
    rank = _below(upto[:, -1], n_draws, generator=generator)
    return torch.searchsorted(upto, rank, right=True)


def _nearest(
    layout: _Layout, tiles: int, *, generator: torch.Generator
) -> Int64[Tensor, "view {tiles}"]:
    centre = _place_of(layout, _scattered(layout.inside, 1, generator=generator))
    ring = ((layout.place - centre).abs().amax(dim=2) * _RINGS_PER_TILE).round()
    tie = torch.rand(ring.shape, device=ring.device, generator=generator)
    distance = torch.where(layout.inside, ring + tie, torch.inf)
    n_wanted = min(tiles, distance.shape[1])
    nearest = distance.topk(n_wanted, dim=1, largest=False).indices
    n_inside = layout.inside.sum(dim=1, keepdim=True).clamp(max=n_wanted)
    turn = torch.arange(tiles, device=ring.device) % n_inside
    return nearest.gather(1, turn)


def _place_of(layout: _Layout, tile: Int64[Tensor, "view 1"]) -> Float32[Tensor, "view 1 2"]:
    return layout.place.gather(1, tile[:, :, None].expand(-1, -1, 2))
