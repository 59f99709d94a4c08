"""Bags to vectors as a scikit-learn transformer: the first step of a Pipeline on tile features."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from sklearn.base import BaseEstimator, TransformerMixin

from gigassl.bags.bag import Bag, open_bag
from gigassl.bags.info import BagInfo
from gigassl.bags.layouts import CoordsUnit
from gigassl.errors import SettingsError, SlideError
from gigassl.pipeline.slide_encoding import Pooled, SlideEncoding, slide_encoding
from gigassl.vectors.ensemble import EnsembleSettings


class BagEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Makes one vector of length 1 of each bag, as ``gigassl embed`` does.

    A bag is the path of an ``.h5`` file (ours, TRIDENT's, CLAM's, STAMP's, AtlasPatch's), a
    ``gigassl.open_bag(...)``, or, for the poolings, an array [tile, dim]. Nothing is learned:
    ``fit`` checks the settings only.

    >>> bags = [np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[0.0, 2.0]])]
    >>> BagEncoder("mean").fit_transform(bags).tolist()
    [[1.0, 0.0], [0.0, 1.0]]

    Args:
        slide_encoder: "mean", "max", "mean+std", or the path of a slide encoder of
            ``gigassl pretrain``.
        views: of a slide encoder: parts of the slide that are looked at, at most; None: 100.
        seed: of these parts, together with the slide's name.
        tile_encoder: name of the tile encoder of foreign bags that do not say it.
        coords_unit: "um" or "px", of foreign bags that do not say it.
        mpp_l0: level-0 µm/px of foreign bags that do not say it.
    """

    def __init__(
        self, slide_encoder: str = "mean", *, views: int | None = None, seed: int = 0,
        tile_encoder: str | None = None, coords_unit: CoordsUnit | None = None,
        mpp_l0: float | None = None,
    ) -> None:  # fmt: skip
        self.slide_encoder = slide_encoder
        self.views = views
        self.seed = seed
        self.tile_encoder = tile_encoder
        self.coords_unit = coords_unit
        self.mpp_l0 = mpp_l0

    def fit(self, X: Any, y: Any = None) -> "BagEncoder":
        """Checks the settings; reads no bag.

        Raises:
            SettingsError: no such pooling or slide encoder, or views asked of a pooling.
        """
        self._encoding()
        return self

    def transform(self, X: Any) -> Float32[np.ndarray, "slide width"]:
        """One vector a bag, in the order given.

        Raises:
            SettingsError: bags of different widths, or something else than a bag.
            SlideError: a bag that cannot be read or does not fit the slide encoder, by its name.
        """
        encoding = self._encoding()
        vectors = [self._vector(bag, encoding, number=k) for k, bag in enumerate(X)]
        if not vectors:
            raise SettingsError("no bags were given; give at least one")
        widths = [len(vector) for vector in vectors]
        if len(set(widths)) > 1:
            other = next(k for k, width in enumerate(widths) if width != widths[0])
            raise SettingsError(
                f"bags 0 and {other} give vectors of {widths[0]} and {widths[other]} columns; "
                "give bags of one tile encoder"
            )
        return np.stack(vectors)

    def _encoding(self) -> SlideEncoding:
        views = None if self.views is None else EnsembleSettings(views=self.views, seed=self.seed)
        if views is None and self.seed:
            views = EnsembleSettings(seed=self.seed)
        return slide_encoding(str(self.slide_encoder), views=views)

    def _vector(
        self, given: Any, encoding: SlideEncoding, *, number: int
    ) -> Float32[np.ndarray, " width"]:
        named = isinstance(given, str | Path)
        bag = self._opened(Path(given)) if named else _in_memory(given, encoding, number=number)
        try:
            vector: Float32[np.ndarray, " width"] = encoding.vector(bag)["embedding"]
        except SlideError as error:
            raise _named(error, bag.info.slide_id) from error
        return vector

    def _opened(self, path: Path) -> Bag:
        try:
            return open_bag(
                path, encoder=self.tile_encoder, coords_unit=self.coords_unit, mpp_l0=self.mpp_l0
            )
        except SlideError as error:
            raise _named(error, str(path)) from error

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags


def _in_memory(given: Any, encoding: SlideEncoding, *, number: int) -> Bag:
    """A bag as it is, or an array of features, which has no coordinates."""
    if isinstance(given, Bag):
        return given
    features = np.asarray(given)
    if features.ndim != 2 or features.dtype.kind not in "fiu":
        raise SettingsError(
            f"bag {number} is neither a path, nor a bag, nor an array [tile, dim]; got "
            f"{type(given).__name__} of shape {features.shape}"
        )
    if not isinstance(encoding, Pooled):
        raise SettingsError(
            "a slide encoder needs to know where tiles lie; give paths of bags, or gigassl.open_bag"
        )
    kind = np.float16 if features.dtype == np.float16 else np.float32
    rows: Float[np.ndarray, "tile dim"] = features.astype(kind)
    info = BagInfo(slide_id=f"bag {number}", encoder="")
    return Bag(features=rows, coords=np.zeros((len(rows), 2), dtype=np.int64), info=info)


def _named(error: SlideError, name: str) -> SlideError:
    return SlideError(f"{name}: {error.reason}", stage=error.stage, detail=error.detail)
