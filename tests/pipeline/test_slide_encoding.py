"""Slide encodings: poolings by name, models by file, and what they ask of tiles."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gigassl.errors import SettingsError, SlideError
from gigassl.pipeline.slide_encoding import SlideEncoding, slide_encoding, slide_model, wanted_tiles
from gigassl.vectors.ensemble import EnsembleSettings, embed_bag
from gigassl.vectors.fitting import facts_of_bag
from gigassl.vectors.pooling import l2_normalised, pool
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.slide_model import SlideEncoderRecord, SlideModel, save_slide_model
from tests.vectors.stores import grid_bag


def model_of(**facts: Any) -> SlideModel:
    wanted: dict[str, Any] = {
        "tile_encoder": "uni", "tile_encoder_digest": "d1", "mpp": 0.5, "tile_um": 112.0,
    }  # fmt: skip
    record = SlideEncoderRecord(
        architecture="mlp", options={"width": 8}, dim=4, width=8, cell=112.0, **wanted | facts
    )
    network = new_network("mlp", dim=4, cell=112.0, seed=0, options={"width": 8})
    return SlideModel(record=record, network=network)


def test_a_pooling_takes_any_tiles() -> None:
    encoding, bag = slide_encoding("max"), grid_bag(mpp_l0=None, encoder="any")
    assert isinstance(encoding, SlideEncoding)
    assert encoding.settings == "max"
    encoding.check(facts_of_bag(bag))
    found = encoding.vector(bag)
    np.testing.assert_array_equal(
        found["embedding"], l2_normalised(pool(bag.features, method="max"))
    )
    assert (found["n_views"], found["view_spread"]) == (1, None)


def test_a_file_is_the_model_in_it(tmp_path: Path) -> None:
    path, model, bag = tmp_path / "m.safetensors", model_of(), grid_bag()
    save_slide_model(path, model)
    assert slide_model(str(path)).digest == model.digest
    views = EnsembleSettings(views=3, seed=5)
    of_file, of_model = slide_encoding(str(path), views=views), slide_encoding(model, views=views)
    assert of_file.settings == of_model.settings
    assert isinstance(of_file, SlideEncoding)
    expected = embed_bag(model, bag, settings=views)
    np.testing.assert_array_equal(of_file.vector(bag)["embedding"], expected.vector)
    assert of_file.vector(bag)["n_views"] == 3


def test_a_model_of_two_streams_says_how_wide_the_first_is() -> None:
    record = SlideEncoderRecord(
        architecture="spatial", dim=4, width=8 + 3 * 16 * 17 // 2, cell=112.0, mpp=0.5
    )
    network = new_network("spatial", dim=4, cell=112.0, seed=0)
    assert slide_encoding(SlideModel(record=record, network=network)).first_block == 8
    assert slide_encoding(model_of()).first_block is None
    assert slide_encoding("mean").first_block is None


def test_settings_hold_all_that_decides_a_vector() -> None:
    usual = slide_encoding(model_of()).settings
    for other in (
        slide_encoding(model_of(tiles_per_view=9)),
        slide_encoding(model_of(), views=EnsembleSettings(views=9)),
        slide_encoding(model_of(), views=EnsembleSettings(seed=9)),
        slide_encoding(model_of(window="dense")),
    ):
        assert other.settings != usual
    # said or not, five are five
    assert slide_encoding(model_of(), views=EnsembleSettings(tiles_per_view=5)).settings == usual


def test_a_model_refuses_a_run_and_a_bag() -> None:
    encoding, wrong = slide_encoding(model_of()), grid_bag(encoder_digest="d2")
    with pytest.raises(SettingsError, match=r"digest d2.*digest d1.*choose bags"):
        encoding.check(facts_of_bag(wrong))
    with pytest.raises(SlideError, match=r"digest d2.*digest d1"):
        encoding.vector(wrong)


def test_views_are_not_for_poolings_and_names_are_guessed() -> None:
    with pytest.raises(SettingsError, match="'mean' takes all tiles at once"):
        slide_encoding("mean", views=EnsembleSettings())
    with pytest.raises(SettingsError, match="did you mean 'mean'"):
        slide_encoding("maen")
    with pytest.raises(SettingsError, match="no checkpoint at"):
        slide_encoding("absent.pth")


def test_what_the_user_said_comes_before_what_the_model_wants() -> None:
    model = model_of()
    nothing: dict[str, Any] = {"encoder": None, "mpp": None, "tile_px": None}
    wanted = wanted_tiles(model, **nothing)
    assert (wanted.encoder, wanted.mpp, wanted.tile_px) == ("uni", 0.5, 224)
    said = wanted_tiles(model, encoder="e", mpp=1.0, tile_px=64)
    assert (said.encoder, said.mpp, said.tile_px) == ("e", 1.0, 64)
    coarser = wanted_tiles(model, **nothing | {"mpp": 1.0})
    assert coarser.tile_px == 112  # the same µm
    of_preset = wanted_tiles(model, **nothing, preset="giga-ssl")
    assert (of_preset.encoder, of_preset.mpp, of_preset.tile_px) == ("uni", None, None)
    pooled = wanted_tiles("mean", **nothing)
    assert (pooled.encoder, pooled.mpp, pooled.tile_px) == (None, None, None)


def test_a_tile_encoder_that_is_a_file_must_be_said_where() -> None:
    model = model_of(tile_encoder="mine@layer3")
    with pytest.raises(SettingsError, match="'mine@layer3', whose weights have no name here"):
        wanted_tiles(model, encoder=None, mpp=None, tile_px=None)
    said = wanted_tiles(model, encoder="mine.safetensors@layer3", mpp=None, tile_px=None)
    assert said.encoder == "mine.safetensors@layer3"
