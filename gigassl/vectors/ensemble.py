"""View ensemble: the vector of one slide as the mean of what a slide encoder makes of its parts."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor, nn

from gigassl.bags.bag import Bag
from gigassl.errors import SettingsError, SlideError
from gigassl.vectors.groups import Groups, dense_groups, generator_of, in_order, scattered_groups
from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.slide_model import SlideModel

_TILES_AT_ONCE = 8192
# how many views share one forward: bounds memory; fixed, since it may move the last digits


@dataclass(frozen=True, kw_only=True)
class EnsembleSettings:
    """How many parts of a slide are looked at.

    Attributes:
        views: at most so many.
        tiles_per_view: tiles of a part; None takes as many as in training.
        seed: what the parts are drawn from, together with the slide_id.
    """

    views: int = 100
    tiles_per_view: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.views < 1:
            raise SettingsError(f"--views must be at least 1; got {self.views}")
        if self.tiles_per_view is not None and self.tiles_per_view < 1:
            raise SettingsError(f"--tiles-per-view must be at least 1; got {self.tiles_per_view}")


@dataclass(frozen=True, kw_only=True)
class SlideVector:
    """The vector of one slide.

    Attributes:
        vector: of length one.
        n_views: views that it is the mean of.
        view_spread: one minus the mean cosine of the views to their mean: how much the parts of
            the slide differ, which is no measure of how wrong the vector may be.
    """

    vector: Float32[np.ndarray, " width"]
    n_views: int
    view_spread: float


def embed_bag(
    model: SlideModel, bag: Bag, *, settings: EnsembleSettings | None = None
) -> SlideVector:
    """The L2-normalised mean of views of a bag: disjoint groups until all tiles are used.

    A view counts by its number of tiles: the last group may be smaller, and with equal weights, as
    published, its few tiles would count for more than the others (with five tiles a view, up to
    five times). So an encoder that is a mean over tiles gives exactly that mean.

    The same bytes for the same tiles in any order and wherever on the slide they lie. Runs where
    the network's weights are.

    Raises:
        SlideError: another width than the model's, no µm/px where the model needs it, or a vector
            that is zero or not finite.
    """
    parts, sizes = [], list[int]()
    for some in packed_views(model, bag, settings=settings):
        parts.append(_forward(model, some.tiles))
        sizes += some.sizes
    views = np.concatenate(parts)
    weights = np.array(sizes, dtype=np.float64)
    mean = np.average(views, axis=0, weights=weights)
    if not np.isfinite(mean).all():
        raise SlideError("the slide encoder's vector is NaN or infinite", stage="encode")
    return SlideVector(
        vector=l2_normalised(mean),
        n_views=len(sizes),
        view_spread=_spread(views, mean, weights=weights),
    )


@dataclass(frozen=True, kw_only=True)
class PackedViews:
    """Some views of a bag, as a slide encoder takes them.

    Attributes:
        tiles: of the views, one bag a view.
        rows: which tile of the bag each of them is.
        sizes: number of tiles of each view: its weight in the mean.
    """

    tiles: PackedTiles
    rows: Int64[np.ndarray, " row"]
    sizes: tuple[int, ...]


def packed_views(
    model: SlideModel, bag: Bag, *, settings: EnsembleSettings | None = None
) -> Iterator[PackedViews]:
    """The views that ``embed_bag`` takes the mean of, as many at a time as memory is bounded to.

    Raises:
        SlideError: another width than the model's, or no µm/px where the model needs it.
    """
    settings = settings or EnsembleSettings()
    record = model.record
    if bag.features.shape[1] != record.dim:
        raise SlideError(
            f"its features are {bag.features.shape[1]} wide, the slide encoder wants {record.dim}",
            stage="bag",
        )
    order = in_order(bag.coords, bag.features)
    place = bag.coords[order] - bag.coords.min(axis=0)
    groups = _groups(model, place, settings=settings, slide_id=bag.info.slide_id)
    for together in _chunks(groups):
        yield PackedViews(
            tiles=_packed(model, bag, order=order, place=place, groups=together),
            rows=order[np.concatenate(together)],
            sizes=tuple(len(group) for group in together),
        )


def _groups(
    model: SlideModel, place: Int64[np.ndarray, "tile 2"], *, settings: EnsembleSettings,
    slide_id: str,
) -> Groups:  # fmt: skip
    size = settings.tiles_per_view or model.record.tiles_per_view
    generator = generator_of(settings.seed, slide_id)
    if model.record.window == "dense":
        return dense_groups(place, size=size, most=settings.views, generator=generator)
    return scattered_groups(len(place), size=size, most=settings.views, generator=generator)


def _chunks(groups: Groups) -> Iterator[Groups]:
    at_once = max(1, _TILES_AT_ONCE // max(len(group) for group in groups))
    for start in range(0, len(groups), at_once):
        yield groups[start : start + at_once]


def _packed(
    model: SlideModel, bag: Bag, *, order: Int64[np.ndarray, " tile"],
    place: Int64[np.ndarray, "tile 2"], groups: Groups,
) -> PackedTiles:  # fmt: skip
    tiles = np.concatenate(groups)
    features = bag.features[order[tiles]]
    reduced = features if model.reduction is None else model.reduction.apply(features)
    lengths = torch.tensor([len(group) for group in groups])
    return PackedTiles(
        features=torch.from_numpy(reduced.astype(np.float32)),
        coords=torch.from_numpy((place[tiles] * _unit_per_px(model, bag)).astype(np.float32)),
        bag=torch.arange(len(groups)).repeat_interleave(lengths),
        n_bags=len(groups),
    )


def _unit_per_px(model: SlideModel, bag: Bag) -> float:
    """What turns level-0 px into the unit that the model wants."""
    if model.record.coords_unit == "px_l0":
        return 1.0
    if bag.info.mpp_l0 is None:
        raise SlideError(
            "the µm/px of its coordinates is not known, and the slide encoder wants µm; give it "
            "in the cohort table (column mpp) or as --slide-mpp",
            stage="resolution",
        )
    return bag.info.mpp_l0


def _forward(model: SlideModel, tiles: PackedTiles) -> Float64[np.ndarray, "view width"]:
    network = model.network.eval()
    with torch.inference_mode():
        vectors: Tensor = network(tiles.to(_device(network)))
    found: Float64[np.ndarray, "view width"] = vectors.double().cpu().numpy()
    return found


def _device(network: nn.Module) -> torch.device:
    weight = next(network.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device


def _spread(
    views: Float64[np.ndarray, "view width"], mean: Float64[np.ndarray, " width"], *,
    weights: Float[np.ndarray, " view"],
) -> float:  # fmt: skip
    lengths = np.linalg.norm(views, axis=1) * np.linalg.norm(mean)
    cosines = (views @ mean) / np.where(lengths > 0, lengths, 1.0)
    # a single view may be its mean with a cosine a hair above one
    return max(0.0, 1.0 - float(np.average(cosines, weights=weights)))
