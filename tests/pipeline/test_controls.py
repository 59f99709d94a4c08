"""Controls of slide vectors: from exactly their tiles, and refused for any others."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gigassl.bags.bag import open_bag, save_bag
from gigassl.errors import SettingsError
from gigassl.evaluate.contamination import PRETRAINED_ON, slides_record
from gigassl.evaluate.vector_set import VectorSet
from gigassl.pipeline.controls import ControlOptions, control_sets, shuffled
from gigassl.pipeline.embed import EmbedSettings, embed
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.progress import Silent
from gigassl.vectors.ensemble import EnsembleSettings
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.slide_model import SlideEncoderRecord, SlideModel, save_slide_model
from gigassl.vectors.table import SlideTable
from tests.vectors.stores import grid_bag, small_bank

DIM, N = 6, 7
RECORD = SlideEncoderRecord(
    architecture="mlp", options={"width": 16}, dim=DIM, width=16, cell=112.0, tile_encoder="some",
    tile_encoder_digest="d1", mpp=0.5, tile_um=112.0,
    training={PRETRAINED_ON: {"slide_encoder": slides_record(["s0"], ["s0"])}},
)  # fmt: skip
DENSE: dict[str, Any] = {"window": "dense", "tiles_per_view": 16}


class Counted(Silent):
    """Notes what the progress is told."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def slide_done(self, slide_id: str, *, failed: bool) -> None:
        assert not failed
        self.done.append(slide_id)


@pytest.fixture
def bags(tmp_path: Path) -> Path:
    folder = tmp_path / "bags"
    folder.mkdir()
    for number in range(N):
        save_bag(grid_bag(f"s{number}", dim=DIM, cols=4 + number), folder / f"s{number}.h5")
    return folder


def model_file(path: Path, *, seed: int = 0, **facts: Any) -> Path:
    """A slide encoder of a few weights; its whitening is fitted where it has one."""
    record = replace(RECORD, **facts)
    network = new_network(
        record.architecture, dim=DIM, cell=record.cell, seed=seed, options=record.options
    )
    if callable(prepare := getattr(network, "prepare", None)):
        prepare(torch.randn(500, DIM, generator=torch.Generator().manual_seed(0)))
    save_slide_model(path, SlideModel(record=record, network=network))
    return path


def table_of(bags: Path, slide_encoder: str, views: EnsembleSettings | None = None) -> SlideTable:
    settings = EmbedSettings(slide_encoder=slide_encoder, views=views)
    done = embed(bags, bags.parent / "vectors.parquet", settings=settings)
    assert done.table is not None
    return done.table


def by_control(sets: list[VectorSet]) -> Mapping[str, VectorSet]:
    return {each.control: each for each in sets}


@pytest.mark.parametrize("method", ["mean", "mean+std"])
def test_poolings_are_those_of_embed_and_tile_count_is_that_of_the_table(
    bags: Path, tmp_path: Path, method: str
) -> None:
    expected = table_of(bags, method).embeddings
    table = table_of(bags, "max")
    found = by_control(control_sets(table, name="v", bags=bags))
    assert list(found) == ["tile-count", "mean", "mean+std"]
    np.testing.assert_array_equal(found[method].vectors, expected)
    assert found[method].slide_ids == tuple(table.slide_ids)
    assert (found[method].name, found[method].control_of) == (f"v, {method}", "v")
    tiles = np.exp(found["tile-count"].vectors[:, 0])
    np.testing.assert_allclose(tiles, [5 * (4 + number) for number in range(N)])
    (count,) = control_sets(table, name="v")
    assert count.control == "tile-count"


def test_vectors_that_are_the_mean_are_not_their_own_control(bags: Path) -> None:
    found = by_control(control_sets(table_of(bags, "mean"), name="v", bags=bags))
    assert list(found) == ["tile-count", "mean+std"]


@pytest.mark.parametrize(
    ("facts", "uses_position"),
    [
        ({}, False),
        ({"architecture": "scm", **DENSE}, True),
        ({"architecture": "spatial", "options": {"features": 4}, **DENSE}, True),
    ],
    ids=["mlp", "scm", "spatial"],
)
def test_shuffling_changes_what_depends_on_position_and_nothing_else(
    bags: Path, tmp_path: Path, facts: dict[str, Any], uses_position: bool
) -> None:
    model = model_file(tmp_path / "m.safetensors", **facts)
    table = table_of(bags, str(model), EnsembleSettings(views=50, seed=3))
    told = Counted()
    found = by_control(control_sets(table, name="v", bags=bags, slide_encoder=model, progress=told))
    vectors = found["shuffled-coordinates"].vectors
    difference = np.abs(vectors - table.embeddings).max(axis=1)
    if uses_position:
        assert (difference > 1e-3).all()
    else:
        assert (difference < 1e-5).all()
    assert (
        np.abs(found["random-weights"].vectors - table.embeddings).max(axis=1) < 1e-5
    ).all() == (
        # these were never trained: the same seed gives the same, save a whitening of its own
        "options" not in facts
    )
    fitted = facts.get("architecture") == "spatial"
    assert told.done == table.slide_ids * (2 if fitted else 1)
    assert found["shuffled-coordinates"].first_block == (2 * DIM if fitted else None)
    assert found["shuffled-coordinates"].seen == {"s0"}
    assert found["random-weights"].seen == frozenset()


def test_random_weights_differ_by_seed_and_are_repeatable(bags: Path, tmp_path: Path) -> None:
    model = model_file(tmp_path / "m.safetensors", architecture="spatial", options={}, **DENSE)
    table = table_of(bags, str(model))

    def made(seed: int) -> Mapping[str, VectorSet]:
        options = ControlOptions(seed=seed)
        return by_control(
            control_sets(table, name="v", bags=bags, slide_encoder=model, options=options)
        )

    first, again, other = made(1), made(1), made(2)
    for control in ("random-weights", "shuffled-coordinates"):
        np.testing.assert_array_equal(first[control].vectors, again[control].vectors)
        assert np.abs(first[control].vectors - other[control].vectors).max() > 1e-3
        assert first[control].digest == again[control].digest != other[control].digest


def test_shuffling_keeps_tiles_and_places() -> None:
    bag = grid_bag()
    moved = shuffled(bag, seed=0)
    np.testing.assert_array_equal(moved.features, bag.features)
    assert {tuple(place) for place in moved.coords} == {tuple(place) for place in bag.coords}
    assert (moved.coords != bag.coords).any()


def test_bags_that_embed_kept_are_known_as_its_own(slides: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    done = embed(slides, tmp_path / "v.parquet", options=RunOptions(keep_bags=kept))
    assert done.table is not None
    assert len(control_sets(done.table, name="v", bags=kept)) == 2
    bag = open_bag(next(kept.glob("*.h5")))
    less = replace(bag, features=bag.features[1:], coords=bag.coords[1:])
    save_bag(less, kept / f"{bag.info.slide_id}.h5")
    with pytest.raises(SettingsError, match=rf"'{bag.info.slide_id}' has another tiles \("):
        control_sets(done.table, name="v", bags=kept)


def test_what_does_not_belong_to_the_vectors_is_refused(bags: Path, tmp_path: Path) -> None:
    model = model_file(tmp_path / "m.safetensors")
    table = table_of(bags, str(model))
    other = model_file(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(SettingsError, match="were not made with this slide encoder"):
        control_sets(table, name="v", bags=bags, slide_encoder=other)
    with pytest.raises(SettingsError, match="give their bags as well"):
        control_sets(table, name="v", slide_encoder=model)
    (bags / "s3.h5").rename(tmp_path / "s3.h5")
    with pytest.raises(SettingsError, match=r"lacks the tiles of 1 of the 7 slides.*: s3"):
        control_sets(table, name="v", bags=bags)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for number in range(N):
        bag = grid_bag(f"s{number}", dim=DIM, encoder_digest="d2")
        save_bag(bag, elsewhere / f"s{number}.h5")
    with pytest.raises(SettingsError, match=r"encoder_digest d2, not d1\. Give the bags that"):
        control_sets(table, name="v", bags=elsewhere)


def test_of_a_bank_all_augmentations_count(tmp_path: Path) -> None:
    bank = small_bank(tmp_path / "bank", dim=DIM)
    folder = tmp_path / "bags"
    folder.mkdir()
    for name in ("s0", "s2"):
        save_bag(grid_bag(name, dim=DIM), folder / f"{name}.h5")
    model = model_file(tmp_path / "m.safetensors")
    table = table_of(folder, str(model))
    found = by_control(control_sets(table, name="v", bags=tmp_path / "bank", slide_encoder=model))
    rows = [slide.row for slide in bank.slides]
    mean = bank.features[rows].astype(np.float64).mean(axis=(1, 2))
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(found["mean"].vectors, mean, atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(found["random-weights"].vectors, axis=1), 1, atol=1e-5
    )
