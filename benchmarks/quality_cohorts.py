"""Synthetic bags whose classes differ in what tiles there are (A) or in where they lie (B).

Features only, no pixels. A tile shows one of a few tissue types in one of several looks; tiles
also carry a nuisance that is itself arranged in space, and noise in all directions. Every slide
has a stain of its own, an outline of its own and a number of tiles of its own.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64

from gigassl.vectors.tile_store import TileStore


@dataclass(frozen=True, kw_only=True)
class CohortSettings:
    """How hard a cohort is.

    Attributes:
        pairs: slides of each class.
        dim: width of the features.
        types: tissue types.
        looks: prototypes of a type; the more, the less a linear map sees of the type.
        signal: length of a prototype, in standard deviations of the noise.
        nuisance: strength of the arranged nuisance.
        stain: strength of the slide's own shift and gain.
        lengths: correlation length of the types in cells, class 0 and class 1.
        spread: how much a slide's own correlation length varies (deviation of its logarithm).
        tiles: smallest and largest number of tiles.
        enriched: cohort A: how much class 1 has more of the first type (logit); 0 in cohort B.
    """

    pairs: int = 200
    dim: int = 64
    types: int = 4
    looks: int = 4
    signal: float = 4.0
    nuisance: float = 2.0
    stain: float = 1.0
    lengths: tuple[float, float] = (0.7, 1.2)
    spread: float = 0.2
    tiles: tuple[int, int] = (150, 250)
    enriched: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Bags with the class and the pair of each; members of a pair must share a fold."""

    features: tuple[Float32[np.ndarray, "tile dim"], ...]
    coords: tuple[Int64[np.ndarray, "tile 2"], ...]
    labels: Int64[np.ndarray, " bag"]
    pairs: Int64[np.ndarray, " bag"]

    def store(self) -> TileStore:
        """The bags as views are drawn from them; a tile is 1 µm wide."""
        counts = torch.tensor([len(rows) for rows in self.coords])
        return TileStore(
            features=torch.from_numpy(np.concatenate(self.features)),
            coords=torch.from_numpy(np.concatenate(self.coords)),
            um_per_unit=torch.ones(len(counts)),
            first=(counts.cumsum(0) - counts)[:, None],
            count=counts[:, None],
            slide_ids=tuple(f"s{index:04d}" for index in range(len(counts))),
            patient_ids=tuple(f"p{pair:04d}" for pair in self.pairs),
            tile_um=1.0,
        )


@dataclass(frozen=True, kw_only=True)
class _World:
    """What all slides of a cohort share: how types and the nuisance look."""

    prototypes: Float32[np.ndarray, "types looks dim"]
    nuisance: Float32[np.ndarray, "2 dim"]
    stain: Float32[np.ndarray, "3 dim"]


def composition_cohort(settings: CohortSettings, *, seed: int) -> Cohort:
    """Cohort A: class 1 has more of the first type; both classes are arranged alike."""
    return _cohort(settings, seed=seed, paired=False)


def arrangement_cohort(settings: CohortSettings, *, seed: int) -> Cohort:
    """Cohort B: each bag of class 1 holds exactly the tiles of a bag of class 0, laid otherwise."""
    return _cohort(settings, seed=seed, paired=True)


def _cohort(settings: CohortSettings, *, seed: int, paired: bool) -> Cohort:
    rng = np.random.default_rng(seed)
    world = _new_world(settings, rng)
    features, coords = [], []
    for _ in range(settings.pairs):
        n_tiles = int(rng.integers(settings.tiles[0], settings.tiles[1] + 1))
        tiles = _draw_tiles(settings, world, n_tiles=n_tiles, enriched=0.0, rng=rng)
        for label in (0, 1):
            if not paired and label == 1:
                n_tiles = int(rng.integers(settings.tiles[0], settings.tiles[1] + 1))
                tiles = _draw_tiles(
                    settings, world, n_tiles=n_tiles, enriched=settings.enriched, rng=rng
                )
            length = settings.lengths[label if paired else 0]
            length *= float(np.exp(settings.spread * rng.standard_normal()))
            places = _outline(n_tiles, rng)
            order = _arranged(tiles, places, length=length, rng=rng)
            features.append(tiles.features[order])
            coords.append(places)
    return Cohort(
        features=tuple(features),
        coords=tuple(coords),
        labels=np.tile([0, 1], settings.pairs),
        pairs=np.repeat(np.arange(settings.pairs), 2),
    )


def _new_world(settings: CohortSettings, rng: np.random.Generator) -> _World:
    shape = (settings.types, settings.looks, settings.dim)
    prototypes = _unit(rng.standard_normal(shape)) * settings.signal
    return _World(
        prototypes=prototypes.astype(np.float32),
        nuisance=_unit(rng.standard_normal((2, settings.dim))).astype(np.float32),
        stain=_unit(rng.standard_normal((3, settings.dim))).astype(np.float32),
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    out: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return out


@dataclass(frozen=True, kw_only=True)
class _Tiles:
    features: Float32[np.ndarray, "tile dim"]
    kind: Int64[np.ndarray, " tile"]
    nuisance: Float32[np.ndarray, "tile 2"]


def _draw_tiles(
    settings: CohortSettings, world: _World, *, n_tiles: int, enriched: float,
    rng: np.random.Generator,
) -> _Tiles:  # fmt: skip
    logits = 0.3 * rng.standard_normal(settings.types)
    logits[0] += enriched
    share = np.exp(logits) / np.exp(logits).sum()
    kind = rng.choice(settings.types, size=n_tiles, p=share)
    look = rng.integers(settings.looks, size=n_tiles)
    nuisance = rng.standard_normal((n_tiles, 2)).astype(np.float32)
    features = world.prototypes[kind, look] + settings.nuisance * nuisance @ world.nuisance
    features += rng.standard_normal((n_tiles, settings.dim)).astype(np.float32)
    gain = 1 + 0.1 * settings.stain * float(rng.standard_normal())
    shift = settings.stain * rng.standard_normal(3).astype(np.float32) @ world.stain
    return _Tiles(features=(features * gain + shift).astype(np.float32), kind=kind,
                  nuisance=nuisance)  # fmt: skip


def _outline(n_tiles: int, rng: np.random.Generator) -> Int64[np.ndarray, "tile 2"]:
    """Cells of a blob: an ellipse with a wavy edge, turned and stretched at random."""
    half = int(np.ceil(np.sqrt(n_tiles)))
    y, x = np.mgrid[-half : half + 1, -half : half + 1].reshape(2, -1)
    turn, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(-0.4, 0.4))
    u = (np.cos(turn) * x + np.sin(turn) * y) * stretch
    v = (np.cos(turn) * y - np.sin(turn) * x) / stretch
    angle = np.arctan2(v, u)
    wave = sum(
        rng.normal(0, 0.1) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5)
    )
    nearest = np.argsort(np.hypot(u, v) * (1 + wave), kind="stable")[:n_tiles]
    return np.stack([x, y], axis=1)[np.sort(nearest)] + int(rng.integers(0, 1000))


def _arranged(
    tiles: _Tiles, places: Int64[np.ndarray, "tile 2"], *, length: float, rng: np.random.Generator
) -> Int64[np.ndarray, " tile"]:
    """Which tile goes to each place: types as patches of that size, the nuisance of its own."""
    order = np.full(len(places), -1)
    free = np.arange(len(places))
    own_length = float(np.exp(rng.uniform(np.log(0.5), np.log(3.0))))
    nuisance_field = _field(places, length=own_length, rng=rng)
    for kind in rng.permutation(np.unique(tiles.kind)):
        mine = np.flatnonzero(tiles.kind == kind)
        field = _field(places[free], length=length, rng=rng)
        taken = free[np.argsort(-field, kind="stable")[: len(mine)]]
        # within the type, tiles of like nuisance lie together
        taken = taken[np.argsort(nuisance_field[taken], kind="stable")]
        order[taken] = mine[np.argsort(tiles.nuisance[mine, 0], kind="stable")]
        free = np.setdiff1d(free, taken)
    return order


def _field(
    places: Int64[np.ndarray, "tile 2"], *, length: float, rng: np.random.Generator
) -> np.ndarray:
    """A Gaussian random field at the places, its correlation falling off with that length."""
    waves = 200
    frequency = rng.standard_normal((waves, 2)) / max(length, 1e-3)
    phase = rng.uniform(0, 2 * np.pi, waves)
    out: np.ndarray = np.cos(places @ frequency.T + phase).sum(axis=1)
    return out
