"""Our own bag file: the same back, the same bytes, readable by others, and clear about damage."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import h5py
import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gigassl.bags.bag import Bag, BagInfo, open_bag, save_bag
from gigassl.errors import SlideError
from gigassl.files import MachineError

FULL_INFO = BagInfo(
    slide_id="TCGA-AA-0001-01Z-00-DX1.0c1d",
    encoder="efficientnet-lite0",
    width_l0=40_000,
    height_l0=30_000,
    mpp_l0=0.2525,
    mpp_source="file",
    tile_px=224,
    side_l0=443.56,
    target_mpp=0.5,
    effective_mpp=0.505,
    overlap_px=16,
    encoder_digest="aa" * 8,
    settings_digest="bb" * 8,
    inputs_digest="inputs 7",
    slide_digest="cc" * 8,
    provenance={"gigassl": "0.1.0", "grid": {"tile_px": 224}, "µ": ["Ł", None]},
)


def make_bag(n_tiles: int = 7, dim: int = 5, info: BagInfo = FULL_INFO, seed: int = 0) -> Bag:
    rng = np.random.default_rng(seed)
    return Bag(
        features=rng.standard_normal((n_tiles, dim)).astype(np.float16),
        coords=rng.integers(0, 30_000, (n_tiles, 2)),
        info=info,
    )


def test_saving_and_opening_gives_the_same_bag(tmp_path: Path) -> None:
    bag = make_bag()
    save_bag(bag, tmp_path / "a.h5")
    opened = open_bag(tmp_path / "a.h5")
    assert opened.info == bag.info
    assert opened.features.dtype == np.float16
    assert np.array_equal(opened.features, bag.features)
    assert np.array_equal(opened.coords, bag.coords)


def test_every_fact_survives_the_file() -> None:
    unset = [f.name for f in fields(BagInfo) if f.default == getattr(FULL_INFO, f.name)]
    assert unset == ["layout"], "a new fact needs a value of its own in FULL_INFO"


def test_unknown_facts_stay_unknown(tmp_path: Path) -> None:
    info = BagInfo(slide_id="a", encoder="e")
    save_bag(make_bag(info=info), tmp_path / "a.h5")
    assert open_bag(tmp_path / "a.h5").info == info


@given(
    features=hnp.arrays(
        np.float16,
        st.tuples(st.integers(1, 20), st.integers(1, 9)),
        elements=st.floats(width=16, allow_nan=False, allow_infinity=False),
    ),
    seed=st.integers(0, 99),
)
def test_any_features_come_back(
    features: Any, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    coords = np.random.default_rng(seed).integers(0, 2**40, (len(features), 2))
    path = tmp_path_factory.mktemp("bags") / "a.h5"
    save_bag(Bag(features=features, coords=coords, info=FULL_INFO), path)
    opened = open_bag(path)
    assert opened.features.tobytes() == features.tobytes()
    assert np.array_equal(opened.coords, coords)


def test_equal_bags_give_equal_bytes_in_another_process(tmp_path: Path) -> None:
    save_bag(make_bag(), tmp_path / "here.h5")
    code = (
        "from pathlib import Path; from tests.bags.test_bag import make_bag; "
        "from gigassl.bags.bag import save_bag; save_bag(make_bag(), Path('there.h5'))"
    )
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    here = (tmp_path / "here.h5").read_bytes()
    assert here == (tmp_path / "there.h5").read_bytes()
    assert str(tmp_path).encode() not in here
    save_bag(make_bag(seed=1), tmp_path / "other.h5")
    assert here != (tmp_path / "other.h5").read_bytes()


def test_trident_and_clam_readers_find_what_they_look_for(tmp_path: Path) -> None:
    bag = make_bag()
    save_bag(bag, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert np.array_equal(file["features"][:], bag.features)
        assert np.array_equal(file["coords"][:], bag.coords)
        assert dict(file["features"].attrs) == {
            "name": bag.info.slide_id, "savetodir": "", "encoder": "efficientnet-lite0",
        }  # fmt: skip
        assert dict(file["coords"].attrs) == {
            "patch_size": 224, "patch_size_level0": 444, "level0_magnification": 40,
            "target_magnification": 20, "overlap": 16, "name": bag.info.slide_id,
            "savetodir": "", "level0_width": 40_000, "level0_height": 30_000,
        }  # fmt: skip
        assert (file.attrs["format"], file.attrs["version"]) == ("gigassl-bag", 1)
        assert file.attrs["mpp"] == 0.2525


@pytest.mark.parametrize(
    ("mpp", "magnification"),
    [(0.11, 80), (0.23, 40), (0.2525, 40), (0.499, 20), (0.52, 20), (1.0, 10), (4.0, 2.5)],
)
def test_level0_magnification_is_nominal(tmp_path: Path, mpp: float, magnification: float) -> None:
    save_bag(make_bag(info=replace(FULL_INFO, mpp_l0=mpp)), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["coords"].attrs["level0_magnification"] == magnification


@pytest.mark.parametrize(
    ("mpp", "magnification"), [(0.5, 20), (0.499, 20), (1.0, 10), (0.88, 11.36)]
)
def test_target_magnification_is_ten_over_mpp(
    tmp_path: Path, mpp: float, magnification: float
) -> None:
    save_bag(make_bag(info=replace(FULL_INFO, target_mpp=mpp)), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["coords"].attrs["target_magnification"] == magnification


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """As outside the tests, where no import hook checks shapes before the bag itself does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("without_shape_checks")
def test_a_bag_checks_itself() -> None:
    bag = make_bag()
    with pytest.raises(SlideError, match="7 rows of features do not fit 6 coordinates"):
        replace(bag, coords=bag.coords[:6])
    with pytest.raises(SlideError, match="empty: it holds no tile"):
        replace(bag, coords=bag.coords[:0], features=bag.features[:0])
    with pytest.raises(SlideError, match=r"must have shape \(tiles, dim\)"):
        replace(bag, features=bag.features[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_is_named_by_its_tile(bad: float) -> None:
    features = np.zeros((40_000, 2), np.float16)
    features[33_333, 1] = bad
    with pytest.raises(SlideError, match="tile 33333 are NaN or infinite") as caught:
        Bag(features=features, coords=np.zeros((40_000, 2), np.int64), info=FULL_INFO)
    assert caught.value.stage == "bag"


def test_features_too_large_for_the_file_are_refused(tmp_path: Path) -> None:
    bag = replace(make_bag(), features=np.full((7, 5), 70_000, np.float32))
    with pytest.raises(SlideError, match="65504"):
        save_bag(bag, tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_width_is_refused(tmp_path: Path) -> None:
    save_bag(make_bag(), tmp_path / "a.h5")
    assert open_bag(tmp_path / "a.h5", dim=5).features.shape == (7, 5)
    with pytest.raises(SlideError, match="'efficientnet-lite0' are 5 wide, expected 1280"):
        open_bag(tmp_path / "a.h5", dim=1280)


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    save_bag(make_bag(), tmp_path / "a.h5")
    with pytest.raises(SlideError, match="holds features of 'efficientnet-lite0', not of 'uni'"):
        open_bag(tmp_path / "a.h5", encoder="uni")


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    save_bag(make_bag(), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["version"] = 2
    with pytest.raises(SlideError, match="version 2, this gigassl reads up to 1"):
        open_bag(tmp_path / "a.h5")


@pytest.mark.parametrize("kept", [0.1, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_called_truncated(tmp_path: Path, kept: float) -> None:
    save_bag(make_bag(n_tiles=500), tmp_path / "a.h5")
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(SlideError, match="truncated: its end is missing"):
        open_bag(tmp_path / "a.h5")
    (tmp_path / "a.h5").write_bytes(whole[:20])
    with pytest.raises(SlideError, match="damaged; make it again"):
        open_bag(tmp_path / "a.h5")


def test_a_missing_file_and_a_text_file_are_said(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"cannot be opened.*No such file"):
        open_bag(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("slide_id,label\n" * 100)
    with pytest.raises(SlideError, match="not an HDF5 file"):
        open_bag(tmp_path / "text.h5")


def test_a_full_disk_is_said_and_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    save_bag(make_bag(), path)
    before = path.read_bytes()
    code = (
        "import resource, sys; from pathlib import Path; "
        "from tests.bags.test_bag import make_bag; from gigassl.bags.bag import save_bag; "
        "from gigassl.files import MachineError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: save_bag(make_bag(n_tiles=100_000), Path('a.h5'))\n"
        "except MachineError as error: sys.exit(f'said: {error}')"
    )
    root = str(Path(__file__).resolve().parents[2])
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root},
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert "said: cannot write a.h5: the file would exceed the allowed file size" in run.stderr
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot write"):
        save_bag(make_bag(), tmp_path / "none" / "a.h5")
