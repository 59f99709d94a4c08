"""Colour operations, each image with a strength of its own: against torchvision and by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional

from gigassl.tiles.colours import (
    brightened,
    contrasted,
    grey_of,
    hue_turned,
    saturated,
    stain_change,
    stains_changed,
)

STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
OPERATIONS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[..., Tensor]]] = {
    "brightness": (brightened, functional.adjust_brightness),
    "contrast": (contrasted, functional.adjust_contrast),
    "saturation": (saturated, functional.adjust_saturation),
    "hue": (hue_turned, functional.adjust_hue),
}


def images_of(seed: int, *, n_levels: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, n_levels, (4, 3, 5, 7), generator=generator)
    return levels / (n_levels - 1)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_levels=st.sampled_from([2, 4, 256]),  # few levels, so that channels are often equal
    values=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_image_gets_its_own_strength_of_torchvisions_operation(
    name: str, seed: int, n_levels: int, values: list[float]
) -> None:
    images = images_of(seed, n_levels=n_levels)
    before = images.clone()
    ours, theirs = OPERATIONS[name]
    strengths = [value - 0.5 if name == "hue" else 2 * value for value in values]
    expected = torch.stack([theirs(i, s) for i, s in zip(images, strengths, strict=True)])
    found = ours(images, torch.tensor(strengths))
    # torchvision's hue goes to sixths of a circle and back in float32, which costs some bits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert torch.equal(images, before), "the images given stay as they are"


def test_one_turn_of_the_hue_serves_all_images() -> None:
    images = images_of(0, n_levels=256)
    assert torch.equal(hue_turned(images, 0.2), hue_turned(images, torch.full((4,), 0.2)))


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_strength_changes_nothing(name: str) -> None:
    images = images_of(0, n_levels=256)
    nothing = torch.full((4,), 0.0 if name == "hue" else 1.0)
    torch.testing.assert_close(OPERATIONS[name][0](images, nothing), images, atol=1e-6, rtol=0)


def test_nearly_grey_pixels_have_a_finite_hue() -> None:
    tiny = torch.tensor([0.0, 1e-45, 1e-38, 1e-12, 1e-7])
    images = (0.5 * tiny).view(1, 1, 1, -1).repeat(1, 3, 1, 1)
    images[:, 1] += tiny
    assert hue_turned(images, 0.3).isfinite().all()
    grey = torch.full((1, 3, 2, 2), 0.3)
    assert torch.equal(hue_turned(grey, 0.3), grey)


def test_grey_is_torchvisions() -> None:
    images = images_of(0, n_levels=256)
    torch.testing.assert_close(grey_of(images), functional.rgb_to_grayscale(images))


def test_stain_jitter_is_deconvolution_pixel_by_pixel() -> None:
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.1
    alphas, betas = [[1.2, 0.9], [0.7, 1.0]], [[0.02, -0.01], [0.0, 0.05]]
    found = stains_changed(images, *stain_change(torch.tensor(alphas), torch.tensor(betas)))
    for before, after, alpha, beta in zip(images, found, alphas, betas, strict=True):
        pixels = zip(before.flatten(1).T.numpy(), after.flatten(1).T.numpy(), strict=True)
        for pixel, new in pixels:
            amounts = np.linalg.solve(STAINS.T, -np.log10(pixel))
            changed = amounts * (*alpha, 1.0) + (*beta, 0.0)
            assert np.allclose(new, np.clip(10 ** -(changed @ STAINS), 0, 1), atol=1e-4)


def test_unchanged_stains_leave_images_as_they_are() -> None:
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.1
    same = stain_change(torch.ones(1, 2), torch.zeros(1, 2))
    torch.testing.assert_close(stains_changed(images, *same), images)


def test_more_haematoxylin_leaves_eosin_as_it_is() -> None:
    stain = np.array([0.650, 0.704, 0.286])
    pure = torch.from_numpy(10**-stain).float().view(1, 3, 1, 1)
    change = stain_change(torch.tensor([[1.5, 0.5]]), torch.zeros(1, 2))
    found = stains_changed(pure, *change).flatten().numpy()
    assert np.allclose(-np.log10(found), 1.5 * stain, atol=1e-4)
