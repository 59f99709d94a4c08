"""Controls of slide vectors: what stands beside them in every table, from the same tiles.

Number of tiles; mean, and mean + standard deviation of the tiles; the same slide encoder with
random weights, and with the coordinates of each slide's tiles shuffled. "Uses position" needs the
vectors to beat the shuffled ones, "learned" the random ones, and "useful" the mean and deviation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from gigassl.bags.bag import Bag
from gigassl.bags.layouts import CoordsUnit
from gigassl.digests import digest_of_settings
from gigassl.errors import SettingsError, SlideError
from gigassl.evaluate.contamination import exposures, seen_slides
from gigassl.evaluate.vector_set import Control, VectorSet
from gigassl.pipeline.progress import Progress, Silent
from gigassl.pipeline.slide_tiles import SlideTiles, Tiles, tiles_of
from gigassl.vectors.ensemble import EnsembleSettings, embed_bag
from gigassl.vectors.groups import generator_of
from gigassl.vectors.pooling import l2_normalised, pool
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.slide_model import SlideModel, load_slide_model
from gigassl.vectors.table import SlideTable

_SAMPLE_ROWS = 20_000
"""Tiles that a random network fits its statistics of the features on, as in training."""

Vector = Float32[np.ndarray, " width"]


@dataclass(frozen=True, kw_only=True)
class ControlOptions:
    """How controls are made.

    Attributes:
        seed: of random weights, and of which tile goes where.
        coords_unit: unit of the coordinates of other tools' bags that do not say it.
    """

    seed: int = 0
    coords_unit: CoordsUnit | None = None


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """One control: what it is, and how it makes a vector of a slide's tiles."""

    control: Control
    vector: Callable[[Tiles], Vector]
    first_block: int | None = None
    seen: frozenset[str] = field(default_factory=frozenset)


def control_sets(
    table: SlideTable, *, name: str, bags: Path | None = None, slide_encoder: Path | None = None,
    options: ControlOptions | None = None, progress: Progress | None = None,
) -> list[VectorSet]:  # fmt: skip
    """The controls of a table of vectors that can be made of what is given, in its slides' order.

    One slide is in memory at a time.

    Args:
        table: the vectors.
        name: what tables call them.
        bags: the bags that they were made from (ours or other tools'), or a bank of the slides.
        slide_encoder: the file of the slide encoder that they were made with.
        options: seed and unit.
        progress: is told of every slide.

    Raises:
        SettingsError: bags or a slide encoder that do not belong to the vectors, or a slide
            encoder without bags.
    """
    options = options or ControlOptions()
    found = [] if table.data["n_tiles"].null_count else [_tile_count(table, name=name)]
    if bags is None:
        if slide_encoder is not None:
            raise SettingsError(
                "random weights and shuffled coordinates need the tiles of the vectors; give "
                "their bags as well as the slide encoder"
            )
        return found
    tiles = tiles_of(table, bags, coords_unit=options.coords_unit)
    makers = _poolings(table)
    if slide_encoder is not None:
        model = _of_these_vectors(table, load_slide_model(slide_encoder), tiles=tiles)
        telling = progress or Silent()
        makers += _of_encoder(table, model, tiles=tiles, options=options, progress=telling)
    vectors = _made(tiles, makers, progress=progress or Silent())
    return found + [
        VectorSet(
            name=f"{name}, {maker.control}",
            slide_ids=tuple(table.slide_ids),
            vectors=each,
            first_block=maker.first_block,
            control=maker.control,
            control_of=name,
            seen=maker.seen,
            digest=_digest(table, maker.control, seed=options.seed),
        )
        for maker, each in zip(makers, vectors, strict=True)
    ]


def shuffled(bag: Bag, *, seed: int) -> Bag:
    """The same tiles at the same places, but each at another's; drawn from seed and slide_id."""
    order = generator_of(seed, f"shuffled|{bag.info.slide_id}").permutation(len(bag))
    return replace(bag, coords=bag.coords[order])


def random_model(
    model: SlideModel, *, seed: int, sample: Callable[[], Float[Tensor, "row dim"]]
) -> SlideModel:
    """The slide encoder as it was before it learned: same shape, weights from a seed.

    Args:
        model: with trained weights.
        seed: of the weights.
        sample: gives tile features, after any reduction; asked only where the architecture fits
            something on them before training, such as a whitening.
    """
    record, reduction = model.record, model.reduction
    network = new_network(
        record.architecture,
        dim=record.dim if reduction is None else len(reduction.components),
        cell=record.cell,
        seed=seed,
        options=record.options,
    )
    if callable(prepare := getattr(network, "prepare", None)):
        prepare(sample())
    return replace(model, network=network.eval())


def vector_of(model: SlideModel, tiles: Tiles, *, views: EnsembleSettings) -> Vector:
    """The vector of a slide: of one bag as ``gigassl embed`` makes it; of several, their mean."""
    found = [embed_bag(model, bag, settings=views).vector for bag in tiles]
    return found[0] if len(found) == 1 else l2_normalised(np.mean(found, axis=0))


def _tile_count(table: SlideTable, *, name: str) -> VectorSet:
    count: np.ndarray = table.data["n_tiles"].to_numpy()
    return VectorSet(
        name=f"{name}, tile-count",
        slide_ids=tuple(table.slide_ids),
        vectors=np.log(count.astype(np.float64))[:, None],
        control="tile-count",
        control_of=name,
        digest=_digest(table, "tile-count", seed=0),
    )


def _digest(table: SlideTable, control: Control, *, seed: int) -> str:
    return digest_of_settings({"of": table.settings_digest, "control": control, "seed": seed})


def _poolings(table: SlideTable) -> list[_Maker]:
    """Mean, and mean + std, save the one that the vectors themselves are."""
    own = table.provenance.get("settings", {}).get("slide_encoder")
    seen = _seen_by_tile_encoder(table)
    controls: tuple[Control, ...] = ("mean", "mean+std")
    return [
        _Maker(control=method, vector=_pooling(method), seen=seen)
        for method in controls
        if method != own
    ]


def _pooling(method: str) -> Callable[[Tiles], Vector]:
    def vector(tiles: Tiles) -> Vector:
        features = tiles[0].features if len(tiles) == 1 else _all_features(tiles)
        return l2_normalised(pool(features, method=method))

    return vector


def _all_features(tiles: Tiles) -> Float[np.ndarray, "tile dim"]:
    return np.concatenate([bag.features for bag in tiles])


def _of_encoder(
    table: SlideTable, model: SlideModel, *, tiles: SlideTiles, options: ControlOptions,
    progress: Progress,
) -> list[_Maker]:  # fmt: skip
    views, seed = _views(table), options.seed
    untrained = random_model(
        model, seed=seed, sample=lambda: _sample(tiles, model, seed=seed, progress=progress)
    )
    width = getattr(model.network, "composition_width", None)
    return [
        _Maker(
            control="random-weights",
            vector=lambda found: vector_of(untrained, found, views=views),
            first_block=width,
            seen=_seen_by_tile_encoder(table),
        ),
        _Maker(
            control="shuffled-coordinates",
            vector=lambda found: vector_of(
                model, [shuffled(bag, seed=seed) for bag in found], views=views
            ),
            first_block=width,
            seen=seen_slides(table.provenance, slide_ids=table.slide_ids),
        ),
    ]


def _views(table: SlideTable) -> EnsembleSettings:
    """How the vectors look at a slide."""
    said: Mapping[str, Any] = table.provenance["settings"]["slide_encoder"]
    return EnsembleSettings(
        views=said["views"], tiles_per_view=said["tiles_per_view"], seed=said["seed"]
    )


def _of_these_vectors(table: SlideTable, model: SlideModel, *, tiles: SlideTiles) -> SlideModel:
    """The slide encoder, ready for the tiles at hand.

    Raises:
        SettingsError: the vectors come from another one.
    """
    said = table.provenance.get("settings", {}).get("slide_encoder")
    digest = said.get("digest", "") if isinstance(said, Mapping) else ""
    if digest != model.digest:
        raise SettingsError(
            f"the vectors were not made with this slide encoder (digest {model.digest}), but with "
            f"{f'that of digest {digest}' if digest else f'{said!r}'}; give the one that was used"
        )
    return on_reduced(model) if tiles.reduced else model


def on_reduced(model: SlideModel) -> SlideModel:
    """A slide encoder for features that a bank holds after the reduction, not before."""
    if model.reduction is None:
        return model
    record = replace(model.record, dim=len(model.reduction.components))
    return replace(model, record=record, reduction=None)


def _sample(
    tiles: SlideTiles, model: SlideModel, *, seed: int, progress: Progress
) -> Float[Tensor, "row dim"]:
    """As many tiles of each slide, drawn with replacement, after any reduction."""
    each = -(-_SAMPLE_ROWS // len(tiles.slide_ids))
    parts = []
    for name, found in zip(tiles.slide_ids, tiles.read(progress), strict=True):
        features = _all_features(found)
        rows = generator_of(seed, f"sample|{name}").integers(len(features), size=each)
        drawn = features[rows]
        parts.append(drawn if model.reduction is None else model.reduction.apply(drawn))
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))


def _made(
    tiles: SlideTiles, makers: Sequence[_Maker], *, progress: Progress
) -> list[Float32[np.ndarray, "slide width"]]:
    rows: list[list[Vector]] = [[] for _ in makers]
    for name, found in zip(tiles.slide_ids, tiles.read(progress), strict=True):
        for row, maker in zip(rows, makers, strict=True):
            try:
                row.append(maker.vector(found))
            except SlideError as error:
                raise SettingsError(
                    f"control '{maker.control}' of slide '{name}': {error}"
                ) from error
    return [np.stack(row) for row in rows]


def _seen_by_tile_encoder(table: SlideTable) -> frozenset[str]:
    _, tile_encoder = exposures(table.provenance)
    return (tile_encoder.slides or frozenset()) | tile_encoder.seen(table.slide_ids)
