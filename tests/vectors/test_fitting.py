"""Fitting: what is compared, what is not, and that both digests are named."""

from dataclasses import replace
from typing import Any

import pytest

from gigassl.vectors.fitting import TileFacts, facts_of_bag, misfit
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.slide_model import SlideEncoderRecord, SlideModel
from tests.vectors.stores import grid_bag

FITS = TileFacts(encoder="some", encoder_digest="d1", dim=4, mpp=0.5, tile_um=112.0)


def model(**facts: Any) -> SlideModel:
    record = SlideEncoderRecord(
        architecture="mean", dim=4, width=4, cell=112.0, tile_encoder="some",
        tile_encoder_digest="d1", mpp=0.5, tile_um=112.0,
    )  # fmt: skip
    network = new_network("mean", dim=4, cell=112.0, seed=0)
    return SlideModel(record=replace(record, **facts), network=network)


def test_facts_come_from_the_bag() -> None:
    assert facts_of_bag(grid_bag()) == FITS
    foreign = grid_bag(target_mpp=None, tile_px=None, side_l0=None, encoder_digest="")
    assert facts_of_bag(foreign) == replace(FITS, encoder_digest="", tile_um=None)


@pytest.mark.parametrize(
    ("tiles", "wanted"),
    [
        ({}, {}),
        ({"encoder": "renamed"}, {}),  # the digest says that it is the same
        ({"encoder_digest": ""}, {}),  # another tool's bag, by its name
        ({}, {"tile_encoder_digest": "", "tile_encoder": ""}),
        ({"mpp": 0.51}, {}),
        ({"mpp": 0.49}, {}),
        ({"mpp": None}, {"mpp": None}),
        ({"tile_um": 114.0}, {}),
        ({"tile_um": None}, {}),
        ({"tile_um": 999.0}, {"tile_um": None}),
    ],
)
def test_what_fits(tiles: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert misfit(model(**wanted), replace(FITS, **tiles)) is None


@pytest.mark.parametrize(
    ("tiles", "wanted", "said"),
    [
        ({"encoder_digest": "d2"}, {}, "'some' (digest d2), not 'some' (digest d1)"),
        ({"encoder": "uni", "encoder_digest": ""}, {},
         "'uni' (digest not known), not 'some' (digest d1)"),
        ({"encoder": "uni"}, {"tile_encoder_digest": ""},
         "'uni' (digest d1), not 'some' (digest not known)"),
        ({"dim": 5}, {}, "features 5 wide, not 4"),
        ({"mpp": 0.5101}, {}, "read at 0.5101 µm/px, not 0.5"),
        ({"mpp": 0.4899}, {}, "read at 0.4899 µm/px, not 0.5"),
        ({"mpp": None}, {}, "µm/px not known, 0.5 wanted; give --slide-mpp"),
        ({"tile_um": 56.0}, {}, "56 µm wide, not 112"),
    ],
)  # fmt: skip
def test_what_does_not_fit(tiles: dict[str, Any], wanted: dict[str, Any], said: str) -> None:
    wanting = model(**wanted)
    sentence = misfit(wanting, replace(FITS, **tiles))
    assert sentence is not None
    assert sentence.startswith(f"the slide encoder (digest {wanting.digest}) was made for other")
    assert sentence.endswith(said)


def test_all_differences_are_named_at_once() -> None:
    sentence = misfit(model(), replace(FITS, dim=5, tile_um=1.0))
    assert sentence is not None
    assert "features 5 wide, not 4; 1 µm wide, not 112" in sentence
