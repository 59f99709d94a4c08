"""Frames: a table of slide vectors as pandas, polars or AnnData, none of which is needed here."""

import json
import logging
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gigassl.errors import SettingsError

if TYPE_CHECKING:
    # beartype finds the classes by their full names
    import anndata  # type: ignore[import-untyped]
    import pandas  # noqa: ICN001
    import polars  # noqa: ICN001

log = logging.getLogger("gigassl")

OBSM = "X_gigassl"
"""Name of the vectors in ``obsm``, as ``use_rep`` of scanpy takes it."""


def pandas_of(data: pa.Table) -> "pandas.DataFrame":
    """Arrow columns as a pandas data frame; vectors as a column of arrays.

    Raises:
        SettingsError: pandas is not installed.
    """
    _needed("pandas", how="pip install pandas", method="to_pandas")
    frame: pandas.DataFrame = data.to_pandas()
    return frame


def polars_of(data: pa.Table) -> "polars.DataFrame":
    """Arrow columns as a polars data frame; vectors as a column of ``Array(Float32, dim)``.

    Raises:
        SettingsError: polars is not installed.
    """
    made = _needed("polars", how="pip install polars", method="to_polars")
    frame: polars.DataFrame = made.from_arrow(data)
    return frame


def anndata_of(
    data: pa.Table, *, provenance: Mapping[str, Any], labels: "pandas.DataFrame | None" = None
) -> "anndata.AnnData":
    """Arrow columns as AnnData: one observation a slide.

    ``X`` and ``obsm["X_gigassl"]`` are the vectors (float32, slide × dim), ``obs`` the other
    columns by slide id, texts that repeat as categories. ``uns["gigassl"]`` holds the settings
    digest, the versions and, as JSON text, the whole provenance, so that ``.h5ad`` keeps them.

    Args:
        data: columns of a ``SlideTable``.
        provenance: of the table.
        labels: more columns for ``obs``: a data frame with a column ``slide_id``, or with the slide
            ids as its index. Slides that it lacks have missing values; a warning counts them, and
            rows of slides that the table lacks.

    Raises:
        SettingsError: anndata is not installed, or labels that fit no slide, name one twice, or
            repeat a column.
    """
    made = _needed("anndata", how="pip install 'gigassl[anndata]'", method="to_anndata")
    obs = pandas_of(data.drop_columns(["embedding"])).set_index("slide_id")
    obs.index.name = None  # AnnData's own name for it is the index
    if labels is not None:
        obs = obs.join(_aligned(labels, obs))
    vectors = pc.list_flatten(data["embedding"]).to_numpy().reshape(len(obs), -1)
    found: anndata.AnnData = made.AnnData(
        X=np.array(vectors), obs=_storable(obs), obsm={OBSM: np.array(vectors)}
    )
    found.var_names = [f"v{column}" for column in range(vectors.shape[1])]
    found.uns["gigassl"] = {
        "settings_digest": str(data["settings_digest"][0]),
        "versions": {k: str(v) for k, v in provenance.get("versions", {}).items()},
        "provenance": json.dumps(provenance, sort_keys=True),
    }
    return found


def _needed(package: str, *, how: str, method: str) -> Any:
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise SettingsError(f"{method} needs {package}, which is not installed; {how}") from error


def _aligned(labels: "pandas.DataFrame", obs: "pandas.DataFrame") -> "pandas.DataFrame":
    """The labels by slide id, without rows of other slides."""
    by_slide = labels.set_index("slide_id") if "slide_id" in labels.columns else labels
    by_slide = by_slide.set_axis(by_slide.index.astype(str))
    twice = by_slide.index[by_slide.index.duplicated()]
    if len(twice):
        raise SettingsError(f"the labels name slide '{twice[0]}' more than once; keep one row")
    repeated = sorted(set(map(str, by_slide.columns)) & set(map(str, obs.columns)))
    if repeated:
        raise SettingsError(
            f"the labels have columns that the table has too: {', '.join(repeated)}; rename or "
            "drop them"
        )
    known = by_slide.index.isin(obs.index)
    if not known.any():
        raise SettingsError(
            f"the labels name none of the {len(obs)} slides; the slides are called "
            f"'{obs.index[0]}' and so on, the labels' rows '{next(iter(by_slide.index), '')}'"
        )
    lacking, others = len(obs) - int(known.sum()), int((~known).sum())
    if lacking or others:
        log.warning(
            "labels: %d of %d slides have none, %d rows are of slides that the table lacks",
            lacking, len(obs), others,
        )  # fmt: skip
    return by_slide[known]


def _storable(obs: "pandas.DataFrame") -> "pandas.DataFrame":
    """Texts as categories where they repeat, so that .h5ad holds them also where some lack."""
    for name in obs.columns:
        if obs[name].dtype == object:
            texts = obs[name].where(obs[name].isna(), obs[name].astype(str))
            obs[name] = texts.astype("category")
    return obs
