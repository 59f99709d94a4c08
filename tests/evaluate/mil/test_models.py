"""MIL models: against the papers' formulas, and what must never change what they say."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gigassl.errors import SettingsError
from gigassl.evaluate.mil.attention import PICKED, AttentionPooling, Clam
from gigassl.evaluate.mil.models import OF_BAGS, new_model
from gigassl.evaluate.mil.nystrom import SelfAttention, nystrom, pseudo_inverse
from gigassl.evaluate.mil.packed import OUTSIDE
from gigassl.vectors.attention import GatedAttention
from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.slide_encoders import initialise, new_network
from tests.evaluate.mil import formulas
from tests.evaluate.mil.bags import DIM, SEEDS, SIZES, packed, random_bags, some_task

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "mean": {"embed": (5,)},
    "max": {"embed": (5,)},
    "mean-mlp": {"embed": (5,)},
    "abmil": {"embed": (5,), "hidden": 4},
    "gated-abmil": {"embed": (5,), "hidden": 4},
    "clam-sb": {"embed": (5,), "hidden": 4},
    "dsmil": {"hidden": 4},
    "transmil": {"width": 16},
}
FORMULAS: Mapping[str, Callable[[Mapping[str, np.ndarray], np.ndarray], np.ndarray]] = {
    "mean": formulas.mean,
    "max": formulas.largest,
    "mean-mlp": formulas.mean_mlp,
    "abmil": formulas.abmil,
    "gated-abmil": formulas.abmil,
    "clam-sb": formulas.abmil,
    "dsmil": formulas.dsmil,
    "transmil": formulas.transmil,
}
every_model = pytest.mark.parametrize("name", OF_BAGS)


def model_of(name: str, *, classes: int = 2, seed: int = 1) -> nn.Module:
    task = some_task(classes=classes)
    return new_model(name, task, dim=DIM, seed=seed, options=OPTIONS[name]).eval()


@every_model
@given(sizes=SIZES, seed=SEEDS, classes=st.sampled_from([2, 3]))
@settings(max_examples=10)
def test_what_a_model_says_is_the_published_formula(
    name: str, sizes: list[int], seed: int, classes: int
) -> None:
    bags = random_bags(sizes, seed)
    model = model_of(name, classes=classes, seed=seed)
    weights = formulas.weights_of(model)
    expected = np.stack([FORMULAS[name](weights, bag.double().numpy()) for bag in bags])
    found = model(packed(bags)).scores.detach().double().numpy()
    assert found.shape == (len(sizes), 1 if classes == 2 else 3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@every_model
@given(sizes=SIZES, seed=SEEDS, height=st.sampled_from([None, 20, 77, 200]), data=st.data())
@settings(max_examples=20)
def test_a_bag_alone_padded_or_in_a_batch_gets_the_same(
    name: str, sizes: list[int], seed: int, height: int | None, data: st.DataObject
) -> None:
    bags = random_bags(sizes, seed)
    model = model_of(name)
    together = model(packed(bags)).scores
    chosen = data.draw(st.integers(0, len(bags) - 1))
    alone = model(packed([bags[chosen]], height=height)).scores[0]
    torch.testing.assert_close(alone, together[chosen], rtol=1e-4, atol=1e-5)


@every_model
@given(sizes=SIZES, seed=SEEDS)
@settings(max_examples=10)
def test_what_stands_in_rows_that_pad_changes_nothing(
    name: str, sizes: list[int], seed: int
) -> None:
    bags = packed(random_bags(sizes, seed))
    model = model_of(name)
    before = model(bags).scores
    bags.features[bags.bag == OUTSIDE] = 1e4
    torch.testing.assert_close(model(bags).scores, before)


@pytest.mark.parametrize("name", [name for name in OF_BAGS if name != "transmil"])
@given(size=st.integers(1, 30), seed=SEEDS, data=st.data())
@settings(max_examples=20)
def test_the_order_of_tiles_changes_nothing(
    name: str, size: int, seed: int, data: st.DataObject
) -> None:
    (bag,) = random_bags([size], seed)
    order = torch.tensor(data.draw(st.permutations(range(size))))
    model = model_of(name)
    before, after = (model(packed([tiles])).scores for tiles in (bag, bag[order]))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_transmil_reads_tiles_in_their_order_by_design_of_its_paper() -> None:
    (bag,) = random_bags([20], seed=0)
    model = model_of("transmil")
    before, after = (model(packed([tiles])).scores for tiles in (bag, bag.flip(0)))
    assert (before - after).abs().max() > 1e-4


@every_model
def test_every_weight_gets_a_gradient(name: str) -> None:
    model = model_of(name, classes=3).train()
    reading = model(packed(random_bags([20, 9], seed=0)))
    total = sum(stream.square().sum() for stream in reading.streams)
    if reading.clusters is not None:
        total = total + reading.clusters.highest.square().sum()
    total.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@every_model
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(name: str) -> None:
    first, same, other = (
        torch.cat([p.flatten() for p in model_of(name, seed=seed).parameters()])
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert (first != other).float().mean() > 0.5


def test_gated_attention_is_that_of_the_slide_encoder() -> None:
    model = model_of("gated-abmil")
    assert isinstance(model, AttentionPooling)
    other = new_network("abmil", dim=DIM, cell=1.0, seed=0, options={"width": 5, "hidden": 4})
    assert isinstance(other, GatedAttention)
    other.load_state_dict({
        name.removeprefix("attention."): value
        for name, value in model.state_dict().items() if not name.startswith("head.")
    })  # fmt: skip
    bags = packed(random_bags([5, 9, 2], seed=4), height=16)
    tiles = PackedTiles(features=bags.features, coords=torch.zeros(16, 2), bag=bags.bag, n_bags=3)
    expected = other.weights(other.embed(tiles.features), tiles)
    torch.testing.assert_close(model.weights(bags), expected)


@pytest.mark.parametrize("name", ["abmil", "gated-abmil", "clam-sb", "dsmil"])
def test_weights_of_a_bag_are_positive_and_sum_to_one(name: str) -> None:
    bags = packed(random_bags([5, 9, 1], seed=4))
    found = torch.split(model_of(name).weights(bags), [5, 9, 1])  # type: ignore[operator]
    for weights in found:
        assert (weights > 0).all()
        assert weights.sum().item() == pytest.approx(1, abs=1e-5)


def test_clam_picks_the_ends_of_its_attention() -> None:
    model = model_of("clam-sb")
    assert isinstance(model, Clam)
    bags = random_bags([40, 5, 1], seed=2)
    reading = model(packed(bags))
    assert reading.clusters is not None
    assert reading.clusters.bag.tolist() == [0] * PICKED + [1] * 2
    order = model.attention(model.embed(bags[1])).argsort(descending=True)
    ends = model.instances(model.embed(bags[1])[order]).reshape(5, 2, 2)
    torch.testing.assert_close(reading.clusters.highest[PICKED:], ends[:2])
    torch.testing.assert_close(reading.clusters.lowest[PICKED:], ends[3:])


def heads_of(n_tokens: int, *, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, n_tokens, 8, generator=generator) for _ in range(3))


def test_nystrom_attention_is_exact_with_a_landmark_a_token() -> None:
    # tokens far apart, so that six steps of the pseudo-inverse are enough
    query = 3 * torch.eye(8).expand(2, -1, -1)
    value = heads_of(8)[2]
    exact = nn.functional.scaled_dot_product_attention(query, query, value)
    torch.testing.assert_close(nystrom(query, query, value, landmarks=8), exact)
    query, key, value = heads_of(24)  # tokens anywhere: near
    exact = nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(nystrom(query, key, value, landmarks=24), exact, rtol=0, atol=0.03)


def test_nystrom_attention_nears_the_exact_one_with_more_landmarks() -> None:
    # tokens that change slowly along the bag, as runs of neighbours are meant to be alike
    along = torch.linspace(0, 6, 512)[None, :, None]
    wave = torch.sin(along * torch.arange(1, 9) / 2)
    query, key, value = wave.expand(2, -1, -1), 1.5 * wave.expand(2, -1, -1), heads_of(512)[2]
    exact = nn.functional.scaled_dot_product_attention(query, key, value)
    errors = [
        float((nystrom(query, key, value, landmarks=n) - exact).norm() / exact.norm())
        for n in (4, 16, 64)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.03


def test_long_bags_take_the_approximation_and_short_ones_do_not() -> None:
    layer = SelfAttention(width=16, landmarks=5, exact_tokens=30, dropout=0.0)
    initialise(layer, seed=0)
    exact = SelfAttention(width=16, exact_tokens=10_000, dropout=0.0)
    exact.load_state_dict(layer.state_dict())
    for n_tokens, same in ((30, True), (31, False)):
        tokens = 4 * torch.randn(n_tokens, 16, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(layer(tokens), exact(tokens), atol=1e-5) is same


def test_pseudo_inverse_of_a_softmax_matrix() -> None:
    matrix = (3 * heads_of(8)[0]).softmax(dim=2).double()
    found = pseudo_inverse(matrix, steps=30)
    torch.testing.assert_close(found, torch.linalg.pinv(matrix), rtol=1e-4, atol=1e-4)


def test_half_precision_stays_near_full_precision() -> None:
    bags = packed(random_bags([3000, 5], seed=0))
    for name in OF_BAGS:
        model = model_of(name)
        exact = model(bags).scores
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(bags).scores.float()
        torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05, msg=name)


def test_unknown_models_options_and_tasks_are_refused_in_a_sentence() -> None:
    task = some_task()
    with pytest.raises(SettingsError, match=r"unknown MIL model 'abml'.*abmil"):
        new_model("abml", task, dim=4, seed=0, options={})
    with pytest.raises(SettingsError, match=r"MIL model 'mean'.*wide"):
        new_model("mean", task, dim=4, seed=0, options={"wide": 3})
    with pytest.raises(SettingsError, match=r"'clam-sb' clusters .* is regression"):
        new_model("clam-sb", some_task(kind="regression"), dim=4, seed=0, options={})
