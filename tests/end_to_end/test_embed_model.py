"""``gigassl embed`` with a slide encoder of a file: same bytes, refusals, the quality gate."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from gigassl.bags.bag import open_bag, save_bag
from gigassl.tiles.encoders import load_encoder
from gigassl.vectors.ensemble import embed_bag
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.slide_model import (
    SlideEncoderRecord,
    SlideModel,
    load_slide_model,
    save_slide_model,
)
from gigassl.vectors.table import open_table
from tests.end_to_end.conftest import Run
from tests.vectors.stores import grid_bag

SMALL = SlideEncoderRecord(
    architecture="mlp", options={"width": 16}, dim=6, width=16, cell=112.0, tile_encoder="some",
    tile_encoder_digest="d1", mpp=0.5, tile_um=112.0,
)  # fmt: skip
"""What fits the bags of ``tests.vectors.stores``."""


def saved(path: Path, record: SlideEncoderRecord = SMALL, **facts: Any) -> Path:
    """A slide encoder with random weights on disk."""
    record = replace(record, **facts)
    network = new_network(
        record.architecture, dim=record.dim, cell=record.cell, seed=0, options=record.options
    )
    save_slide_model(path, SlideModel(record=record, network=network))
    return path


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide encoder for the bundled tile encoder, 112 px at 1 µm/px."""
    encoder = load_encoder("efficientnet-lite0")
    record = SlideEncoderRecord(
        architecture="mlp", options={"width": 32}, dim=encoder.dim, width=32, cell=112.0,
        tile_encoder="efficientnet-lite0", tile_encoder_digest=encoder.digest, mpp=1.0,
        tile_um=112.0,
    )  # fmt: skip
    return saved(tmp_path_factory.mktemp("model") / "slide-encoder.safetensors", record)


@pytest.fixture
def bags(tmp_path: Path) -> Path:
    """Ten bags of random features."""
    folder = tmp_path / "bags"
    folder.mkdir()
    for number in range(10):
        save_bag(grid_bag(f"s{number}", dim=6, cols=4 + number), folder / f"s{number}.h5")
    return folder


@pytest.fixture
def table(run: Run, slides: Path, model_file: Path, tmp_path: Path) -> Path:
    out = tmp_path / "vectors.parquet"
    kept = tmp_path / "kept"
    done = run("embed", slides, "-o", out, "--slide-encoder", model_file, "--keep-bags", kept)
    assert done.code == 0, done.err
    return out


def test_slides_are_tiled_and_encoded_as_the_slide_encoder_wants(
    table: Path, model_file: Path, tmp_path: Path
) -> None:
    model, rows = load_slide_model(model_file), open_table(table)
    settings = rows.provenance["settings"]
    assert settings["slide_encoder"] == {
        "digest": model.digest, "architecture": "mlp", "window": "scatter", "views": 100,
        "tiles_per_view": 5, "seed": 0,
    }  # fmt: skip
    assert settings["tile_encoder"]["weights"] == model.record.tile_encoder_digest
    for row in rows.rows():
        bag = open_bag(tmp_path / "kept" / f"{row.slide_id}.h5")
        assert (bag.info.tile_px, bag.info.target_mpp) == (112, 1.0)
        expected = embed_bag(model, bag)
        np.testing.assert_allclose(row.embedding, expected.vector, atol=1e-6)
        assert row.n_tiles is not None
        assert row.n_views == -(-row.n_tiles // 5) > 1
        assert row.view_spread == pytest.approx(expected.view_spread, abs=1e-6)


def test_same_bytes_on_rerun_from_bags_and_in_parts(
    run: Run, slides: Path, table: Path, model_file: Path, tmp_path: Path
) -> None:
    before = table.read_bytes()
    again = run("embed", slides, "-o", table, "--slide-encoder", model_file)
    assert "(0 new, 3 from before)" in again.out
    assert table.read_bytes() == before
    anew = tmp_path / "anew.parquet"
    run("embed", slides, "-o", anew, "--slide-encoder", model_file)
    assert anew.read_bytes() == before

    parts = []
    for index in (1, 2):
        arguments = ("--slide-encoder", model_file, "--shard", f"{index}/2")
        done = run("embed", slides, "-o", tmp_path / "part.parquet", *arguments)
        assert done.code == 0, done.err
        parts.append(tmp_path / f"part.shard-{index}-of-2.parquet")
    assert run("merge", *parts, "-o", tmp_path / "merged.parquet").code == 0
    assert (tmp_path / "merged.parquet").read_bytes() == before

    from_bags = tmp_path / "from-bags.parquet"
    done = run("embed", tmp_path / "kept", "-o", from_bags, "--slide-encoder", model_file)
    assert done.code == 0, done.err
    np.testing.assert_array_equal(open_table(from_bags).embeddings, open_table(table).embeddings)


def test_other_views_are_other_settings(run: Run, bags: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "v.parquet", saved(tmp_path / "m.safetensors")
    run("embed", bags, "-o", out, "--slide-encoder", model)
    before = open_table(out)
    more = ("--views", "2", "--tiles-per-view", "3", "--seed", "7")
    done = run("embed", bags, "-o", out, "--slide-encoder", model, *more)
    assert "slide_encoder.seed: 0 → 7" in done.err
    assert "slide_encoder.tiles_per_view: 5 → 3" in done.err
    after = open_table(out)
    assert after.settings_digest != before.settings_digest
    assert {row.n_views for row in after.rows()} == {2}


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"tile_encoder_digest": "d2"}, "tile encoder 'some' (digest d1), not 'some' (digest d2)"),
        ({"tile_encoder": "uni", "tile_encoder_digest": ""},
         "tile encoder 'some' (digest d1), not 'uni' (digest not known)"),
        ({"dim": 8}, "features 6 wide, not 8"),
        ({"mpp": 0.52}, "read at 0.5 µm/px, not 0.52"),
        ({"tile_um": 224.0}, "112 µm wide, not 224"),
    ],
)  # fmt: skip
def test_bags_of_another_kind_are_refused(
    run: Run, bags: Path, tmp_path: Path, facts: dict[str, Any], sentence: str
) -> None:
    out, model = tmp_path / "v.parquet", saved(tmp_path / "m.safetensors", **facts)
    done = run("embed", bags, "-o", out, "--slide-encoder", model)
    assert done.code == 2
    assert "was made for other tiles: " in done.err
    assert sentence in done.err
    assert not out.exists()


@pytest.mark.parametrize(
    "facts",
    [
        {"mpp": 0.495, "tile_um": 113.0},
        {"tile_encoder": "", "tile_encoder_digest": "", "mpp": None, "tile_um": None},
    ],
)
def test_two_per_cent_and_what_is_not_known_are_no_difference(
    run: Run, bags: Path, tmp_path: Path, facts: dict[str, Any]
) -> None:
    model = saved(tmp_path / "m.safetensors", **facts)
    assert run("embed", bags, "-o", tmp_path / "v.parquet", "--slide-encoder", model).code == 0


def test_one_bag_of_another_tile_size_is_listed(run: Run, bags: Path, tmp_path: Path) -> None:
    odd = grid_bag("odd", dim=6, side_l0=896.0, tile_px=448)
    save_bag(odd, bags / "zz.h5")
    model, out = saved(tmp_path / "m.safetensors"), tmp_path / "v.parquet"
    done = run("embed", bags, "-o", out, "--slide-encoder", model, "--json")
    assert done.code == 1
    summary = json.loads(done.out)
    assert summary["rows"] == 10
    assert "224 µm wide, not 112" in summary["failures"][0]["reason"]


def test_slides_tiled_otherwise_are_refused(
    run: Run, slides: Path, model_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "v.parquet"
    done = run("embed", slides, "-o", out, "--slide-encoder", model_file, "--target-mpp", "0.5")
    assert done.code == 2
    assert "read at 0.5 µm/px, not 1" in done.err


@pytest.mark.parametrize(
    ("facts", "arguments", "sentence"),
    [
        ({"tile_encoder": "", "tile_encoder_digest": ""}, (), "give --tile-encoder NAME"),
        ({"tile_encoder": "efficientnet-lite0", "mpp": None}, (), "give --target-mpp"),
        ({}, ("--tile-encoder", "efficientnet-lite0"), "(digest d1)"),
    ],
)
def test_what_a_published_model_does_not_say_must_be_said(
    run: Run, slides: Path, tmp_path: Path, facts: Any, arguments: Any, sentence: str
) -> None:
    model = saved(tmp_path / "m.safetensors", **facts)
    done = run("embed", slides, "-o", tmp_path / "v.parquet", "--slide-encoder", model, *arguments)
    assert done.code == 2
    assert sentence in done.err


def test_names_and_files_that_are_no_slide_encoder(run: Run, bags: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.parquet"
    for name, sentence in {
        "maen": "unknown slide encoder 'maen'; did you mean 'mean'?",
        str(tmp_path / "absent.safetensors"): "no checkpoint at",
    }.items():
        done = run("embed", bags, "-o", out, "--slide-encoder", name)
        assert done.code == 2
        assert sentence in done.err
    done = run("embed", bags, "-o", out, "--views", "5")
    assert done.code == 2
    assert "'mean' takes all tiles at once; --views" in done.err


def collapsed(path: Path) -> Path:
    """A slide encoder whose weights are zero save for one bias: one vector for every slide."""
    network = new_network("mlp", dim=6, cell=112.0, seed=0, options={"width": 16})
    for name, weight in network.named_parameters():
        nn.init.constant_(weight, 1.0 if name == "blocks.0.second.norm.bias" else 0.0)
    save_slide_model(path, SlideModel(record=SMALL, network=network))
    return path


def test_collapsed_vectors_are_reported_unless_allowed(
    run: Run, bags: Path, tmp_path: Path
) -> None:
    out, model = tmp_path / "v.parquet", collapsed(tmp_path / "m.safetensors")
    done = run("embed", bags, "-o", out, "--slide-encoder", model)
    assert done.code == 1
    assert "gigassl: the vectors have collapsed: effective rank" in done.err
    assert "mean cosine 1.0000" in done.err
    assert len(open_table(out)) == 10  # it is all there, only not worth much
    done = run("embed", bags, "-o", out, "--slide-encoder", model, "--allow-collapsed", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["quality"]["collapsed"] is True
    assert run("merge", out, "-o", tmp_path / "merged.parquet").code == 1
    allowed = run("merge", out, "-o", tmp_path / "merged.parquet", "--allow-collapsed")
    assert allowed.code == 0


def test_sound_vectors_poolings_and_few_slides_raise_no_alarm(
    run: Run, bags: Path, tmp_path: Path
) -> None:
    out = tmp_path / "v.parquet"
    done = run("embed", bags, "-o", out, "--slide-encoder", saved(tmp_path / "m.safetensors"))
    assert done.code == 0
    assert "; effective rank " in done.out
    pooled = run("embed", bags, "-o", tmp_path / "mean.parquet", "--json")
    assert json.loads(pooled.out)["quality"] is None
    few = tmp_path / "few"
    few.mkdir()
    for name in ("s0", "s1"):
        shutil.copy(bags / f"{name}.h5", few)
    bad = collapsed(tmp_path / "bad.safetensors")
    assert run("embed", few, "-o", tmp_path / "few.parquet", "--slide-encoder", bad).code == 0


def test_inspect_shows_the_card(run: Run, model_file: Path) -> None:
    done = run("inspect", model_file)
    assert done.code == 0
    for fact in ("slide-encoder", "architecture: mlp", "tile_encoder: efficientnet-lite0"):
        assert fact in done.out
