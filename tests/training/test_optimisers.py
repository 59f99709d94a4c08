"""Optimisers: LARS beside an obvious version, fused ones beside plain ones, what is not decayed."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from gigassl.errors import SettingsError
from gigassl.training.optimisers import OPTIMISERS, learning_rate, new_optimiser


def network() -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    generator = torch.Generator().manual_seed(0)
    for parameter in layers.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return layers


def trained(name: str, *, steps: int, **options: float) -> list[torch.Tensor]:
    layers = network()
    optimiser = new_optimiser(name, layers, **options)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        layers(torch.randn(9, 5, generator=generator)).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    return [parameter.detach() for parameter in layers.parameters()]


def test_lars_is_the_rule_of_the_paper() -> None:
    lr, decay, momentum, trust = 0.7, 0.01, 0.9, 0.001
    layers = network()
    moved = [torch.zeros_like(p) for p in layers.parameters()]
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        layers.zero_grad()
        layers(torch.randn(9, 5, generator=generator)).square().mean().backward()
        for v, p in zip(moved, layers.parameters(), strict=True):
            assert p.grad is not None
            g = p.grad
            if p.ndim >= 2:  # a weight: decayed, and its step scaled to its size
                g = g + decay * p.data
                local = trust * math.sqrt(float((p.data**2).sum())) / math.sqrt(float((g**2).sum()))
                g = local * g
            v[:] = momentum * v + g
            p.data -= lr * v
    ours = trained("lars", steps=4, lr=lr, weight_decay=decay)
    for mine, obvious in zip(ours, layers.parameters(), strict=True):
        torch.testing.assert_close(mine, obvious.detach())


def test_lars_leaves_a_layer_of_zeros_its_plain_step() -> None:
    layers = nn.Linear(3, 2, bias=False)
    layers.weight.data.zero_()
    optimiser = new_optimiser("lars", layers, lr=0.5, weight_decay=0.0)
    layers.weight.grad = torch.ones(2, 3)
    optimiser.step()
    torch.testing.assert_close(layers.weight.detach(), torch.full((2, 3), -0.5))


@pytest.mark.parametrize(
    ("name", "plain"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_the_fused_optimisers_take_the_plain_ones_steps(
    name: str, plain: type[torch.optim.Adam]
) -> None:
    layers = network()
    weights = [p for p in layers.parameters() if p.ndim >= 2]
    others = [p for p in layers.parameters() if p.ndim < 2]
    optimiser = plain(
        [{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=0.01, foreach=False,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        optimiser.zero_grad()
        layers(torch.randn(9, 5, generator=generator)).square().mean().backward()
        optimiser.step()
    for mine, theirs in zip(
        trained(name, steps=4, lr=0.01, weight_decay=0.1), layers.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, theirs.detach())


def test_sgd_has_momentum_and_decays_weights_only() -> None:
    layers = network()
    moved = [torch.zeros_like(p) for p in layers.parameters()]
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        layers.zero_grad()
        layers(torch.randn(9, 5, generator=generator)).square().mean().backward()
        for v, p in zip(moved, layers.parameters(), strict=True):
            assert p.grad is not None
            v[:] = 0.9 * v + p.grad + (0.1 * p.data if p.ndim >= 2 else 0.0)
            p.data -= 0.01 * v
    ours = trained("sgd", steps=4, lr=0.01, weight_decay=0.1)
    for mine, obvious in zip(ours, layers.parameters(), strict=True):
        torch.testing.assert_close(mine, obvious.detach())


def test_what_takes_no_gradient_is_left_out() -> None:
    layers = network()
    layers[3].requires_grad_(requires_grad=False)
    optimiser = new_optimiser("adam", layers, lr=0.1, weight_decay=0.0)
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 4


def test_an_unknown_optimiser_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="known: adam, adamw, lars, sgd"):
        new_optimiser("adamv", network(), lr=0.1, weight_decay=0.0)
    assert set(OPTIMISERS) == {"adam", "adamw", "lars", "sgd"}


def test_the_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    rates = [learning_rate(s, peak=0.3, warmup_steps=10, steps=100) for s in range(100)]
    assert rates[0] == pytest.approx(0.03)
    assert max(rates) == rates[9] == rates[10] == pytest.approx(0.3)
    assert all(a <= b for a, b in pairwise(rates[:10]))
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.001
    half = learning_rate(55, peak=0.3, warmup_steps=10, steps=100)
    assert half == pytest.approx(0.15)


def test_without_warm_up_it_begins_at_the_peak() -> None:
    assert learning_rate(0, peak=0.3, warmup_steps=0, steps=10) == pytest.approx(0.3)
