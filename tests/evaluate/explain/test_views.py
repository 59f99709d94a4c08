"""Contributions through trained slide encoders: complete, and exact where the mean says them."""

from typing import Any

import numpy as np
import pytest
import torch

from gigassl.bags.bag import Bag
from gigassl.errors import SettingsError, SlideError
from gigassl.evaluate.explain.gradients import integrated_gradients
from gigassl.evaluate.explain.linear import Readout, explain_pooled
from gigassl.evaluate.explain.views import explain_views
from gigassl.vectors.ensemble import EnsembleSettings, embed_bag
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.slide_model import SlideEncoderRecord, SlideModel
from tests.vectors.stores import grid_bag

DIM = 6
OPTIONS: dict[str, dict[str, Any]] = {
    "mlp": {"width": 16}, "abmil": {}, "scm": {}, "lags": {}, "spatial": {"components": 4},
}  # fmt: skip


def model_of(name: str, *, tiles_per_view: int = 7) -> SlideModel:
    network = new_network(name, dim=DIM, cell=112.0, seed=4, options=OPTIONS.get(name))
    width: Any = network.width
    record = SlideEncoderRecord(architecture=name, dim=DIM, width=width, cell=112.0,
                                tiles_per_view=tiles_per_view)  # fmt: skip
    return SlideModel(record=record, network=network.eval())


def some_readout(width: int, seed: int = 0) -> Readout:
    weights = np.random.default_rng(seed).normal(size=width)
    return Readout(weights=weights, shift=0.3, intercept=-0.7)


def bag_of(seed: int = 0) -> Bag:
    return grid_bag("some", cols=6, rows=5, dim=DIM, seed=seed)


def test_through_the_mean_it_is_the_exact_answer() -> None:
    bag, readout = bag_of(), some_readout(DIM)
    exact = explain_pooled(bag.features, pooling="mean", readout=readout)
    found = explain_views(model_of("mean"), bag, readout=readout)
    np.testing.assert_allclose(found.score, exact.score, atol=1e-6)
    assert found.offset == exact.offset
    assert found.output == pytest.approx(exact.output, abs=1e-5)


@pytest.mark.parametrize("name", OPTIONS)
def test_shares_sum_to_the_answer_less_the_intercept(name: str) -> None:
    bag, model = bag_of(), model_of(name)
    readout = some_readout(model.record.width)
    found = explain_views(model, bag, readout=readout, steps=12)
    vector = embed_bag(model, bag).vector
    assert found.output == pytest.approx(readout.of(vector), abs=1e-5)
    assert found.completeness_error is not None
    assert found.completeness_error < 0.02 * np.abs(found.score).sum()
    assert found.n_unseen == 0
    again = explain_views(model, bag, readout=readout, steps=12)
    assert found.score.tobytes() == again.score.tobytes()


@pytest.mark.parametrize("n_tiles", [1, 30])
def test_a_feature_that_never_varies_has_no_share_and_spoils_none(n_tiles: int) -> None:
    bag = bag_of()
    features = bag.features[:n_tiles].copy()
    features[:, 2] = 1.5
    flat = Bag(features=features, coords=bag.coords[:n_tiles], info=bag.info)
    model = model_of("spatial")
    found = explain_views(model, flat, readout=some_readout(model.record.width), steps=12)
    assert np.isfinite(found.score).all()
    assert found.completeness_error is not None
    assert found.completeness_error < 0.02 * np.abs(found.score).sum()


def test_gradients_that_are_not_finite_are_said_to_be_so() -> None:
    with pytest.raises(SlideError, match="gradients of what is explained are not finite"):
        integrated_gradients(lambda x: (x - x).sqrt().sum(), torch.ones(3, 2))


def test_tiles_in_no_view_have_no_score() -> None:
    bag, model = bag_of(), model_of("mlp", tiles_per_view=4)
    found = explain_views(model, bag, readout=some_readout(16), views=EnsembleSettings(views=3))
    assert (found.n_unseen, found.completeness_error is not None) == (30 - 12, True)


def test_a_probe_of_another_width_and_a_vector_of_zero() -> None:
    with pytest.raises(SettingsError, match="reads vectors of 5 columns; the slide encoder makes"):
        explain_views(model_of("mlp"), bag_of(), readout=some_readout(5))
    bag = bag_of()
    empty = Bag(features=np.zeros_like(bag.features), coords=bag.coords, info=bag.info)
    with pytest.raises(SlideError, match="length 0"):
        explain_views(model_of("mean"), empty, readout=some_readout(DIM))


def test_integrated_gradients_are_the_integral() -> None:
    features = torch.linspace(-1, 1, 12).reshape(4, 3)

    def answer(rows: torch.Tensor) -> torch.Tensor:
        return torch.tanh(rows @ torch.tensor([1.0, -2.0, 0.5])).square().sum()

    found = integrated_gradients(answer, features)
    slow, steps = torch.zeros(4), 2000
    for k in range(steps):  # midpoints of even steps
        point = (features * ((k + 0.5) / steps)).requires_grad_()
        (gradient,) = torch.autograd.grad(answer(point), point)
        slow += (gradient * features).sum(dim=1) / steps
    np.testing.assert_allclose(found, slow.numpy(), atol=1e-4)
    assert found.sum() == pytest.approx(float(answer(features)), abs=1e-5)
