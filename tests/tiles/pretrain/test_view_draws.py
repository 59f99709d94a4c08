"""Draws of parameters: their ranges, probabilities and distribution, each tile for itself."""

from dataclasses import fields, replace

import torch
from torch import Tensor
from torchvision.transforms import v2

from gigassl.tiles.augmentation import AugmentationSettings
from gigassl.tiles.pretrain.view_draws import JITTER, ViewDraws, draw_parameters

N = 20_000
# four standard deviations of a share of N draws at most
NEAR = 4 * 0.5 / N**0.5
ALL = AugmentationSettings(flips=True, turns=True, stain=0.2)


def draws(what: AugmentationSettings, *, n: int = N, seed: int = 0) -> ViewDraws:
    return draw_parameters(what, n, generator=torch.Generator().manual_seed(seed))


def share(values: Tensor) -> float:
    return float(values.double().mean())


def fills(values: Tensor, low: float, high: float) -> bool:
    """Whether values are uniform from ``low`` to ``high``: all inside, a tenth in each tenth."""
    if float(values.min()) < low - 1e-9 or float(values.max()) > high + 1e-9:
        return False
    counts = torch.histc(values.double(), bins=10, min=low, max=high) / len(values)
    return bool(((counts - 0.1).abs() < NEAR).all())


def test_crops_are_distributed_as_torchvisions() -> None:
    found = draws(AugmentationSettings(crop_area=(0.2, 1.0)))
    crop = v2.RandomResizedCrop(224, scale=(0.2, 1.0))
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        image = torch.zeros(3, 1000, 1000)
        theirs = [crop.make_params([image]) for _ in range(N // 4)]
    other = {
        name: torch.tensor([float(params[name]) for params in theirs]) / 1000
        for name in ("height", "width", "top", "left")
    }
    ours = {
        "height": found.height, "width": found.width,
        "top": found.top * (1 - found.height), "left": found.left * (1 - found.width),
    }  # fmt: skip
    for name, values in ours.items():
        for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
            expected = float(other[name].double().quantile(quantile))
            assert abs(float(values.quantile(quantile)) - expected) < 0.02, (name, quantile)
    areas = found.height * found.width
    assert float(areas.min()) >= 0.2 - 1e-9
    assert float(areas.max()) <= 1
    ratios = found.width / found.height
    assert float(ratios.min()) >= 0.75 - 1e-9
    assert float(ratios.max()) <= 4 / 3 + 1e-9


def test_ratios_that_never_fit_keep_the_whole_tile() -> None:
    found = draws(AugmentationSettings(crop_area=(0.9, 1.0), crop_ratio=(4.0, 5.0)), n=50)
    assert (found.height == 1).all()
    assert (found.width == 1).all()


def test_probabilities_are_those_of_the_settings() -> None:
    found = draws(replace(ALL, jitter_p=0.7, grey_p=0.3, blur_p=0.4))
    assert abs(share(found.order[:, 0] >= 0) - 0.7) < NEAR
    assert abs(share(found.grey) - 0.3) < NEAR
    assert abs(share(found.blurred) - 0.4) < NEAR
    for flips in (found.flip_x, found.flip_y, found.flip_x ^ found.flip_y):
        assert abs(share(flips) - 0.5) < NEAR
    for turns in range(4):
        assert abs(share(found.quarter_turns == turns) - 0.25) < NEAR
    both = share(found.grey & found.blurred)
    assert abs(both - 0.12) < NEAR, "each is drawn for itself"


def test_strengths_fill_their_ranges() -> None:
    found = draws(replace(ALL, brightness=0.1, contrast=0.2, saturation=0.3, blur_sigma=(0.5, 2.0)))
    for number, (name, low, high) in enumerate(
        [("brightness", 0.9, 1.1), ("contrast", 0.8, 1.2), ("saturation", 0.7, 1.3),
         ("hue", -0.2, 0.2)]
    ):  # fmt: skip
        assert JITTER[number] == name
        assert fills(found.jitter[:, number], low, high), name
    for stain in range(2):
        assert fills(found.alphas[:, stain], 0.8, 1.2)
        assert fills(found.betas[:, stain], -0.05, 0.05)
    assert fills(found.sigma, 0.5, 2.0)
    assert fills(found.top, 0.0, 1.0)
    assert fills(found.left, 0.0, 1.0)


def test_all_orders_of_the_colour_operations_are_as_frequent() -> None:
    order = draws(replace(ALL, jitter_p=1.0)).order
    kinds, counts = torch.unique(order, dim=0, return_counts=True)
    assert len(kinds) == 24
    assert (kinds.sort(dim=1).values == torch.arange(4)).all()
    assert ((counts / N - 1 / 24).abs() < NEAR).all()


def test_optional_operations_leave_the_other_draws_as_they_are() -> None:
    plain = AugmentationSettings()
    with_all, without = draws(ALL, n=100), draws(plain, n=100)
    own = {"flip_x", "flip_y", "quarter_turns", "alphas", "betas"}
    for field in fields(ViewDraws):
        same = torch.equal(getattr(with_all, field.name), getattr(without, field.name))
        assert same == (field.name not in own), field.name
    assert not without.flip_x.any()
    assert not without.quarter_turns.any()
    assert (without.alphas == 1).all()
    assert (without.betas == 0).all()


def test_a_longer_batch_begins_with_the_draws_of_a_shorter_one() -> None:
    short, long = draws(ALL, n=5), draws(ALL, n=9)
    for field in fields(ViewDraws):
        assert torch.equal(getattr(short, field.name), getattr(long[:5], field.name))
