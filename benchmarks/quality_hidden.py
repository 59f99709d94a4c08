"""Masked location: what the other tiles of a bag say of a hidden one, as vectors to be probed.

Whatever is computed over a bag, such as its mean and deviation, is computed without the hidden
tile: a mean that holds it would give it away in small bags.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from benchmarks.quality_models import NEIGHBOURS, SIMCLR, Vectors, embedded, plain, trained
from gigassl.vectors.tile_store import TileStore
from gigassl.vectors.views import ViewSettings

_SIGMA = 2.0
"""Width of the kernel around the hidden tile, in tiles."""

_STEPS = 240
_WINDOW = 16

Seen = Callable[[Float32[Tensor, "tile dim"]], Float32[Tensor, "hidden other width"]]
"""Features of the other tiles when each tile in turn is hidden."""

Weights = Callable[[Int64[Tensor, "tile 2"]], Float32[Tensor, "hidden other"]]
"""How much each of the other tiles counts for each hidden one; rows sum to one."""


def hidden_tile_vectors(
    store: TileStore, *, labels: Int64[np.ndarray, " tile"], seed: int
) -> dict[str, Vectors]:
    """Name → what is known of each tile from the others of its bag, one row a tile.

    True labels of the other tiles serve two rows only, as a ceiling.
    """
    epochs = NEIGHBOURS.batch_size * _STEPS // len(store)
    # patches are a sample of which few touch: cells are three tiles wide
    wide = replace(store, tile_um=3 * store.tile_um)
    both = trained("spatial", wide, settings=replace(NEIGHBOURS, epochs=epochs), seed=seed)
    near = _kernel(store.tile_um)
    far = _shuffled(near, seed=seed)
    white = store.features.float()
    true = torch.from_numpy(labels)[:, None].float()
    found = {
        "others: true label, fraction": _context(store, true, _as_it_is, _even),
        "near: true labels": _context(store, true, _as_it_is, near),
        "others: mean": _context(store, white, _as_it_is, _even),
        "others: mean+std": _with_deviation(store, white),
        "near: whitened features": _context(store, white, _as_it_is, near),
        "near: whitened, standardised": _context(store, white, _standardised, near),
    }
    for name, network in (("random", both.random), ("learned", both.pretrained)):
        found[f"near: {name} features"] = _context(store, white, _through(network), near)
    found["near: learned features, shuffled"] = _context(
        store, white, _through(both.pretrained), far
    )
    for kind in ("whitened", "learned"):
        found[f"others: mean+std, near: {kind} features"] = np.concatenate(
            [found["others: mean+std"], found[f"near: {kind} features"]], axis=1
        )
    return found


def window_vectors(store: TileStore, *, seed: int) -> dict[str, Vectors]:
    """Published slide encoders on the 16 tiles nearest to each hidden one, which is left out."""
    windows = _windows(store)
    found = {"window: mean+std": plain(windows, "mean+std")}
    for name, tiles, steps in (("mlp", 16, _STEPS // 2), ("scm", 16, _STEPS // 6)):
        dense = replace(NEIGHBOURS.views, tiles=tiles)
        views = dense if name == "scm" else ViewSettings(tiles=tiles)
        epochs = max(1, SIMCLR.batch_size * steps // len(store))
        settings = replace(SIMCLR, views=views, epochs=epochs)
        both = trained(name, store, settings=settings, seed=seed)
        found[f"window: {name}, random"] = embedded(both.random, windows)
        found[f"window: {name}, pretrained"] = embedded(both.pretrained, windows)
    return found


def _windows(store: TileStore) -> TileStore:
    """A bag for each tile: the nearest others of its own bag, all of them where they are few.

    Every bag of the store must hold two tiles at least.
    """
    rows = []
    for first, count in zip(store.first[:, 0].tolist(), store.count[:, 0].tolist(), strict=True):
        coords = store.coords[first : first + count].double()
        apart = torch.cdist(coords, coords).fill_diagonal_(-1.0)
        order = apart.argsort(dim=1, stable=True)[:, 1 : 1 + _WINDOW]
        rows += [first + near for near in order]
    counts = torch.tensor([len(near) for near in rows])
    every = torch.cat(rows)
    return TileStore(
        features=store.features[every], coords=store.coords[every],
        um_per_unit=torch.ones(len(rows)), first=(counts.cumsum(0) - counts)[:, None],
        count=counts[:, None], slide_ids=tuple(map(str, range(len(rows)))),
        patient_ids=tuple(map(str, range(len(rows)))), tile_um=store.tile_um,
    )  # fmt: skip


@torch.no_grad()
def _context(store: TileStore, values: Tensor, seen: Seen, weights: Weights) -> Vectors:  # noqa: PLR0917
    rows = []
    for first, count in zip(store.first[:, 0].tolist(), store.count[:, 0].tolist(), strict=True):
        part = slice(first, first + count)
        rows.append(torch.einsum("hod,ho->hd", seen(values[part]), weights(store.coords[part])))
    out: Vectors = torch.cat(rows).numpy()
    return out


def _with_deviation(store: TileStore, values: Tensor) -> Vectors:
    mean = _context(store, values, _as_it_is, _even)
    square = _context(store, values.square(), _as_it_is, _even)
    return np.concatenate([mean, np.sqrt(np.maximum(square - mean**2, 0))], axis=1)


def _as_it_is(values: Float32[Tensor, "tile dim"]) -> Float32[Tensor, "hidden other dim"]:
    return values[None].expand(len(values), -1, -1)


def _standardised(values: Float32[Tensor, "tile dim"]) -> Float32[Tensor, "hidden other dim"]:
    """As the spatial slide encoder does within a bag, the hidden tile left out."""
    weight = _even(values)
    mean = weight @ values
    variance = (weight @ values.square() - mean.square()).clamp(min=0.0)
    return (values[None] - mean[:, None]) * (variance + 1e-6).rsqrt()[:, None]


def _through(network: nn.Module) -> Seen:
    """The learned features of a spatial slide encoder."""
    whitening, tile = network.get_submodule("whitening"), network.get_submodule("tile")

    def seen(values: Float32[Tensor, "tile dim"]) -> Float32[Tensor, "hidden other width"]:
        found: Tensor = tile(_standardised(whitening(values)))
        return found - torch.einsum("hod,ho->hd", found, _even(values))[:, None]

    return seen


def _even(values: Tensor) -> Float32[Tensor, "hidden other"]:
    n_tiles = len(values)
    return (1.0 - torch.eye(n_tiles)) / max(n_tiles - 1, 1)


def _kernel(tile_px: float) -> Weights:
    """Near tiles weigh more; the nearest one always counts, so that lonely tiles have a context."""

    def weights(coords: Int64[Tensor, "tile 2"]) -> Float32[Tensor, "hidden other"]:
        apart = torch.cdist(coords.double(), coords.double()).square() / tile_px**2
        apart.fill_diagonal_(torch.inf)
        weight = (-apart / (2 * _SIGMA**2)).softmax(dim=1)
        # a bag of one tile has no others
        return weight.nan_to_num(0.0).float()

    return weights


def _shuffled(weights: Weights, *, seed: int) -> Weights:
    """The same with all tiles of a bag on each other's places."""
    rng = np.random.default_rng(seed)

    def moved(coords: Int64[Tensor, "tile 2"]) -> Float32[Tensor, "hidden other"]:
        return weights(coords[torch.from_numpy(rng.permutation(len(coords)))])

    return moved
