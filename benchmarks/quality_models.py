"""What stands in the tables: controls and slide encoders, as vectors of all bags of a store."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, Int64
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn

from gigassl.vectors.groups import Groups, dense_groups, generator_of, scattered_groups
from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.pooling import pool
from gigassl.vectors.pretrain.settings import PRESETS, PretrainSettings
from gigassl.vectors.pretrain.train import pretrain
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.tile_store import TileStore
from gigassl.vectors.views import ViewSettings

Vectors = Float32[np.ndarray, "slide width"]

_BAGS_AT_ONCE = 32
_PROTOTYPES = 32
_SAMPLE_ROWS = 20_000

NEIGHBOURS = PRESETS["spatial"]
DENSE = NEIGHBOURS.views
"""A view: 100 contiguous tiles, turned by a multiple of 90°, at true distances."""

SIMCLR = PretrainSettings(
    views=ViewSettings(tiles=16), epochs=10, batch_size=64, temperature=0.2, lr=0.004
)
"""How `mlp` and `scm` are pretrained where a few hundred bags are all there is."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A slide encoder before and after pretraining on the bags of a store, without labels."""

    random: nn.Module
    pretrained: nn.Module


def trained(
    architecture: str, store: TileStore, *, settings: PretrainSettings, seed: int
) -> Trained:
    """The same random weights twice, one of them pretrained."""
    both = [
        new_network(architecture, dim=store.dim, cell=store.tile_um, seed=seed) for _ in range(2)
    ]
    prepare(both[0], store, seed=seed)
    pretrain(store, both[1], settings=replace(settings, seed=seed))
    return Trained(random=both[0].eval(), pretrained=both[1])


def prepare(network: nn.Module, store: TileStore, *, seed: int) -> nn.Module:
    """Shows a network the sample of tile features that it fits its whitening on."""
    if callable(own := getattr(network, "prepare", None)):
        own(sample(store, seed=seed))
    return network.eval()


def sample(store: TileStore, *, seed: int) -> Tensor:
    """Features of tiles drawn evenly from all."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(store.features), (_SAMPLE_ROWS,), generator=generator)
    return store.features[rows].float()


def plain(store: TileStore, method: str) -> Vectors:
    """Pooling by name: "mean", "mean+std" or "max"."""
    return np.stack([pool(_features(store, slide), method=method) for slide in range(len(store))])


def histogram(store: TileStore, *, seed: int) -> Vectors:
    """Share of the tiles that are nearest to each of 32 prototypes (k-means on a sample)."""
    means = MiniBatchKMeans(_PROTOTYPES, random_state=seed, n_init=3)
    means.fit(sample(store, seed=seed).numpy())
    shares = [
        np.bincount(means.predict(_features(store, slide)), minlength=_PROTOTYPES)
        for slide in range(len(store))
    ]
    counts = np.stack(shares).astype(np.float32)
    vectors: Vectors = counts / counts.sum(axis=1, keepdims=True)
    return vectors


def tile_count(store: TileStore) -> Vectors:
    """The number of tiles and its logarithm."""
    count = store.count[:, 0].numpy().astype(np.float32)
    return np.stack([count, np.log(count)], axis=1)


def arrangement(network: nn.Module) -> Callable[[PackedTiles], Tensor]:
    """The learned stream of a slide encoder that has a frozen one beside it."""
    learned: Callable[[PackedTiles], Tensor] = network.learned  # type: ignore[assignment]
    return learned


@torch.no_grad()
def embedded(
    forward: Callable[[PackedTiles], Tensor], store: TileStore, *, shuffled: int | None = None
) -> Vectors:
    """Vectors of whole bags; ``shuffled`` is the seed by which coordinates change places."""
    generator = None if shuffled is None else np.random.default_rng(shuffled)
    parts = []
    for first in range(0, len(store), _BAGS_AT_ONCE):
        slides = torch.arange(first, min(first + _BAGS_AT_ONCE, len(store)))
        parts.append(forward(_whole(store, slides, generator=generator)).float().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def in_views(
    network: nn.Module, store: TileStore, *, views: ViewSettings, seed: int,
    shuffled: int | None = None,
) -> Vectors:  # fmt: skip
    """Vectors of bags as `gigassl embed` makes them: of disjoint views like those in training."""
    generator = None if shuffled is None else np.random.default_rng(shuffled)
    vectors = []
    for slide, name in enumerate(store.slide_ids):
        bag = _whole(store, torch.tensor([slide]), generator=generator)
        groups = _groups(bag, views=views, generator=generator_of(seed, name))
        tiles, sizes = np.concatenate(groups), torch.tensor([len(group) for group in groups])
        parts = PackedTiles(
            features=bag.features[tiles], coords=bag.coords[tiles],
            bag=torch.repeat_interleave(sizes), n_bags=len(groups),
        )  # fmt: skip
        found = network(parts) * (sizes / sizes.sum())[:, None]
        vectors.append(found.sum(dim=0).numpy())
    return np.stack(vectors)


def _groups(bag: PackedTiles, *, views: ViewSettings, generator: np.random.Generator) -> Groups:
    if views.window == "scatter":
        return scattered_groups(len(bag), size=views.tiles, most=len(bag), generator=generator)
    place = bag.coords.long().numpy()
    return dense_groups(place, size=views.tiles, most=len(bag), generator=generator)


def _whole(
    store: TileStore, slides: Int64[Tensor, " part"], *, generator: np.random.Generator | None
) -> PackedTiles:
    features, coords = [], []
    for slide in slides.tolist():
        rows = _rows(store, slide)
        count = rows.stop - rows.start
        order = np.arange(count) if generator is None else generator.permutation(count)
        features.append(store.features[rows].float())
        coords.append(store.coords[rows][torch.from_numpy(order)] * store.um_per_unit[slide])
    counts = torch.tensor([len(each) for each in features])
    return PackedTiles(
        features=torch.cat(features), coords=torch.cat(coords).float(),
        bag=torch.repeat_interleave(counts), n_bags=len(slides),
    )  # fmt: skip


def _rows(store: TileStore, slide: int) -> slice:
    first = int(store.first[slide, 0])
    return slice(first, first + int(store.count[slide, 0]))


def _features(store: TileStore, slide: int) -> Float32[np.ndarray, "tile dim"]:
    found: Float32[np.ndarray, "tile dim"] = store.features[_rows(store, slide)].float().numpy()
    return found
