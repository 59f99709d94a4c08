"""Views: random tiles of a slide, turned, flipped and stretched, for a whole batch at once."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from gigassl.errors import SettingsError
from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.tile_store import TileStore
from gigassl.vectors.windows import Window, draw_rows


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """What a view of a slide is; the defaults are those of the published Giga-SSL.

    Attributes:
        tiles: tiles of a view.
        rotation: by any angle, by a multiple of 90°, or not at all.
        flip: mirror each axis with probability one half.
        scale: each axis is stretched by a factor drawn evenly from here.
        crop: side of the part of the slide that a view sees, as a fraction of the slide's.
        window: tiles from anywhere, with replacement ("scatter"), or the nearest ones around a
            random tile ("dense").
        feature_dropout: chance of each column of the features to be zero throughout a view.
        feature_noise: deviation of a Gaussian vector that is added to all tiles of a view, as a
            fraction of the root mean square of the view's features.
    """

    tiles: int = 5
    rotation: Literal["any", "right", "none"] = "any"
    flip: bool = True
    scale: tuple[float, float] = (0.7, 1.3)
    crop: float = 1.0
    window: Window = "scatter"
    feature_dropout: float = 0.0
    feature_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.tiles < 1:
            raise SettingsError(f"a view needs at least 1 tile; got {self.tiles}")
        low, high = self.scale
        if not 0.0 < low <= high < math.inf:
            raise SettingsError(f"scale is a range of positive factors; got {low} to {high}")
        if not 0.0 < self.crop <= 1.0:
            raise SettingsError(f"crop is a fraction above 0 and up to 1; got {self.crop}")
        if not 0.0 <= self.feature_dropout < 1.0 or not 0.0 <= self.feature_noise < math.inf:
            raise SettingsError(
                "feature dropout is a fraction below 1 and feature noise at least 0; "
                f"got {self.feature_dropout} and {self.feature_noise}"
            )


@dataclass(frozen=True, kw_only=True)
class DrawnViews:
    """The random numbers of a batch of views: which tiles, and what is done to them.

    Attributes:
        rows: rows of the store, by view.
        transform: matrix that the (x, y) of a tile, in µm, are multiplied with from the left.
        gain: factor of each column of the features; None leaves them.
        noise: what is added to the features of every tile, in units of the root mean square of
            the view's features; None adds nothing.
    """

    rows: Int64[Tensor, "view t"]
    transform: Float32[Tensor, "view 2 2"]
    gain: Float32[Tensor, "view dim"] | None = None
    noise: Float32[Tensor, "view dim"] | None = None


def draw_views(
    store: TileStore, slides: Int64[Tensor, " view"], *, settings: ViewSettings,
    generator: torch.Generator,
) -> PackedTiles:  # fmt: skip
    """One view of each slide named, coordinates in µm; two calls make two views.

    A view has one augmentation of its slide and exactly ``settings.tiles`` tiles, whose
    coordinates are counted from the first of them.

    Args:
        store: where the tiles lie; views are drawn on its device.
        slides: which slides of the store, any number of times.
        generator: of the store's device.
    """
    drawn = draw(store, slides, settings=settings, generator=generator)
    return take_views(store, slides, drawn=drawn)


def draw(
    store: TileStore, slides: Int64[Tensor, " view"], *, settings: ViewSettings,
    generator: torch.Generator,
) -> DrawnViews:  # fmt: skip
    """The random numbers of one view of each slide named."""
    n_views, dim, device = len(slides), store.dim, store.device
    slides = slides.to(device)
    rows = draw_rows(
        store, slides, tiles=settings.tiles, window=settings.window, crop=settings.crop,
        generator=generator,
    )  # fmt: skip
    gain = noise = None
    if settings.feature_dropout > 0.0:
        kept = 1.0 - settings.feature_dropout
        chance = torch.rand(n_views, dim, device=device, generator=generator)
        gain = (chance < kept).float() / kept
    if settings.feature_noise > 0.0:
        drawn = torch.randn(n_views, dim, device=device, generator=generator)
        noise = drawn * settings.feature_noise
    return DrawnViews(
        rows=rows,
        transform=_transforms(n_views, settings=settings, device=device, generator=generator),
        gain=gain,
        noise=noise,
    )


def _transforms(
    n_views: int, *, settings: ViewSettings, device: torch.device, generator: torch.Generator
) -> Float32[Tensor, "view 2 2"]:
    """Rotate · flip · scale, as the published method composes them."""
    chance = torch.rand(5, n_views, device=device, generator=generator)
    low, high = settings.scale
    factor = torch.lerp(torch.full_like(chance[:2], low), torch.full_like(chance[:2], high),
                        chance[:2])  # fmt: skip
    if settings.flip:
        factor = torch.where(chance[2:4] < 0.5, -factor, factor)
    if settings.rotation == "none":
        return torch.diag_embed(factor.T)
    turn = chance[4] if settings.rotation == "any" else (chance[4] * 4).floor() / 4
    angle = (turn - 0.5) * (2.0 * math.pi)
    cos, sin = torch.cos(angle), torch.sin(angle)
    rotation = torch.stack([cos, sin, -sin, cos], dim=1).view(n_views, 2, 2)
    return rotation * factor.T[:, None, :]


def take_views(
    store: TileStore, slides: Int64[Tensor, " view"], *, drawn: DrawnViews
) -> PackedTiles:
    """The tiles of views whose random numbers are drawn."""
    n_views, n_tiles = drawn.rows.shape
    rows = drawn.rows.flatten()
    features = store.features.index_select(0, rows).float()
    if drawn.gain is not None or drawn.noise is not None:
        features = _disturbed(features.view(n_views, n_tiles, -1), drawn).flatten(0, 1)
    corners = store.coords.index_select(0, rows).view(n_views, n_tiles, 2)
    # counted from the view's first tile before they become float: exact wherever the slide lies
    offset = (corners - corners[:, :1]).float()
    um_per_unit = store.um_per_unit[slides.to(store.device)]
    coords = torch.bmm(offset, drawn.transform * um_per_unit[:, None, None])
    bag = torch.arange(n_views, device=store.device).repeat_interleave(n_tiles)
    return PackedTiles(features=features, coords=coords.flatten(0, 1), bag=bag, n_bags=n_views)


def _disturbed(
    features: Float[Tensor, "view t dim"], drawn: DrawnViews
) -> Float[Tensor, "view t dim"]:
    """The same change for all tiles of a view, so that it cannot be averaged away over tiles."""
    if drawn.noise is not None:
        size = features.square().mean(dim=(1, 2), keepdim=True).sqrt()
        features = features + drawn.noise[:, None, :] * size
    if drawn.gain is not None:
        features = features * drawn.gain[:, None, :]
    return features
