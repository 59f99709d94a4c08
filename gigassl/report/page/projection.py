"""Maps of vectors on two axes: principal components, and UMAP on the exact nearest slides."""

import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64

from gigassl.evaluate.threads import one_thread
from gigassl.report.page.figure import needs
from gigassl.vectors.search import Searcher
from gigassl.vectors.table import SlideTable

FEWEST = 5
"""Slides that UMAP needs at least: of fewer there is nothing to arrange."""
_UMAP_NEIGHBOURS = 15
_DIGITS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbourhood:
    """The nearest other slides of each slide, nearest first, by cosine similarity."""

    rows: Int64[np.ndarray, "slide k"]
    similarities: Float64[np.ndarray, "slide k"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SlideMap:
    """Slides on two axes.

    Attributes:
        name: of the map.
        xy: place of each slide.
        axes: titles of both axes; empty where they mean nothing.
        said: what the map shows, in a sentence.
    """

    name: str
    xy: Float64[np.ndarray, "slide 2"]
    axes: tuple[str, str] = ("", "")
    said: str


def neighbourhood(table: SlideTable, *, k: int = _UMAP_NEIGHBOURS) -> Neighbourhood:
    """The ``k`` nearest slides of every slide, fewer where there are no more, as ``nearest``."""
    searcher = Searcher(table, n_queries=len(table))
    row_of = {name: row for row, name in enumerate(table.slide_ids)}
    found = [searcher.nearest(name, k=k) for name in table.slide_ids]
    width = min(k, len(table) - 1)
    rows = [[row_of[near.slide_id] for near in each] for each in found]
    similar = [[near.similarity for near in each] for each in found]
    shape = (len(table), width)
    return Neighbourhood(
        rows=np.array(rows, dtype=np.int64).reshape(shape),
        similarities=np.array(similar, dtype=np.float64).reshape(shape),
    )


@one_thread()
def pca_map(vectors: Float[np.ndarray, "slide dim"]) -> SlideMap:
    """The first two principal components, each with its larger side to the right or top.

    Args:
        vectors: one a slide.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    if len(vectors) > vectors.shape[1]:
        power, axes = np.linalg.eigh(centred.T @ centred)
        order = np.argsort(-power, kind="stable")[:2]
        power, axes = np.maximum(power, 0), axes[:, order].T
        shares = power[order] / max(power.sum(), 1e-30)
    else:
        _, singular, axes = np.linalg.svd(centred, full_matrices=False)
        shares = (singular**2 / max((singular**2).sum(), 1e-30))[:2]
        axes = axes[:2]
    xy = np.zeros((len(vectors), 2))
    xy[:, : len(axes)] = centred @ axes.T
    # an eigenvector's sign is chance
    heavy = np.abs(xy).argmax(axis=0)
    xy *= np.where(xy[heavy, [0, 1]] < 0, -1, 1)
    told = [f"PC{i + 1} ({share:.0%})" for i, share in enumerate([*shares, 0.0, 0.0][:2])]
    return SlideMap(
        name="PCA",
        xy=_tidy(xy),
        axes=(told[0], told[1]),
        said=f"the first two principal components hold {shares.sum():.0%} of the variance",
    )


def umap_map(
    vectors: Float[np.ndarray, "slide dim"], near: Neighbourhood, *, seed: int
) -> SlideMap | None:
    """UMAP of cosine distances (McInnes et al., arXiv 1802.03426); None for fewer than 5 slides.

    It is given the exact nearest slides, begins at the principal components and runs on one thread,
    so that equal vectors and seeds give equal maps.

    Args:
        vectors: one a slide, of length one.
        near: of the same slides, at least 2 each.
        seed: of its sampling.

    Raises:
        SettingsError: umap-learn is not installed.
    """
    needs("umap")
    if len(vectors) < FEWEST:
        return None
    k = near.rows.shape[1] + 1
    own = np.arange(len(vectors))[:, None]
    rows = np.hstack([own, near.rows])
    distances = np.hstack([np.zeros_like(own), 1 - near.similarities]).clip(0)
    with one_thread(), warnings.catch_warnings():
        # of its threads and of numba's caches; nothing that a user could change
        warnings.simplefilter("ignore")
        model: Any = import_module("umap").UMAP(
            n_neighbors=k, min_dist=0.1, metric="cosine", init="pca", random_state=seed, n_jobs=1,
            precomputed_knn=(rows.astype(np.int32), distances.astype(np.float32), None),
            force_approximation_algorithm=True,
        )  # fmt: skip
        xy = model.fit_transform(np.ascontiguousarray(vectors, dtype=np.float32))
    return SlideMap(
        name="UMAP",
        xy=_tidy(xy.astype(np.float64)),
        said=f"UMAP of cosine distances, {k - 1} neighbours: near slides are alike, distances "
        "between groups mean little",
    )


def _tidy(xy: Float64[np.ndarray, "slide 2"]) -> Float64[np.ndarray, "slide 2"]:
    """Places within -1 and 1, rounded to what a screen can show."""
    middle = (xy.max(axis=0) + xy.min(axis=0)) / 2
    half = max(float(np.ptp(xy, axis=0).max()) / 2, 1e-12)
    tidy: Float64[np.ndarray, "slide 2"] = np.round((xy - middle) / half, _DIGITS) + 0.0
    return tidy
