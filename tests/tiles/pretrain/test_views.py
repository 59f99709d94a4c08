"""Views of a batch: against one tile after the other with torchvision, and what trainings rely on.

Tolerances: both sides compute in float32; a chain of ten operations differs by some 2e-6, and
torchvision's hue, which goes to sixths of a circle and back, by a little more. 2e-5 is a two
hundredth of one of the 255 levels that tiles come in.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gigassl.tiles.augmentation import AugmentationSettings
from gigassl.tiles.pretrain.settings import HISTOLOGY, TileViewSettings
from gigassl.tiles.pretrain.views import draw_views, random_views
from tests.tiles.pretrain.slow_views import slow_views

TOLERANCE = 2e-5
NOTHING = AugmentationSettings(
    crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0), jitter_p=0.0, grey_p=0.0, blur_p=0.0
)
MEAN, STD = (0.7, 0.5, 0.6), (0.2, 0.25, 0.22)


def tiles_of(n: int, side_px: int, *, seed: int = 0) -> Tensor:
    """Smooth coloured tiles with edges: noise alone would hide errors of the resizing."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=side_px, mode="bilinear")
    return (smooth * 255).byte().permute(0, 2, 3, 1).contiguous()


def views_of(
    tiles: Tensor, what: AugmentationSettings, *, side_px: int = 24, seed: int = 0
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return random_views(tiles, what, side_px=side_px, generator=generator)


@pytest.mark.parametrize(
    "change",
    [
        {"crop_area": (0.1, 0.3), "crop_ratio": (0.5, 2.0)},
        {"crop_area": (0.6, 1.0), "crop_ratio": (0.9, 1.1)},
        {"flips": True},
        {"turns": True},
        {"flips": True, "turns": True, "crop_area": (0.2, 0.8)},
        {"stain": 0.4},
        {"jitter_p": 1.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0},
        {"jitter_p": 1.0, "brightness": 0.0, "saturation": 0.0, "hue": 0.0},
        {"jitter_p": 1.0, "brightness": 0.0, "contrast": 0.0, "hue": 0.0},
        {"jitter_p": 1.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.5},
        {"jitter_p": 0.6},
        {"grey_p": 0.5},
        {"blur_p": 0.5, "blur_px": 7, "blur_sigma": (0.1, 3.0)},
    ],
    ids=str,
)
@pytest.mark.parametrize("side_px", [12, 30, 70])
def test_each_operation_is_torchvisions_on_each_tile(change: dict[str, Any], side_px: int) -> None:
    tiles, what = tiles_of(12, 30), replace(NOTHING, **change)
    found = views_of(tiles, what, side_px=side_px)
    expected = slow_views(tiles, what, side_px=side_px, seed=0)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
    untouched = views_of(tiles, NOTHING, side_px=side_px)
    assert float((found - untouched).abs().max()) > 0.02, "it does something"


def ranges(low: float, high: float) -> st.SearchStrategy[tuple[float, float]]:
    pair = st.tuples(st.floats(low, high), st.floats(low, high))
    return pair.map(lambda two: (min(two), max(two)))


SETTINGS = st.builds(
    AugmentationSettings,
    crop_area=ranges(0.02, 1.0), crop_ratio=ranges(0.3, 3.0),
    flips=st.booleans(), turns=st.booleans(), stain=st.floats(0, 0.9),
    brightness=st.floats(0, 1), contrast=st.floats(0, 1), saturation=st.floats(0, 1),
    hue=st.floats(0, 0.5), jitter_p=st.floats(0, 1), grey_p=st.floats(0, 1),
    blur_p=st.floats(0, 1), blur_px=st.sampled_from([1, 3, 5, 9]), blur_sigma=ranges(0.05, 4.0),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    what=SETTINGS, source_px=st.integers(1, 40), side_px=st.integers(5, 40),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_the_whole_chain_is_torchvisions_whatever_the_settings(
    what: AugmentationSettings, source_px: int, side_px: int, seed: int
) -> None:
    tiles = tiles_of(5, source_px, seed=seed)
    found = views_of(tiles, what, side_px=side_px, seed=seed)
    expected = slow_views(tiles, what, side_px=side_px, seed=seed)
    # a wide kernel multiplies nothing, but colours may be stretched by 2 × 1.9 several times
    torch.testing.assert_close(found, expected, atol=5 * TOLERANCE, rtol=0)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6


@pytest.mark.parametrize(("source_px", "side_px"), [(64, 64), (256, 224), (40, 96)])
def test_the_recipe_for_histology_is_torchvisions(source_px: int, side_px: int) -> None:
    tiles = tiles_of(8, source_px)
    found = views_of(tiles, HISTOLOGY, side_px=side_px)
    expected = slow_views(tiles, HISTOLOGY, side_px=side_px, seed=0)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def drawn_views(
    tiles: Tensor, partners: Tensor | None = None, *, seed: int = 0, part: tuple[int, int] = (0, 1),
    what: TileViewSettings | None = None,
) -> list[Tensor]:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    return draw_views(
        tiles, partners, settings=what or TileViewSettings(side_px=32, n_small=2, small_px=12),
        mean=MEAN, std=STD, generator=generator, part=part,
    )  # fmt: skip


def test_without_augmentation_views_are_the_normalised_tiles() -> None:
    tiles, partners = tiles_of(3, 20), tiles_of(3, 20, seed=1)
    what = TileViewSettings(first=NOTHING, second=NOTHING, side_px=20)
    for seen, view in zip((tiles, partners), drawn_views(tiles, partners, what=what), strict=True):
        expected = (seen / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
        torch.testing.assert_close(view, expected.permute(0, 3, 1, 2), atol=2e-6, rtol=0)
        assert view.is_contiguous()
        assert view.dtype == torch.float32
        assert not view.requires_grad


def test_views_have_their_sides_and_are_drawn_each_for_itself() -> None:
    views = drawn_views(tiles_of(4, 40))
    assert [tuple(v.shape) for v in views] == [(4, 3, 32, 32)] * 2 + [(4, 3, 12, 12)] * 2
    assert not torch.equal(views[0], views[1])
    assert not torch.equal(views[2], views[3])
    same = tiles_of(1, 40).repeat(6, 1, 1, 1)
    first = drawn_views(same)[0]
    assert all(not torch.equal(first[0], other) for other in first[1:])


def test_the_second_view_is_of_the_partner() -> None:
    tiles, partners = tiles_of(4, 40), tiles_of(4, 40, seed=1)
    mixed, own, theirs = (
        drawn_views(tiles, partners), drawn_views(tiles), drawn_views(partners),
    )  # fmt: skip
    assert torch.equal(mixed[0], own[0])
    assert torch.equal(mixed[1], theirs[1])
    assert torch.equal(mixed[2], own[2])


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("side_px", [32, 150])
def test_parts_of_a_batch_get_the_views_of_the_whole(world: int, side_px: int) -> None:
    tiles = tiles_of(6, 60)
    what = TileViewSettings(side_px=side_px, n_small=1, small_px=12)
    whole = drawn_views(tiles, what=what)
    for rank in range(world):
        part = drawn_views(tiles[rank::world], part=(rank, world), what=what)
        for all_views, own in zip(whole, part, strict=True):
            assert torch.equal(all_views[rank::world], own)


def test_the_same_generator_gives_the_same_bytes_and_goes_on() -> None:
    tiles = tiles_of(5, 30)
    generator = torch.Generator().manual_seed(7)
    first, second = (
        random_views(tiles, HISTOLOGY, side_px=16, generator=generator) for _ in range(2)
    )
    assert torch.equal(first, views_of(tiles, HISTOLOGY, side_px=16, seed=7))
    assert not torch.equal(first, second)


def test_tiles_stay_as_they_are_and_need_not_be_contiguous() -> None:
    tiles = tiles_of(5, 30)
    turned = tiles.permute(0, 2, 1, 3)
    before = tiles.clone()
    found = views_of(turned, HISTOLOGY)
    assert torch.equal(tiles, before)
    assert torch.equal(found, views_of(turned.contiguous(), HISTOLOGY))


def test_autocast_around_it_changes_nothing() -> None:
    tiles = tiles_of(5, 30)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = views_of(tiles, HISTOLOGY)
    assert torch.equal(found, views_of(tiles, HISTOLOGY))


def test_an_empty_part_has_no_views() -> None:
    assert views_of(tiles_of(1, 30)[:0], HISTOLOGY).shape == (0, 3, 24, 24)


@pytest.mark.gpu
def test_a_gpu_makes_the_same_views() -> None:
    tiles = tiles_of(16, 64)
    found = views_of(tiles.cuda(), HISTOLOGY, side_px=56).cpu()
    torch.testing.assert_close(found, views_of(tiles, HISTOLOGY, side_px=56), atol=1e-4, rtol=0)
