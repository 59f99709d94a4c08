"""Contribution of each tile to a linear probe on the vector of a trained slide encoder."""

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from gigassl.bags.bag import Bag
from gigassl.errors import SettingsError, SlideError
from gigassl.evaluate.explain.explanation import Explanation, contributions
from gigassl.evaluate.explain.gradients import STEPS, integrated_gradients
from gigassl.evaluate.explain.linear import Readout
from gigassl.vectors.ensemble import EnsembleSettings, PackedViews, packed_views
from gigassl.vectors.slide_model import SlideModel

TOLERANCE = 0.01
"""By which share of their absolute sum contributions may miss what they should sum to."""

MOST_STEPS = 512


def explain_views(
    model: SlideModel, bag: Bag, *, readout: Readout, views: EnsembleSettings | None = None,
    steps: int = STEPS,
) -> Explanation:  # fmt: skip
    """What each tile adds to the answer of a linear probe on a slide encoder's vector.

    Explained is the vector of ``embed_bag``: the mean of the same views, each tile in its own view,
    over its length, which is taken as it is. Integrated gradients go from tiles with features of
    zero (after the model's own reduction: its mean) to those that are there. What the probe says
    of the former, less its intercept, belongs to no tile and is shared evenly, so that shares sum
    to the answer less the intercept, as with the mean of tiles; by how much they fail to is the
    completeness error. Tiles in no view have no score. Encoders that standardise the tiles of a
    slide jump near features of zero: where the error is over 1 %, four times the steps are taken,
    up to 512.

    Args:
        model: the slide encoder.
        bag: of one slide.
        readout: what is explained.
        views: as the vector was made.
        steps: points of the path, at first.

    Raises:
        SettingsError: a probe of vectors of another width.
        SlideError: a bag that does not fit the model, or a vector of zero.
    """
    if len(readout.weights) != model.record.width:
        raise SettingsError(
            f"the probe reads vectors of {len(readout.weights)} columns; the slide encoder makes "
            f"{model.record.width}"
        )
    parts = list(packed_views(model, bag, settings=views))
    n_seen = sum(sum(part.sizes) for part in parts)
    device = next((p.device for p in model.network.parameters()), torch.device("cpu"))
    reader = _Views(model, weights=torch.from_numpy(readout.weights).to(device), n_seen=n_seen)
    there = sum((reader.mean(part, scale=1.0) for part in parts), start=np.zeros(1))
    nothing = sum((reader.mean(part, scale=0.0) for part in parts), start=np.zeros(1))
    length = math.sqrt(math.fsum(np.square(there).tolist()))
    if length == 0 or not math.isfinite(length):
        raise SlideError(f"the slide's vector has length {length}", stage="encode")
    at_nothing = float(nothing @ readout.weights) / length + readout.shift
    found = None
    while found is None or (_is_off(found) and steps < MOST_STEPS):
        steps = steps if found is None else 4 * steps
        score = np.full(len(bag), np.nan)
        for part in parts:
            gradients = integrated_gradients(
                lambda features, part=part: reader.answer(part, features),  # type: ignore[misc]
                part.tiles.features.to(device),
                steps=steps,
            )
            score[part.rows] = gradients / length + at_nothing / n_seen
        found = contributions(
            score,
            method=f"integrated gradients ({steps} steps, from features of zero) of a linear probe "
            f"on the vector of '{model.record.architecture}'",
            output=readout.of(there / length),
            offset=readout.intercept,
        )
    return found


def _is_off(found: Explanation) -> bool:
    """Whether contributions miss their sum by more than is passed over."""
    assert found.completeness_error is not None
    return found.completeness_error > TOLERANCE * float(np.nansum(np.abs(found.score)))


class _Views:
    """A slide encoder's views as one weighted mean."""

    def __init__(
        self, model: SlideModel, *, weights: Float64[Tensor, " width"], n_seen: int
    ) -> None:
        self.network, self.weights, self.n_seen = model.network.eval(), weights, n_seen

    def mean(self, part: PackedViews, *, scale: float) -> Float64[np.ndarray, " width"]:
        """These views' share of the mean, of features times ``scale``."""
        features = part.tiles.features.to(self.weights.device) * scale
        with torch.inference_mode():
            vectors = self._vectors(part, features)
        found: Float64[np.ndarray, " width"] = vectors.sum(dim=0).cpu().numpy()
        return found

    def answer(self, part: PackedViews, features: Float[Tensor, "tile dim"]) -> Float64[Tensor, ""]:
        """These views' share of ``weights · mean``."""
        return self._vectors(part, features).sum(dim=0) @ self.weights

    def _vectors(
        self, part: PackedViews, features: Float[Tensor, "tile dim"]
    ) -> Float64[Tensor, "view width"]:
        tiles = replace(part.tiles.to(features.device), features=features)
        sizes = torch.tensor(part.sizes, dtype=torch.float64, device=features.device)
        vectors: Tensor = self.network(tiles).double() * (sizes / self.n_seen)[:, None]
        return vectors
