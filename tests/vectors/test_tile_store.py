"""Tile stores of bags: every tile where it belongs; bags of two kinds are refused by name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

from gigassl.bags.bag import Bag
from gigassl.errors import SettingsError
from gigassl.vectors.tile_store import store_of_bags, store_of_bank, tile_mpp, tile_side_um
from tests.vectors.stores import bags_of, grid_bag, small_bank, store_of


@given(bags=bags_of())
def test_each_group_holds_its_bag(bags: list[Bag]) -> None:
    store = store_of(*bags)
    assert store.slide_ids == tuple(bag.info.slide_id for bag in bags)
    assert (len(store), store.dim, store.tile_um) == (len(bags), 4, 112.0)
    assert store.features.dtype == torch.float16
    for number, bag in enumerate(bags):
        assert store.first.shape == store.count.shape == (len(bags), 1)
        first, count = int(store.first[number, 0]), int(store.count[number, 0])
        rows = slice(first, first + count)
        np.testing.assert_array_equal(store.features[rows].numpy(), bag.features)
        np.testing.assert_array_equal(store.coords[rows].numpy(), bag.coords)
        assert store.um_per_unit[number] == 0.25
    assert int(store.count.sum()) == len(store.features)


def test_each_augmentation_of_a_bank_is_a_group_and_failed_slides_have_none(tmp_path: Path) -> None:
    bank = small_bank(tmp_path / "bank")
    store = store_of_bank(bank)
    assert store.slide_ids == ("s0", "s2")
    assert store.patient_ids == ("p-s0", "p-s2")
    assert store.um_per_unit.tolist() == [0.25, 0.5]
    assert store.tile_um == 112.0
    for number, row in enumerate((0, 2)):
        for augmentation in range(3):
            first = int(store.first[number, augmentation])
            assert int(store.count[number, augmentation]) == 6
            rows = slice(first, first + 6)
            expected = bank.features[row, augmentation], bank.coords[row, augmentation]
            np.testing.assert_array_equal(store.features[rows].numpy(), expected[0])
            np.testing.assert_array_equal(store.coords[rows].numpy(), expected[1])
            assert bank.features[row, augmentation].any()


def test_a_store_of_a_bank_reads_nothing_and_a_bank_of_failures_is_refused(tmp_path: Path) -> None:
    bank = small_bank(tmp_path / "bank")
    store = store_of_bank(bank)
    assert np.shares_memory(store.features.numpy(), bank.features)
    with pytest.raises(SettingsError, match="the bank holds no slide"):
        store_of_bank(replace(bank, slides=()))


def test_bytes_are_those_of_the_arrays() -> None:
    bag = grid_bag(cols=3, rows=2)
    assert store_of(bag).n_bytes == bag.features.nbytes + bag.coords.nbytes


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"encoder": "other"}, r"slides 'alpha' and 'beta' have different tile encoders"),
        ({"encoder_digest": "d2"}, r"different tile encoder digests \(d1, d2\)"),
        ({"dim": 5}, r"different widths \(4, 5\)"),
        ({"target_mpp": 0.52}, r"different resolutions \(µm/px\) \(0.5, 0.52\)"),
        ({"tile_px": 230}, r"different tile sizes \(112, 115\)"),
        ({"mpp_l0": None}, r"slide 'beta': its bag does not say the µm/px"),
    ],
)
def test_bags_of_two_kinds_are_refused(facts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        store_of(grid_bag("alpha"), grid_bag("beta", **facts))


def test_sizes_within_two_per_cent_are_one_kind() -> None:
    assert len(store_of(grid_bag("alpha"), grid_bag("beta", target_mpp=0.505))) == 2
    # one magnification of scanners that differ, read as it is
    coarse, fine = grid_bag("alpha", effective_mpp=0.51), grid_bag("beta", effective_mpp=0.49)
    assert len(store_of(coarse, fine)) == 2


def test_the_side_of_a_tile_comes_from_what_the_bag_says() -> None:
    assert tile_side_um(grid_bag()) == 112.0
    assert tile_side_um(grid_bag(side_l0=None)) == 112.0  # 224 px at 0.5 µm/px
    assert tile_side_um(grid_bag(tile_px=None)) == 112.0  # 448 px at 0.25 µm/px
    assert tile_mpp(grid_bag(target_mpp=None, effective_mpp=0.49)) == 0.49
    unsaid = grid_bag(side_l0=None, tile_px=None)
    assert tile_side_um(unsaid) is None
    with pytest.raises(SettingsError, match="slide 'alpha': its bag does not say the size"):
        store_of(unsaid)
    assert store_of_bags([unsaid], patient_ids=["p"], tile_um=64.0).tile_um == 64.0


def test_no_bags_or_too_few_patients_are_refused() -> None:
    with pytest.raises(SettingsError, match="got 0 bags and 0 patients"):
        store_of()
    with pytest.raises(SettingsError, match="got 1 bags and 2 patients"):
        store_of_bags([grid_bag()], patient_ids=["a", "b"])


def test_features_too_large_for_float16_are_refused() -> None:
    bag = grid_bag("huge")
    large = replace(bag, features=np.full(bag.features.shape, 1e6, dtype=np.float32))
    with pytest.raises(SettingsError, match="slide 'huge': features above 65504"):
        store_of(large)


def test_moving_a_store_moves_every_tensor() -> None:
    store = store_of(grid_bag()).to("meta")
    moved = (store.features, store.coords, store.um_per_unit, store.first, store.count)
    assert {tensor.device.type for tensor in moved} == {"meta"}
    assert store.slide_ids == ("alpha",)
