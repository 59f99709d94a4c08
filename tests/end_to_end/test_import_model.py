"""``import-model`` through the command line."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from gigassl.vectors.slide_model import load_slide_model
from tests.end_to_end.conftest import Run
from tests.tiles.keras_by_hand import published_layers, write_keras
from tests.vectors.published import (
    golden_checkpoint,
    needs_golden,
    save_published,
    small_mlp,
    small_scm,
)


@needs_golden
@pytest.mark.parametrize("name", ["scm", "mlp"])
def test_a_published_checkpoint_is_imported_and_inspected(
    run: Run, tmp_path: Path, name: str
) -> None:
    source, out = golden_checkpoint(f"giga_ssl_{name}", tmp_path), tmp_path / "m.safetensors"
    done = run("import-model", source, "-o", out, "--tile-encoder", "moco", "--mpp", 1.0)
    assert done.code == 0, done.err
    assert f"{name}, 256-d tiles → 512-d vectors, digest {load_slide_model(out).digest}" in done.out
    assert done.err == ""
    record = json.loads(run("inspect", out, "--json").out)["card"]["record"]
    assert (record["architecture"], record["tile_encoder"], record["mpp"]) == (name, "moco", 1.0)
    assert (record["coords_unit"], record["cell"], record["window"]) == ("px_l0", 224.0, "scatter")
    assert (record["training"]["epoch"], len(record["training"]["sha256"])) == (1000, 64)


def test_a_pca_is_imported_with_the_slide_encoder(run: Run, tmp_path: Path) -> None:
    source = save_published(tmp_path / "x.pth", small_scm("backbone.mil."), downmap=224)
    x = np.random.default_rng(0).normal(size=(40, 9))
    (tmp_path / "pca.pkl").write_bytes(pickle.dumps(PCA(n_components=6).fit(x)))
    out = tmp_path / "new" / "m.safetensors"
    done = run("import-model", source, "-o", out, "--pca", tmp_path / "pca.pkl", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["record"]["dim"], found["record"]["width"]) == (9, 4)
    assert found["digest"] == load_slide_model(out).digest
    assert "PCA to 6" in run("import-model", source, "-o", out, "--pca", tmp_path / "pca.pkl").out


def test_what_is_not_said_is_pointed_out(run: Run, tmp_path: Path) -> None:
    source = save_published(tmp_path / "x.pth", small_mlp("backbone.mil."))
    done = run("import-model", source, "-o", tmp_path / "m.safetensors", "--mpp", 1.0)
    assert done.code == 0
    assert "without --tile-encoder only the width" in done.err


class Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, ("touch trace",))


def test_files_that_would_run_code_are_a_sentence_and_write_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = save_published(tmp_path / "x.pth", small_mlp("backbone.mil."))
    (tmp_path / "pca.pkl").write_bytes(pickle.dumps(Runs()))
    torch.save({"state_dict": Runs()}, tmp_path / "evil.pth")
    for arguments in ([source, "--pca", tmp_path / "pca.pkl"], [tmp_path / "evil.pth"]):
        done = run("import-model", *arguments, "-o", tmp_path / "m.safetensors")
        assert done.code == 2
        assert "run" in done.err
    assert not (tmp_path / "trace").exists()
    assert not (tmp_path / "m.safetensors").exists()


def test_another_kind_of_output_is_refused(run: Run, tmp_path: Path) -> None:
    source = save_published(tmp_path / "x.pth", small_mlp("backbone.mil."))
    done = run("import-model", source, "-o", tmp_path / "m.pth")
    assert done.code == 2
    assert ".safetensors" in done.err


def test_a_keras_tile_encoder_is_imported_and_inspected(run: Run, tmp_path: Path) -> None:
    source = write_keras(tmp_path / "encoder.h5", published_layers(code=7))
    out = tmp_path / "e.safetensors"
    done = run("import-model", source, "-o", out)
    assert done.code == 0, done.err
    assert "e, tiles of 22 px at 0.5 µm/px → 7-d features, digest" in done.out
    card = json.loads(run("inspect", out, "--json").out)["card"]
    assert (card["record"]["architecture"], card["record"]["dim"]) == ("nic:bigan", 7)
    assert card["training"]["imported_from"] == "encoder.h5"
    again = run("import-model", source, "-o", tmp_path / "f.safetensors", "--mpp", 1, "--json")
    assert json.loads(again.out)["record"]["mpp"] == 1.0


def test_options_of_slide_encoders_are_refused_with_a_tile_encoder(
    run: Run, tmp_path: Path
) -> None:
    source = write_keras(tmp_path / "encoder.h5", published_layers())
    done = run("import-model", source, "-o", tmp_path / "e.safetensors", "--tile-encoder", "uni")
    assert done.code == 2
    assert "--tile-encoder and --pca belong to slide encoders" in done.err
    done = run("import-model", source, "-o", tmp_path / "e.pt")
    assert done.code == 2
    assert "tile encoders are .safetensors files" in done.err
