"""Objectives: each loss beside a slow version of its paper's formula; heads and momentum."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gigassl.digests import digest_of_tensors
from gigassl.errors import SettingsError
from gigassl.vectors.mlp import ResidualMlp
from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.pretrain.objectives import (
    Byol,
    Objective,
    ViewPair,
    new_objective,
    projector,
    represent,
)
from gigassl.vectors.slide_encoders import initialise
from tests.vectors.pretrain.cohorts import OF_SLIDES

DIM, WIDTH, N = 6, 16, 8


def view(seed: int, *, n_bags: int = N) -> PackedTiles:
    generator = torch.Generator().manual_seed(seed)
    n_tiles = 3 * n_bags
    return PackedTiles(
        features=torch.randn(n_tiles, DIM, generator=generator),
        coords=torch.zeros(n_tiles, 2),
        bag=torch.arange(n_bags).repeat_interleave(3),
        n_bags=n_bags,
    )


def objective(name: str, *, temperature: float = 0.1) -> Objective:
    network = ResidualMlp(dim=DIM, width=WIDTH, dropout=0.0)
    initialise(network, seed=0)
    return new_objective(name, network, width=WIDTH, temperature=temperature, seed=3)


def pairs() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    return generator.normal(size=(N, 5)), generator.normal(size=(N, 5)) + 0.3


def loss_of(name: str, a: np.ndarray, b: np.ndarray, *, temperature: float = 0.1) -> float:
    loss = objective(name, temperature=temperature).loss
    return float(loss(torch.from_numpy(a), torch.from_numpy(b)))


def test_simclr_is_equation_1_of_its_paper() -> None:
    a, b = pairs()
    z = [v / math.sqrt(float(v @ v)) for pair in zip(a, b, strict=True) for v in pair]
    temperature, total = 0.05, 0.0
    for i in range(2 * N):
        j = i + 1 if i % 2 == 0 else i - 1
        others = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in range(2 * N) if k != i)
        total -= math.log(math.exp(float(z[i] @ z[j]) / temperature) / others)
    assert loss_of("simclr", a, b, temperature=temperature) == pytest.approx(
        total / (2 * N), rel=1e-5
    )


def test_vicreg_is_the_sum_of_its_three_terms() -> None:
    a, b = pairs()
    invariance = float(np.mean([(x - y) ** 2 for x, y in zip(a.ravel(), b.ravel(), strict=True)]))
    variance = covariance = 0.0
    for z in (a, b):
        d = z.shape[1]
        for j in range(d):
            variance += max(0.0, 1.0 - math.sqrt(float(z[:, j].var(ddof=1)) + 1e-4)) / d / 2
            for k in range(d):
                if j != k:
                    between = ((z[:, j] - z[:, j].mean()) * (z[:, k] - z[:, k].mean())).sum()
                    covariance += float(between / (N - 1)) ** 2 / d
    expected = 25 * invariance + 25 * variance + covariance
    assert loss_of("vicreg", a, b) == pytest.approx(expected, rel=1e-5)


def test_barlow_twins_wants_the_identity_as_cross_correlation() -> None:
    a, b = pairs()
    total = 0.0
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            x = (a[:, i] - a[:, i].mean()) / math.sqrt(float(a[:, i].var()) + 1e-5)
            y = (b[:, j] - b[:, j].mean()) / math.sqrt(float(b[:, j].var()) + 1e-5)
            c = float((x * y).mean())
            total += (1 - c) ** 2 if i == j else 5e-3 * c**2
    assert loss_of("barlow", a, b) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("name", ["byol", "simsiam"])
def test_the_cosine_losses_are_minus_the_mean_cosine(name: str) -> None:
    a, b = pairs()
    cosines = [
        float(x @ y) / math.sqrt(float(x @ x) * float(y @ y)) for x, y in zip(a, b, strict=True)
    ]
    assert loss_of(name, a, b) == pytest.approx(-sum(cosines) / N, rel=1e-5)


def test_simsiam_sees_both_directions_and_stops_the_gradient() -> None:
    siam = objective("simsiam")
    z1, z2 = (torch.randn(N, 256, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    z1.requires_grad_()
    predict = siam.predictor
    assert isinstance(predict, nn.Sequential)
    loss = siam.compare(z1, z2, views=ViewPair(view(0), view(1)))
    cosine = nn.CosineSimilarity()
    by_hand = -(cosine(predict(z1), z2).mean() + cosine(predict(z2), z1).mean()) / 2
    torch.testing.assert_close(loss, by_hand)
    (through_prediction,) = torch.autograd.grad(-cosine(predict(z1), z2).mean() / 2, z1)
    (all_of_it,) = torch.autograd.grad(loss, z1)
    torch.testing.assert_close(all_of_it, through_prediction)


def test_byol_predicts_the_slow_copy_which_follows_slowly() -> None:
    byol = objective("byol")
    assert isinstance(byol, Byol)
    before = [p.clone() for p in byol.slow_network.parameters()]
    loss, _, _ = byol(ViewPair(view(0), view(1)))
    loss.backward()
    assert all(p.grad is None for p in byol.slow_network.parameters())
    with torch.no_grad():
        for parameter in byol.network.parameters():
            parameter.add_(1.0)
    byol.after_step(0.0)  # the momentum is 0.996 at first
    for slow, old, fast in zip(
        byol.slow_network.parameters(), before, byol.network.parameters(), strict=True
    ):
        torch.testing.assert_close(slow.detach(), 0.996 * old + 0.004 * fast.detach())
    frozen = [p.clone() for p in byol.slow_network.parameters()]
    byol.after_step(1.0)  # and 1 at the end
    assert all(
        torch.equal(a, b) for a, b in zip(frozen, byol.slow_network.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", OF_SLIDES)
def test_every_objective_learns_to_tell_slides_apart(name: str) -> None:
    learner = objective(name)
    views = ViewPair(view(0), view(1))
    trained = [p for p in learner.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=1e-3)
    losses = []
    for step in range(30):
        loss, first, second = learner(views)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        learner.after_step(step / 30)
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert first.shape == second.shape == (N, WIDTH)
    assert not first.requires_grad


def test_equal_seeds_make_equal_heads_and_other_seeds_others() -> None:
    weights = [
        digest_of_tensors(
            new_objective(
                "byol", ResidualMlp(dim=DIM, width=WIDTH), width=WIDTH, temperature=0.1, seed=seed
            ).projector.state_dict()
        )
        for seed in (1, 1, 2)
    ]
    assert weights[0] == weights[1] != weights[2]


def test_the_projector_is_the_published_one() -> None:
    layers = projector(512)
    assert sum(p.numel() for p in layers.parameters()) == 658_688
    kinds = [type(layer).__name__ for layer in layers]
    assert kinds == ["Linear", "ReLU", "BatchNorm1d", "Linear", "ReLU", "BatchNorm1d", "Linear"]


class TwoStreams(nn.Module):
    """A frozen stream beside a learned one."""

    width = 2 * DIM

    def forward(self, tiles: PackedTiles) -> Tensor:
        return torch.cat([self.learned(tiles), self.learned(tiles) * 0], dim=1)

    def learned(self, tiles: PackedTiles) -> Tensor:
        return tiles.features.view(tiles.n_bags, -1, DIM).mean(dim=1)


def test_only_the_learned_part_is_seen_where_there_is_one() -> None:
    assert represent(TwoStreams(), view(0)).shape == (N, DIM)


def test_the_loss_is_computed_in_float32_under_autocast() -> None:
    learner = objective("simclr", temperature=0.05).eval()
    views = ViewPair(view(0), view(1))
    exact = float(learner(views)[0].detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, first, _ = learner(views)
    assert loss.dtype == first.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(exact, rel=0.05)


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(SettingsError, match="did you mean 'simclr'"):
        new_objective("simcrl", nn.Identity(), width=4, temperature=0.1, seed=0)
