"""Bags of other tools, written as their documentation says, and the real ones we have."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gigassl.bags.bag import open_bag
from gigassl.bags.layouts import CoordsUnit
from gigassl.errors import SlideError
from tests.shared_data import SHARED, needs_shared

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((6, 4)).astype(np.float32)
COORDS = RNG.integers(0, 20_000, (6, 2))
TRIDENT_COORDS: Mapping[str, Any] = {
    "patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40,
    "target_magnification": 20, "overlap": 0, "name": "s1", "savetodir": "/data/job",
    "level0_width": 40_000, "level0_height": 30_000,
}  # fmt: skip


def write_trident(path: Path, *, features: Any = FEATURES, encoder: str | None = "uni_v1") -> None:
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("features", data=features)
        stored.attrs.update({"name": "s1", "savetodir": "/data/job"})
        if encoder:
            stored.attrs["encoder"] = encoder
        file.create_dataset("coords", data=COORDS).attrs.update(TRIDENT_COORDS)


def write_clam(path: Path, *, with_attributes: bool = False) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=FEATURES, chunks=(1, 4), maxshape=(None, 4))
        coords = file.create_dataset("coords", data=COORDS.astype(np.int32), maxshape=(None, 2))
        if with_attributes:
            coords.attrs.update(
                {"patch_size": 256, "patch_level": 1, "downsample": np.array([4.0, 4.0]),
                 "downsampled_level_dim": np.array([1000, 800]),
                 "level_dim": np.array([1000, 800]), "name": "s1", "save_path": "result"}
            )  # fmt: skip


def write_stamp(path: Path, *, coords: Any, **attributes: Any) -> None:
    with h5py.File(path, "w") as file:
        file["feats"] = FEATURES.astype(np.float16)
        file["coords"] = coords
        file.attrs.update({"stamp_version": "2.3.0", "code_hash": "abc", **attributes})


STAMP: Mapping[str, Any] = {
    "unit": "um", "tile_size_um": 256.0, "tile_size_px": 224, "extractor": "ctranspath",
    "feat_type": "tile",
}  # fmt: skip


def write_atlaspatch(path: Path, *, encoders: tuple[str, ...] = ("resnet50",)) -> None:
    read = np.tile(np.array([[256, 256, 1]]), (6, 1))
    with h5py.File(path, "w") as file:
        file["coords"] = np.concatenate([COORDS, read], axis=1).astype(np.int32)
        file["passports"] = np.array([b"s1__x0"] * 6)
        group = file.create_group("features")
        for place, name in enumerate(encoders):
            group[name] = FEATURES + place
        file.attrs.update(
            {"patch_size": 256, "patch_size_level0": 513, "level0_magnification": 40,
             "target_magnification": 20, "overlap": 32, "level0_width": 40_000,
             "level0_height": 30_000, "mpp": 0.2494, "vendor": "aperio", "wsi_path": "/s1.svs"}
        )  # fmt: skip


def test_trident(tmp_path: Path) -> None:
    write_trident(tmp_path / "s1.h5")
    bag = open_bag(tmp_path / "s1.h5")
    assert np.array_equal(bag.features, FEATURES)
    assert np.array_equal(bag.coords, COORDS)
    info = bag.info
    assert (info.layout, info.slide_id, info.encoder) == ("trident", "s1", "uni_v1")
    assert (info.mpp_l0, info.mpp_source) == (0.25, "magnification")
    assert (info.tile_px, info.side_l0, info.effective_mpp, info.target_mpp) == (256, 512, 0.5, 0.5)
    assert (info.width_l0, info.height_l0, info.overlap_px) == (40_000, 30_000, 0)
    assert info.encoder_digest == info.settings_digest == info.slide_digest == ""


def test_a_given_resolution_counts_more_than_a_nominal_magnification(tmp_path: Path) -> None:
    write_trident(tmp_path / "s1.h5")
    info = open_bag(tmp_path / "s1.h5", mpp_l0=0.2525).info
    assert (info.mpp_l0, info.mpp_source, info.effective_mpp) == (0.2525, "given", 0.505)


def test_trident_that_does_not_name_its_encoder(tmp_path: Path) -> None:
    write_trident(tmp_path / "s1.h5", encoder=None)
    with pytest.raises(SlideError, match=r"does not say which tile encoder.*--tile-encoder NAME"):
        open_bag(tmp_path / "s1.h5")
    assert open_bag(tmp_path / "s1.h5", encoder="uni_v1").info.encoder == "uni_v1"


def test_a_batch_axis_of_one_is_dropped(tmp_path: Path) -> None:
    write_trident(tmp_path / "s1.h5", features=FEATURES[None])
    assert np.array_equal(open_bag(tmp_path / "s1.h5").features, FEATURES)
    write_trident(tmp_path / "s2.h5", features=np.stack([FEATURES, FEATURES]))
    with pytest.raises(SlideError, match=r"shape \(2, 6, 4\); expected \(tiles, dim\)"):
        open_bag(tmp_path / "s2.h5")


def test_double_precision_becomes_single_and_half_stays(tmp_path: Path) -> None:
    write_trident(tmp_path / "s1.h5", features=FEATURES.astype(np.float64))
    assert open_bag(tmp_path / "s1.h5").features.dtype == np.float32
    write_trident(tmp_path / "s2.h5", features=FEATURES.astype(np.float16))
    assert open_bag(tmp_path / "s2.h5").features.dtype == np.float16


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        (FEATURES[:5], "5 rows of features do not fit 6 coordinates"),
        (np.where(FEATURES[3, 1] == FEATURES, np.nan, FEATURES), "tile 3 are NaN or infinite"),
        (np.full((6, 4), 1e300), "tile 0 are NaN or infinite"),
        (np.ones((6, 4), np.int64), "of type int64; expected floating point"),
        (FEATURES[0], r"shape \(4,\); expected \(tiles, dim\)"),
    ],
)
def test_unusable_features_are_refused_in_one_sentence(
    tmp_path: Path, features: Any, sentence: str
) -> None:
    write_trident(tmp_path / "s1.h5", features=features)
    with pytest.raises(SlideError, match=sentence):
        open_bag(tmp_path / "s1.h5")


def test_clam_says_little_and_no_more_is_made_up(tmp_path: Path) -> None:
    write_clam(tmp_path / "s1.h5")
    bag = open_bag(tmp_path / "s1.h5", encoder="resnet50")
    assert np.array_equal(bag.features, FEATURES)
    assert np.array_equal(bag.coords, COORDS)
    info = bag.info
    assert (info.layout, info.encoder, info.mpp_l0, info.side_l0) == (
        "clam",
        "resnet50",
        None,
        None,
    )
    with pytest.raises(SlideError, match="--tile-encoder NAME"):
        open_bag(tmp_path / "s1.h5")


def test_clam_with_the_attributes_of_its_coordinates(tmp_path: Path) -> None:
    write_clam(tmp_path / "s1.h5", with_attributes=True)
    info = open_bag(tmp_path / "s1.h5", encoder="resnet50", mpp_l0=0.25).info
    assert (info.tile_px, info.side_l0, info.width_l0, info.height_l0) == (256, 1024, 4000, 3200)
    assert (info.mpp_l0, info.mpp_source, info.effective_mpp) == (0.25, "given", 1.0)


def test_stamp_micrometres_become_level0_pixels(tmp_path: Path) -> None:
    write_stamp(tmp_path / "s1.h5", coords=COORDS * 0.2525, **STAMP)
    bag = open_bag(tmp_path / "s1.h5", mpp_l0=0.2525)
    assert np.array_equal(bag.coords, COORDS)
    assert bag.features.dtype == np.float16
    info = bag.info
    assert (info.layout, info.encoder, info.tile_px) == ("stamp", "ctranspath", 224)
    assert info.side_l0 == pytest.approx(256 / 0.2525)
    assert info.effective_mpp == pytest.approx(256 / 224)


def test_stamp_before_2_1_names_the_tile_size_otherwise(tmp_path: Path) -> None:
    write_stamp(tmp_path / "s1.h5", coords=COORDS * 0.5, unit="um", tile_size=256, extractor="c")
    assert open_bag(tmp_path / "s1.h5", mpp_l0=0.5).info.side_l0 == 512


@pytest.mark.parametrize(
    ("attributes", "wishes", "sentence"),
    [
        ({}, {"mpp_l0": 0.5}, "pass --coords-unit um .micrometres. or --coords-unit px"),
        ({"unit": "um"}, {}, "does not say the slide's resolution; pass --slide-mpp"),
        ({"unit": "um"}, {"coords_unit": "px"}, "'um', --coords-unit says 'px'"),
        ({"unit": "inch"}, {}, "'inch'; known: um, px"),
        ({"feat_type": "slide"}, {}, "features of a whole slide, not of tiles"),
    ],
)
def test_stamp_leaves_nothing_to_guessing(
    tmp_path: Path, attributes: dict[str, Any], wishes: dict[str, Any], sentence: str
) -> None:
    write_stamp(tmp_path / "s1.h5", coords=COORDS, extractor="c", **attributes)
    with pytest.raises(SlideError, match=sentence):
        open_bag(tmp_path / "s1.h5", **wishes)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_coordinates_that_are_no_positions_are_refused(tmp_path: Path, bad: float) -> None:
    coords = COORDS.astype(float)
    coords[2, 1] = bad
    write_stamp(tmp_path / "s1.h5", coords=coords, **STAMP)
    with pytest.raises(SlideError, match="no pixel positions"):
        open_bag(tmp_path / "s1.h5", mpp_l0=0.5)


def test_atlaspatch(tmp_path: Path) -> None:
    write_atlaspatch(tmp_path / "s1.h5")
    bag = open_bag(tmp_path / "s1.h5")
    assert np.array_equal(bag.features, FEATURES)
    assert np.array_equal(bag.coords, COORDS)
    info = bag.info
    assert (info.layout, info.encoder, info.mpp_l0) == ("atlaspatch", "resnet50", 0.2494)
    assert (info.mpp_source, info.tile_px, info.side_l0, info.overlap_px) == ("bag", 256, 513, 32)


def test_atlaspatch_with_several_encoders_asks_which(tmp_path: Path) -> None:
    write_atlaspatch(tmp_path / "s1.h5", encoders=("resnet50", "uni_v1"))
    with pytest.raises(
        SlideError, match="2 encoders; choose one with --tile-encoder: resnet50, un"
    ):
        open_bag(tmp_path / "s1.h5")
    assert np.array_equal(open_bag(tmp_path / "s1.h5", encoder="uni_v1").features, FEATURES + 1)
    with pytest.raises(SlideError, match=r"no features of 'uni'.*it holds: resnet50, uni_v1"):
        open_bag(tmp_path / "s1.h5", encoder="uni")
    write_atlaspatch(tmp_path / "s2.h5", encoders=())
    with pytest.raises(SlideError, match="group 'features' is empty"):
        open_bag(tmp_path / "s2.h5")


def write_unknown(file: h5py.File) -> None:
    file["embeddings"] = FEATURES
    file["positions/xy"] = COORDS


def write_nothing(file: h5py.File) -> None:
    assert len(file) == 0


@pytest.mark.parametrize(
    ("write", "held"),
    [
        (write_unknown, r"embeddings \(6, 4\), positions group, positions/xy"),
        (write_nothing, "nothi"),
    ],
)
def test_an_unknown_layout_lists_what_it_saw(
    tmp_path: Path, write: Callable[[h5py.File], None], held: str
) -> None:
    with h5py.File(tmp_path / "s1.h5", "w") as file:
        write(file)
    with pytest.raises(SlideError, match=f"known: gigassl, AtlasPatch.*it holds: {held}"):
        open_bag(tmp_path / "s1.h5")


@needs_shared
@pytest.mark.parametrize(("unit", "factor"), [("px", 1), ("um", 2)])
def test_a_real_stamp_file_without_attributes(unit: CoordsUnit, factor: int) -> None:
    path = SHARED / "data/bags_h5/TCGA-AD-6964-01Z-00-DX1.h5"
    with pytest.raises(SlideError, match="which tile encoder"):
        open_bag(path)
    with pytest.raises(SlideError, match="--coords-unit"):
        open_bag(path, encoder="e")
    bag = open_bag(path, encoder="e", coords_unit=unit, mpp_l0=0.5, dim=512)
    assert bag.features.shape == (777, 512)
    assert bag.coords[:2].tolist() == [
        [10240 * factor, 21504 * factor],
        [10240 * factor, 22016 * factor],
    ]
    assert bag.info.slide_id == "TCGA-AD-6964-01Z-00-DX1"


@needs_shared
def test_real_clam_coordinates_hold_no_features() -> None:
    with pytest.raises(SlideError, match="holds coordinates but no features"):
        open_bag(SHARED / "data/bags_h5/clam_coords.h5", encoder="e")
