"""Gated attention: against the formula one bag at a time, and what must never change a vector."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gigassl.vectors.attention import GatedAttention, softmax_of_bags
from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.slide_encoders import new_network

DIM, WIDTH = 6, 5
sizes_of_bags = st.lists(st.integers(1, 7), min_size=1, max_size=6)
seeds = st.integers(0, 2**31)


def network() -> GatedAttention:
    found = new_network("abmil", dim=DIM, cell=1.0, seed=3, options={"width": WIDTH, "hidden": 4})
    assert isinstance(found, GatedAttention)
    return found.eval()


def packed(bags: list[Tensor]) -> PackedTiles:
    return PackedTiles(
        features=torch.cat(bags),
        coords=torch.zeros(sum(map(len, bags)), 2),
        bag=torch.arange(len(bags)).repeat_interleave(torch.tensor([len(b) for b in bags])),
        n_bags=len(bags),
    )


def random_bags(sizes: list[int], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(size, DIM, generator=generator) for size in sizes]


def one_bag_slowly(net: GatedAttention, bag: Tensor) -> Tensor:
    """Equation 9 of the paper, one tile after the other, in double precision."""
    weight = {name: value.double() for name, value in net.state_dict().items()}
    tiles, scores = [], []
    for features in bag.double():
        tile = (weight["embed.0.weight"] @ features + weight["embed.0.bias"]).clamp(min=0)
        content = (weight["content.weight"] @ tile + weight["content.bias"]).tanh()
        gate = (weight["gate.weight"] @ tile + weight["gate.bias"]).sigmoid()
        tiles.append(tile)
        scores.append((weight["score.weight"][0] @ (content * gate)).exp())
    total = torch.stack(scores).sum()
    return torch.stack([s / total * tile for s, tile in zip(scores, tiles, strict=True)]).sum(0)


@given(sizes=sizes_of_bags, seed=seeds)
def test_the_vectors_are_those_of_the_published_formula(sizes: list[int], seed: int) -> None:
    bags = random_bags(sizes, seed)
    net = network()
    expected = torch.stack([one_bag_slowly(net, bag) for bag in bags])
    torch.testing.assert_close(net(packed(bags)).double(), expected, rtol=1e-4, atol=1e-5)


@given(sizes=sizes_of_bags, seed=seeds, data=st.data())
def test_order_of_tiles_and_other_bags_never_change_a_vector(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    bags = random_bags(sizes, seed)
    net = network()
    together = net(packed(bags))
    chosen = data.draw(st.integers(0, len(bags) - 1))
    order = torch.tensor(data.draw(st.permutations(range(sizes[chosen]))))
    alone = net(packed([bags[chosen][order]]))[0]
    torch.testing.assert_close(alone, together[chosen], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_large_scores_neither_overflow_nor_leak_into_other_bags(shift: float) -> None:
    scores = torch.tensor([0.0, 1.0, 2.0 + shift, 3.0 + shift])
    bag = torch.tensor([0, 0, 1, 1])
    expected = torch.tensor([0.0, 1.0]).softmax(0).repeat(2)
    found = softmax_of_bags(scores, bag, n_bags=2)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)


def test_gradients_are_those_of_pytorchs_softmax() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5, generator=generator, requires_grad=True)
    factor = torch.randn(5, generator=generator)
    bag = torch.tensor([0, 0, 1, 1, 1])
    (grouped,) = torch.autograd.grad(
        (softmax_of_bags(scores, bag, n_bags=2) * factor).sum(), scores
    )
    whole = torch.cat([scores[:2].softmax(0), scores[2:].softmax(0)])
    (expected,) = torch.autograd.grad((whole * factor).sum(), scores)
    torch.testing.assert_close(grouped, expected)


def test_half_precision_keeps_weights_that_sum_to_one() -> None:
    bags = random_bags([4000, 3], seed=1)
    net = network()
    exact = net(packed(bags))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = net(packed(bags))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.03, atol=0.03)
    constant = packed([torch.ones(4000, DIM)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedded = net.embed(constant.features)
        total = net.weights(embedded, constant).detach().sum()
    assert total.item() == pytest.approx(1.0, abs=1e-4)
