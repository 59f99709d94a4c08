"""Training of needle networks: it learns, a seed decides it, scores and saliency by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gigassl.errors import GigasslError, SettingsError
from gigassl.evaluate.needles.network import NeedleNetworkSettings
from gigassl.evaluate.needles.saliency import needle_places, needle_saliency, share_inside
from gigassl.evaluate.needles.training import (
    NeedleTrainingSettings,
    _order,
    as_input,
    fit_needles,
    new_needle_network,
    score_needles,
)
from gigassl.slides.digits import read_digits
from gigassl.slides.needles import NeedleImages, NeedleSettings, draw_needles

TRAIN = read_digits().train
QUICK = NeedleTrainingSettings(updates=60, batch_size=16, checks=3)
SMALL = NeedleNetworkSettings(width=8)


def bright_or_dark(n: int, *, side: int = 12, first: int = 0) -> NeedleImages:
    """Images that a network learns at once: positive ones are brighter."""
    generator = np.random.default_rng(first)
    labels = np.arange(n) % 2
    images = generator.integers(0, 100, (n, side, side)) + 100 * labels[:, None, None]
    images[:, 4:8, 4:8] += (50 * labels[:, None, None]).astype(np.int64)
    return NeedleImages(
        images=images.clip(0, 255).astype(np.uint8), labels=labels, digit_px=4,
        corners=np.full((n, 2), 4), classes=np.zeros((n, 1), np.int64),
    )  # fmt: skip


def test_an_easy_task_is_learned_and_a_seed_gives_the_same_network() -> None:
    batch = replace(SMALL, norm="batch")
    fitted, again, other = (
        fit_needles(
            bright_or_dark(32), bright_or_dark(16, first=1), network=batch,
            settings=replace(QUICK, seed=seed),
        )
        for seed in (1, 1, 2)
    )  # fmt: skip
    assert fitted.best.validation.accuracy > 0.9
    assert [check.update for check in fitted.curve] == [20, 40, 60]
    weights, same, different = (each.network.state_dict() for each in (fitted, again, other))
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert any(not torch.equal(weights[name], different[name]) for name in weights)
    # the weights kept are those of the best check
    best = max(check.validation.accuracy for check in fitted.curve)
    assert score_needles(fitted.network, bright_or_dark(16, first=1)).accuracy == best


class Says(nn.Module):
    """Calls an image positive by the mean of its pixels."""

    def __init__(self, above: float) -> None:
        super().__init__()
        self.above = nn.Parameter(torch.tensor(above))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        said = images.mean(dim=(1, 2, 3)) - self.above
        return torch.stack([-said, said], dim=1)


def test_scores_by_hand() -> None:
    images = bright_or_dark(6)
    images.images[:] = (np.arange(6) * 50)[:, None, None]
    score = score_needles(Says(0.35), images)  # calls images 2 to 5 positive; 1, 3, 5 are
    assert score.accuracy == pytest.approx(3 / 6)
    assert score.precision == pytest.approx(2 / 4)
    assert score.recall == pytest.approx(2 / 3)
    margins = [2 * (k * 50 / 255 - 0.35) * (1 if k % 2 else -1) for k in range(6)]
    expected = np.mean([math.log(1 + math.exp(-margin)) for margin in margins])
    assert score.loss == pytest.approx(expected, rel=1e-5)
    assert math.isnan(score_needles(Says(2.0), images).precision)


def test_order_takes_every_image_once_a_pass_or_by_weight() -> None:
    labels = np.array([0] * 9 + [1])
    order = _order(
        labels, settings=replace(QUICK, batch_size=4), generator=np.random.default_rng(0)
    )
    drawn = np.concatenate([next(order) for _ in range(5)])
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(10))
    weighted = _order(
        labels, settings=replace(QUICK, weighted=True, batch_size=1000),
        generator=np.random.default_rng(0),
    )  # fmt: skip
    assert labels[next(weighted)].mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("pooling", ["mean", "max", "lse", "attention"])
def test_saliency_is_the_gradient_by_differences(pooling: str) -> None:
    settings = replace(SMALL, width=2, pooling=pooling, norm="batch")  # type: ignore[arg-type]
    network = new_needle_network(settings, seed=0)
    image = bright_or_dark(1).images
    found = needle_saliency(network, image)[0]
    exact = network.double()
    pixels = as_input(image).double()
    for row, col in ((5, 6), (2, 9), (8, 3)):
        steps = []
        for step in (1e-6, -1e-6):
            moved = pixels.clone()
            moved[0, 0, row, col] += step
            steps.append(float(exact(moved)[0, 1].detach()))
        assert found[row, col] == pytest.approx(abs(steps[0] - steps[1]) / 2e-6, rel=2e-3, abs=1e-5)


def test_places_and_share_inside() -> None:
    network = new_needle_network(SMALL, seed=0)
    images = bright_or_dark(2)
    assert needle_places(network, images.images).shape == (2, 5, 5)
    flat = np.ones((2, 12, 12), np.float32)
    masks = np.zeros((2, 12, 12), bool)
    masks[:, 4:8, 4:8] = True
    assert share_inside(flat, masks) == pytest.approx([16 / 144] * 2)
    assert share_inside(flat * masks, masks) == pytest.approx([1.0] * 2)


def test_a_loss_that_runs_away_is_said() -> None:
    with pytest.raises(GigasslError, match="became infinite within"):
        fit_needles(
            bright_or_dark(8), bright_or_dark(8), network=replace(SMALL, norm="batch"),
            settings=replace(QUICK, optimiser="sgd", lr=1e30),
        )  # fmt: skip


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="checks 1 to the updates"):
        replace(QUICK, checks=100)
    with pytest.raises(SettingsError, match="above 0; got 0"):
        replace(QUICK, lr=0.0)


def test_all_optimisers_step() -> None:
    images = draw_needles(NeedleSettings(canvas_px=16), TRAIN, n=8, seed=0)
    for optimiser in ("rmsprop", "sgd", "adam"):
        settings = NeedleTrainingSettings(
            updates=2,
            batch_size=4,
            checks=1,
            optimiser=optimiser,
        )
        start = new_needle_network(SMALL, seed=0).state_dict()
        fitted = fit_needles(images, images, network=SMALL, settings=settings)
        after = fitted.network.state_dict()
        assert any(not torch.equal(start[name], after[name]) for name in start), optimiser
