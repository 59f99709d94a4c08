"""Sums of rows: against products with the full matrix, torchvision's resize, and its blur."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from gigassl.tiles.pretrain.resampling import (
    Taps,
    blurred,
    crop_taps,
    gauss_taps,
    sums_of_rows,
    swapped,
)

CPU = torch.device("cpu")


def matrix_of(taps: Taps, *, n_rows: int) -> torch.Tensor:
    """The same weights as a dense matrix a tile."""
    tiles, out, _ = taps.rows.shape
    dense = torch.zeros(tiles, out, n_rows)
    return dense.scatter_add_(2, taps.rows, taps.weights.contiguous())


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=4), side_px=st.integers(1, 50),
    room=st.integers(0, 9), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_each_image_is_cropped_and_resized_as_torchvision_does(
    lengths: list[int], side_px: int, room: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    n, side = len(lengths), max(lengths) + room
    images = torch.rand(n, side, 7, generator=generator)
    length = torch.tensor(lengths)
    first = (torch.rand(n, generator=generator) * (side - length + 1)).long()
    flip = torch.rand(n, generator=generator) < 0.5
    taps = crop_taps(first, length, flip=flip, side_px=side_px, device=CPU)
    found = sums_of_rows(images, taps)
    for i in range(n):
        kept = images[i, first[i] : first[i] + length[i]]
        expected = functional.resize(kept[None], [side_px, 7], antialias=True)[0]
        expected = expected.flip(0) if flip[i] else expected
        # torchvision has positions in float32: at 60 px they are 4e-6 px off
        torch.testing.assert_close(found[i], expected, atol=1e-5, rtol=0)
    dense = matrix_of(taps, n_rows=side)
    torch.testing.assert_close(found, dense @ images, atol=2e-6, rtol=0)
    torch.testing.assert_close(dense.sum(dim=2), torch.ones(n, side_px))


def test_rows_that_are_not_kept_do_not_shine_through() -> None:
    images = torch.full((1, 20, 3), 1e6)
    images[:, 5:12] = 0.5
    taps = crop_taps(
        torch.tensor([5]), torch.tensor([7]), flip=torch.tensor([False]), side_px=30, device=CPU
    )
    torch.testing.assert_close(sums_of_rows(images, taps), torch.full((1, 30, 3), 0.5))


@settings(max_examples=40, deadline=None)
@given(
    sigmas=st.lists(st.floats(0.05, 5), min_size=1, max_size=3),
    blur_px=st.sampled_from([1, 3, 5, 9, 23]), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_each_image_is_blurred_as_torchvision_does(
    sigmas: list[float], blur_px: int, seed: int
) -> None:
    images = torch.rand(len(sigmas), 3, 17, 17, generator=torch.Generator().manual_seed(seed))
    taps = gauss_taps(torch.tensor(sigmas), blur_px=blur_px, side_px=17)
    expected = [
        functional.gaussian_blur(image, [blur_px] * 2, [sigma] * 2)
        for image, sigma in zip(images, sigmas, strict=True)
    ]
    torch.testing.assert_close(blurred(images, taps), torch.stack(expected), atol=2e-6, rtol=0)


@pytest.mark.parametrize("side_px", [1, 2, 3])
def test_images_smaller_than_the_kernel_keep_their_light(side_px: int) -> None:
    taps = gauss_taps(torch.tensor([2.0]), blur_px=9, side_px=side_px)
    white = torch.ones(1, 3, side_px, side_px)
    torch.testing.assert_close(blurred(white, taps), white)


@pytest.mark.parametrize("n", [1, 3])
def test_rows_and_columns_change_places(n: int) -> None:
    images = torch.rand(n, 90, 70, generator=torch.Generator().manual_seed(0))
    found = swapped(images)
    assert torch.equal(found, images.mT)
    assert found.is_contiguous()
