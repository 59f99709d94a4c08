"""Groups: the tiles of one bag split into disjoint views, from anywhere or contiguous."""

import hashlib

import numpy as np
from jaxtyping import Int64, Shaped

Groups = list[Int64[np.ndarray, " _"]]
"""Each view's tiles, as numbers of tiles of the bag; none stands in two views."""


def generator_of(seed: int, slide_id: str) -> np.random.Generator:
    """The random numbers of one slide: the same whatever else is in the run."""
    text = f"{seed}|{slide_id}".encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text).digest()[:16], "big"))


def in_order(
    coords: Int64[np.ndarray, "tile 2"], features: Shaped[np.ndarray, "tile dim"]
) -> Int64[np.ndarray, " tile"]:
    """Numbers of the tiles row by row; tiles in one place by the bytes of their features.

    Equal bags give equal tiles in this order, in whatever order they are stored.
    """
    order = np.lexsort((coords[:, 0], coords[:, 1]))
    in_place = coords[order]
    if (in_place[1:] != in_place[:-1]).any(axis=1).all():
        return order
    rows = np.ascontiguousarray(features)
    as_bytes = rows.view(f"S{rows.shape[1] * rows.itemsize}").ravel()
    return np.lexsort((as_bytes, coords[:, 0], coords[:, 1]))


def scattered_groups(
    n_tiles: int, *, size: int, most: int, generator: np.random.Generator
) -> Groups:
    """Disjoint groups of ``size`` tiles in random order; the last one may hold fewer.

    Args:
        most: number of groups to stop at; tiles are left over then.
    """
    shuffled = generator.permutation(n_tiles)[: size * most]
    return [shuffled[start : start + size] for start in range(0, len(shuffled), size)]


def dense_groups(
    coords: Int64[np.ndarray, "tile 2"], *, size: int, most: int, generator: np.random.Generator
) -> Groups:
    """Disjoint contiguous windows of about ``size`` tiles that together hold every tile.

    The slide is halved again and again across its longer side, so that all windows hold nearly
    the same number of tiles, between two thirds and one and a half times ``size``. On a full grid
    each is contiguous, save for some pairs where ``size`` is 2.

    Args:
        coords: corners of the tiles, level-0 px, in an order that does not depend on the file.
        most: of more windows than that, so many are drawn.
    """
    n_windows = max(1, round(len(coords) / size))
    windows = _halved(coords, np.arange(len(coords)), n_windows=n_windows)
    if len(windows) <= most:
        return windows
    drawn = np.sort(generator.permutation(len(windows))[:most])
    return [windows[number] for number in drawn]


def _halved(
    coords: Int64[np.ndarray, "tile 2"], tiles: Int64[np.ndarray, " part"], *, n_windows: int
) -> Groups:
    if n_windows == 1:
        return [tiles]
    place = coords[tiles]
    longer = int(np.ptp(place, axis=0).argmax())
    along = tiles[np.lexsort((place[:, 1 - longer], place[:, longer]))]
    n_left = n_windows // 2
    cut = round(len(tiles) * n_left / n_windows)
    return [
        *_halved(coords, along[:cut], n_windows=n_left),
        *_halved(coords, along[cut:], n_windows=n_windows - n_left),
    ]
