"""Reading bags of a store: whole, drawn, of a bank, standardised, from disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gigassl.evaluate.mil import bags as mil_bags
from gigassl.evaluate.mil.bags import BagReader, class_share, standard_of
from gigassl.vectors.tile_store import TileStore, store_of_bank
from tests.evaluate.mil.bags import SEEDS, some_task, store_for
from tests.vectors.stores import small_bank

CPU = torch.device("cpu")


def rows_of_slide(store: TileStore, slide: int) -> torch.Tensor:
    spans = zip(store.first[slide].tolist(), store.count[slide].tolist(), strict=True)
    return torch.cat([store.features[first : first + count] for first, count in spans]).float()


def test_a_batch_holds_the_bags_in_float32_padded_with_rows_of_zeros() -> None:
    store = store_for(some_task())
    found = BagReader(store=store, device=CPU).batch([3, 0, 7])
    assert found.features.dtype == torch.float32
    assert len(found.features) % 64 == 0
    for tiles, slide in zip(found.split(found.features), [3, 0, 7], strict=True):
        torch.testing.assert_close(tiles, rows_of_slide(store, slide))
    assert not found.features[found.n_tiles :].any()


def test_a_bag_of_a_bank_is_all_of_its_augmentations(tmp_path: Path) -> None:
    store = store_of_bank(small_bank(tmp_path / "bank", augmentations=3, tiles=6))
    reader = BagReader(store=store, device=CPU)
    assert reader.n_tiles(1) == 18
    torch.testing.assert_close(reader.batch([1]).features[:18], rows_of_slide(store, 1))
    # the same where the augmentations do not lie behind one another
    apart = replace(store, first=store.first[:, [2, 0, 1]])
    found = BagReader(store=apart, device=CPU).batch([1]).features[:18]
    torch.testing.assert_close(found, rows_of_slide(apart, 1))


@given(most=st.integers(1, 40), seed=SEEDS)
def test_of_long_bags_other_tiles_are_drawn_each_time_in_their_order(most: int, seed: int) -> None:
    store = store_for(some_task(4))
    reader = BagReader(store=store, device=CPU)
    generator = torch.Generator().manual_seed(seed)
    found = reader.batch([0, 1, 2, 3], max_tiles=most, generator=generator)
    for slide, tiles in enumerate(found.split(found.features)):
        whole = rows_of_slide(store, slide)
        assert len(tiles) == min(most, len(whole))
        at = [int((whole == tile).all(dim=1).nonzero()[0]) for tile in tiles]
        assert at == sorted(set(at))
    again = reader.batch([0, 1, 2, 3], max_tiles=most, generator=generator.manual_seed(seed))
    assert torch.equal(found.features, again.features)


def test_in_turn_gives_every_bag_once_in_bounded_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mil_bags, "ROWS_AT_ONCE", 40)
    store = store_for(some_task())
    reader = BagReader(store=store, device=CPU)
    batches = list(reader.in_turn(list(range(40))))
    assert all(len(batch.sizes) == 1 or batch.n_tiles <= 40 for batch in batches)
    assert len(batches) > 5
    together = torch.cat([batch.features[: batch.n_tiles] for batch in batches])
    torch.testing.assert_close(together, store.features.float())


def test_standardised_features_of_the_training_bags_have_mean_0_and_spread_1() -> None:
    store = store_for(some_task())
    features = 100 + 3 * store.features.float()
    features[:, 2] = 7.0  # a constant one
    reader = BagReader(store=replace(store, features=features), device=CPU)
    chosen = [5, 9, 30]
    found = replace(reader, standard=standard_of(reader, chosen)).batch(chosen)
    tiles = found.features[: found.n_tiles]
    np.testing.assert_allclose(tiles.mean(dim=0), np.zeros(8), atol=1e-5)
    expected = np.ones(8)
    expected[2] = 0
    np.testing.assert_allclose(tiles.std(dim=0, unbiased=False), expected, atol=1e-5)
    assert not found.features[found.n_tiles :].any()


def test_shares_give_all_classes_equal_say() -> None:
    labels = np.array([0, 0, 0, 2])
    share = class_share(labels)
    assert share[labels == 0].sum() == pytest.approx(share[labels == 2].sum())
    assert share.mean() == pytest.approx(1)
