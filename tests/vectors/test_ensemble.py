"""View ensembles against a loop over views; what must never change a slide's vector."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gigassl.bags.bag import Bag
from gigassl.bags.reduction import Reduction
from gigassl.errors import SettingsError, SlideError
from gigassl.vectors import ensemble
from gigassl.vectors.ensemble import EnsembleSettings, embed_bag
from gigassl.vectors.groups import dense_groups, generator_of, scattered_groups
from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.pooling import l2_normalised, pool
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.slide_model import SlideEncoderRecord, SlideModel
from tests.vectors.stores import grid_bag

DIM = 6


class Spread(nn.Module):
    """How far tiles lie from the first corner, beside the mean of a nonlinear map of each tile."""

    def __init__(self) -> None:
        super().__init__()
        self.width = DIM + 2
        self.linear = nn.Linear(DIM, DIM)

    def forward(self, tiles: PackedTiles) -> Tensor:
        rows = []
        for bag in range(tiles.n_bags):
            mine = tiles.bag == bag
            place = tiles.coords[mine]
            far = (place - place.amin(dim=0)).mean(dim=0) / 100
            rows.append(torch.cat([torch.tanh(self.linear(tiles.features[mine])).mean(dim=0), far]))
        return torch.stack(rows)


def model_of(network: nn.Module, **facts: Any) -> SlideModel:
    record: dict[str, Any] = {
        "architecture": "some", "dim": DIM, "width": network.width, "cell": 112.0,
    }  # fmt: skip
    return SlideModel(record=SlideEncoderRecord(**record | facts), network=network)


def spread_model(**facts: Any) -> SlideModel:
    network = Spread()
    values = torch.linspace(-1, 1, DIM * DIM).sin()
    with torch.no_grad():
        network.linear.weight.copy_(values.view(DIM, DIM))
        network.linear.bias.zero_()
    return model_of(network, **facts)


def view_by_view(model: SlideModel, bag: Bag, settings: EnsembleSettings) -> tuple[Any, int, float]:
    """The vector of a bag whose tiles are stored row by row, one view at a time."""
    record = model.record
    wanted: dict[str, Any] = {
        "size": settings.tiles_per_view or record.tiles_per_view, "most": settings.views,
        "generator": generator_of(settings.seed, bag.info.slide_id),
    }  # fmt: skip
    groups = (
        dense_groups(bag.coords, **wanted)
        if record.window == "dense"
        else scattered_groups(len(bag), **wanted)
    )
    vectors, weights = [], []
    for group in groups:
        scale = bag.info.mpp_l0 if record.coords_unit == "um" else 1.0
        tiles = PackedTiles(
            features=torch.from_numpy(bag.features[group]).float(),
            coords=torch.from_numpy(bag.coords[group] * scale).float(),
            bag=torch.zeros(len(group), dtype=torch.int64),
            n_bags=1,
        )
        with torch.no_grad():
            vectors.append(model.network(tiles)[0].double().numpy())
        weights.append(len(group))
    total = sum(w * v for w, v in zip(weights, vectors, strict=True)) / sum(weights)
    cosines = [v @ total / np.linalg.norm(v) / np.linalg.norm(total) for v in vectors]
    spread = 1 - sum(w * c for w, c in zip(weights, cosines, strict=True)) / sum(weights)
    return total / np.linalg.norm(total), len(groups), spread


@st.composite
def cases(draw: st.DrawFn) -> tuple[SlideModel, Bag, EnsembleSettings]:
    bag = grid_bag(
        draw(st.sampled_from(["a", "b"])), cols=draw(st.integers(1, 8)),
        rows=draw(st.integers(1, 6)), dim=DIM, seed=draw(st.integers(0, 99)),
    )  # fmt: skip
    model = spread_model(
        window=draw(st.sampled_from(["scatter", "dense"])),
        coords_unit=draw(st.sampled_from(["um", "px_l0"])),
        tiles_per_view=draw(st.integers(1, 9)),
    )
    settings = EnsembleSettings(
        views=draw(st.sampled_from([1, 3, 100])), seed=draw(st.integers(0, 9)),
        tiles_per_view=draw(st.sampled_from([None, 4])),
    )  # fmt: skip
    return model, bag, settings


@given(case=cases())
def test_all_views_at_once_are_what_a_loop_makes(case: Any) -> None:
    model, bag, settings = case
    found = embed_bag(model, bag, settings=settings)
    vector, n_views, spread = view_by_view(model, bag, settings)
    np.testing.assert_allclose(found.vector, vector, atol=1e-6)
    assert found.n_views == n_views
    assert found.view_spread == pytest.approx(spread, abs=1e-6)


@given(case=cases(), seed=st.integers(0, 99), shift=st.integers(-(10**6), 10**6))
def test_order_and_place_of_the_tiles_change_no_byte(case: Any, seed: int, shift: int) -> None:
    model, bag, settings = case
    before = embed_bag(model, bag, settings=settings)
    order = np.random.default_rng(seed).permutation(len(bag))
    moved = Bag(
        features=bag.features[order], coords=bag.coords[order] + [shift, -2 * shift], info=bag.info
    )
    after = embed_bag(model, moved, settings=settings)
    assert before.vector.tobytes() == after.vector.tobytes()
    assert before.view_spread == after.view_spread


@pytest.mark.parametrize("architecture", ["mlp", "scm", "abmil"])
def test_views_share_a_forward_without_touching_each_other(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = new_network(architecture, dim=DIM, cell=112.0, seed=0)
    model, bag = model_of(network), grid_bag(cols=9, rows=7, dim=DIM)
    together = embed_bag(model, bag)
    for at_once in (1, 17):
        monkeypatch.setattr(ensemble, "_TILES_AT_ONCE", at_once)
        apart = embed_bag(model, bag)
        np.testing.assert_allclose(apart.vector, together.vector, atol=1e-6)
        assert apart.view_spread == pytest.approx(together.view_spread, abs=1e-6)


@pytest.mark.parametrize("window", ["scatter", "dense"])
def test_a_mean_over_tiles_stays_that_mean(window: str) -> None:
    """Also where the last view is smaller: a view counts by its number of tiles."""
    bag = grid_bag(cols=7, rows=3, dim=DIM)
    model = model_of(new_network("mean", dim=DIM, cell=112.0, seed=0), window=window)
    found = embed_bag(model, bag)
    assert found.n_views == (5 if window == "scatter" else 4)
    expected = l2_normalised(pool(bag.features, method="mean"))
    np.testing.assert_allclose(found.vector, expected, atol=1e-6)


def test_seed_and_name_draw_other_views_only_over_budget() -> None:
    model = model_of(new_network("mean", dim=DIM, cell=112.0, seed=0))
    bag = grid_bag(cols=7, rows=5, dim=DIM)
    few = [
        embed_bag(model, renamed, settings=EnsembleSettings(views=2, seed=seed))
        for renamed in (bag, replace(bag, info=replace(bag.info, slide_id="other")))
        for seed in (0, 1)
    ]
    assert len({found.vector.tobytes() for found in few}) == 4
    assert all(found.n_views == 2 for found in few)


def test_spread_is_zero_for_one_view_and_for_views_alike() -> None:
    model = model_of(new_network("mean", dim=DIM, cell=112.0, seed=0))
    bag = grid_bag(cols=2, rows=2, dim=DIM)
    assert embed_bag(model, bag).view_spread == pytest.approx(0, abs=1e-12)
    alike = replace(bag, features=np.ones_like(bag.features))
    one_each = EnsembleSettings(tiles_per_view=1)
    assert embed_bag(model, alike, settings=one_each).view_spread == pytest.approx(0, abs=1e-12)
    assert embed_bag(model, bag, settings=one_each).view_spread > 0.1


def test_wide_features_are_reduced_first() -> None:
    rng = np.random.default_rng(0)
    reduction = Reduction(
        mean=rng.normal(size=DIM).astype(np.float32),
        components=rng.normal(size=(3, DIM)).astype(np.float32),
    )
    model = replace(model_of(new_network("mean", dim=3, cell=112.0, seed=0)), reduction=reduction)
    bag = grid_bag(dim=DIM)
    expected = (bag.features.astype(np.float64) - reduction.mean) @ reduction.components.T
    mean = expected.mean(axis=0)
    np.testing.assert_allclose(embed_bag(model, bag).vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_a_network_left_in_training_mode_is_used_in_evaluation_mode() -> None:
    network = new_network("mlp", dim=DIM, cell=112.0, seed=0, options={"dropout": 0.5})
    model, bag = model_of(network), grid_bag(dim=DIM)
    network.train()
    first = embed_bag(model, bag)
    network.train()
    assert embed_bag(model, bag).vector.tobytes() == first.vector.tobytes()


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"mpp_l0": None}, "the µm/px of its coordinates is not known"),
        ({"dim": 5}, "features are 5 wide, the slide encoder wants 6"),
    ],
)
def test_bags_that_do_not_fit_are_refused(facts: dict[str, Any], sentence: str) -> None:
    bag = grid_bag(**{"dim": DIM} | facts)
    with pytest.raises(SlideError, match=sentence):
        embed_bag(spread_model(), bag)


def test_pixels_need_no_resolution() -> None:
    bag = grid_bag(dim=DIM, mpp_l0=None)
    assert np.isfinite(embed_bag(spread_model(coords_unit="px_l0"), bag).vector).all()


def test_a_vector_that_is_no_number_is_refused() -> None:
    network = Spread()
    nn.init.constant_(network.linear.bias, torch.nan)
    model = model_of(network)
    with pytest.raises(SlideError, match="NaN or infinite"):
        embed_bag(model, grid_bag(dim=DIM))


@pytest.mark.parametrize("wrong", [{"views": 0}, {"tiles_per_view": 0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match="must be at least 1; got 0"):
        EnsembleSettings(**wrong)
