"""The eight variants: a group, one convention, cells that go with their pixels."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gigassl.tiles.engine import EngineSettings, TileEncoder
from gigassl.tiles.records import EncoderRecord
from gigassl.tiles.turns import N_VARIANTS, inverse, turned, turned_cells, turned_shape

SIDES = st.integers(1, 7)
VARIANTS = st.integers(0, N_VARIANTS - 1)


def picture(n_rows: int, n_cols: int) -> torch.Tensor:
    """Every pixel another number."""
    return torch.arange(n_rows * n_cols).view(n_rows, n_cols)


@given(n_rows=SIDES, n_cols=SIDES, variant=VARIANTS)
def test_a_variant_is_mirrored_and_then_turned_counter_clockwise(
    n_rows: int, n_cols: int, variant: int
) -> None:
    image = picture(n_rows, n_cols)
    mirrored = np.fliplr(image) if variant >= 4 else image.numpy()
    expected = np.rot90(mirrored, variant % 4)
    found = turned(image, variant)
    np.testing.assert_array_equal(found, expected)
    assert tuple(found.shape) == turned_shape((n_rows, n_cols), variant)


def test_variants_are_a_group_of_eight() -> None:
    image = picture(3, 4)
    all_eight = {turned(image, v).numpy().tobytes(): v for v in range(N_VARIANTS)}
    assert len(all_eight) == N_VARIANTS
    for first, then in itertools.product(range(N_VARIANTS), repeat=2):
        both = turned(turned(image, first), then)
        assert both.numpy().tobytes() in all_eight, "two in a row are one of them"


@given(n_rows=SIDES, n_cols=SIDES, variant=VARIANTS)
def test_the_inverse_brings_everything_back(n_rows: int, n_cols: int, variant: int) -> None:
    image = picture(n_rows, n_cols)
    torch.testing.assert_close(turned(turned(image, variant), inverse(variant)), image)


@given(n_rows=SIDES, n_cols=SIDES, variant=VARIANTS)
def test_cells_go_where_their_pixels_go(n_rows: int, n_cols: int, variant: int) -> None:
    image = picture(n_rows, n_cols)
    cells = np.argwhere(image.numpy() >= 0)
    row, col = turned_cells(cells, variant, shape=(n_rows, n_cols)).T
    np.testing.assert_array_equal(turned(image, variant)[row, col], image.flatten())


@given(variant=VARIANTS, seed=st.integers(0, 9))
def test_any_axes_may_be_rows_and_columns(variant: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch = torch.rand(2, 4, 3, 5, generator=generator)
    channels_last = batch.permute(0, 2, 3, 1)
    expected = torch.stack(
        [torch.stack([turned(channel, variant) for channel in image]) for image in batch]
    )
    torch.testing.assert_close(turned(batch, variant), expected)
    found = turned(channels_last, variant, dims=(1, 2))
    torch.testing.assert_close(found.permute(0, 3, 1, 2), expected)


@pytest.mark.parametrize("variant", [-1, 8])
def test_there_is_no_ninth_variant(variant: int) -> None:
    with pytest.raises(ValueError, match="0 to 7"):
        turned(picture(2, 2), variant)


def test_the_encoder_sees_turned_tiles() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.Flatten())
    record = EncoderRecord(
        name="places", source="random", architecture="none", dim=5 * 36, input_px=8,
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
    )  # fmt: skip
    encoder = TileEncoder(network, record=record, settings=EngineSettings(batch_size=4))
    tiles = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    found = [encoder.encode(tiles, variant=variant) for variant in range(N_VARIANTS)]
    assert len({each.tobytes() for each in found}) == N_VARIANTS
    for variant, features in enumerate(found):
        by_hand = turned(torch.from_numpy(tiles), variant, dims=(1, 2)).numpy()
        np.testing.assert_array_equal(features, encoder.encode(by_hand))
