"""Parts of a tile store hold what the whole does."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gigassl.bags.bag import Bag
from gigassl.vectors.store_parts import bags_of_slide, subset
from gigassl.vectors.tile_store import store_of_bank
from tests.vectors.stores import bags_of, small_bank, store_of


@given(bags=bags_of(), data=st.data())
def test_a_subset_is_the_store_of_those_bags(bags: list[Bag], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(bags) - 1), min_size=1, unique=True))
    part = subset(store_of(*bags), np.array(rows))
    expected = store_of(*[bags[row] for row in rows])
    assert (part.slide_ids, part.patient_ids) == (expected.slide_ids, expected.patient_ids)
    for slide, row in enumerate(rows):
        (found,) = bags_of_slide(part, slide)
        np.testing.assert_array_equal(found.features, bags[row].features)
        np.testing.assert_array_equal(found.coords, bags[row].coords)
        assert found.info.slide_id == bags[row].info.slide_id
        assert found.info.mpp_l0 == bags[row].info.mpp_l0


def test_a_slide_of_a_bank_is_one_bag_an_augmentation(tmp_path: Path) -> None:
    bank = small_bank(tmp_path / "bank", augmentations=3, tiles=6)
    found = bags_of_slide(store_of_bank(bank), 1)
    row = bank.slides[1].row
    assert len(found) == 3
    for number, bag in enumerate(found):
        np.testing.assert_array_equal(bag.features, bank.features[row, number])
        np.testing.assert_array_equal(bag.coords, bank.coords[row, number])
        assert bag.coords.dtype == np.int64
