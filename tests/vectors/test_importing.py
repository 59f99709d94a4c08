"""Importing published checkpoints: found wherever they lie; something else is refused."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from gigassl.errors import SettingsError
from gigassl.vectors.importing import read_published
from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.slide_model import load_slide_model, save_slide_model
from tests.vectors.published import save_published, small_mlp, small_scm

SCM_PREFIXES = ("backbone.net.mil_model.", "backbone.mil.", "module.backbone.net.mil_model.", "")
SMALL: dict[str, Callable[[str], dict[str, Tensor]]] = {"scm": small_scm, "mlp": small_mlp}


def some_tiles() -> PackedTiles:
    generator = torch.Generator().manual_seed(0)
    return PackedTiles(
        features=torch.randn(9, 6, generator=generator),
        coords=torch.randint(0, 2000, (9, 2), generator=generator).float(),
        bag=torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1]),
        n_bags=2,
    )


@pytest.mark.parametrize("prefix", SCM_PREFIXES)
@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_is_found_behind_any_prefix(tmp_path: Path, name: str, prefix: str) -> None:
    state = {**SMALL[name](prefix), "projector.layer1.0.weight": torch.zeros(2, 2)}
    path = save_published(tmp_path / "x.pth", state, downmap=300, dropout=0.25, num_class=4)
    model = read_published(path, tile_encoder="resnet18@layer3", mpp=1.0)
    record = model.record
    assert (record.architecture, record.dim, record.width) == (name, 6, 4)
    assert (record.coords_unit, record.cell, record.tiles_per_view) == ("px_l0", 300.0, 5)
    assert (record.tile_encoder, record.mpp, record.tile_um) == ("resnet18@layer3", 1.0, 224.0)
    assert record.training["epoch"] == 900
    assert record.options == {
        "width": 4, **({"dropout": 0.25} if name == "mlp" else {"rounding": "down"})
    }  # fmt: skip
    assert not model.network.training

    save_slide_model(tmp_path / "x.safetensors", model)
    again = load_slide_model(tmp_path / "x.safetensors")
    assert again.digest == model.digest
    with torch.inference_mode():
        assert torch.equal(again.network(some_tiles()), model.network(some_tiles()))


def test_the_backbone_is_taken_where_the_file_holds_the_network_twice(tmp_path: Path) -> None:
    once = small_scm("backbone.net.mil_model.")
    twice = {**{f"encoder.0.{k.removeprefix('backbone.')}": 0 * v for k, v in once.items()}, **once}
    expected = read_published(save_published(tmp_path / "once.pth", once))
    found = read_published(save_published(tmp_path / "twice.pth", twice))
    assert torch.equal(found.network(some_tiles()), expected.network(some_tiles()))


def test_a_bare_state_dict_gets_the_published_defaults(tmp_path: Path) -> None:
    torch.save(small_mlp("backbone.mil."), tmp_path / "bare.pth")
    record = read_published(tmp_path / "bare.pth").record
    assert (record.cell, record.options["dropout"]) == (224.0, 0.1)
    assert (record.tile_encoder, record.mpp, record.tile_um) == ("", None, None)
    assert "epoch" not in record.training


def slowly(state: dict[str, Tensor], features: Tensor) -> Tensor:
    """One residual MLP, layer by layer as the description has it."""
    t = state

    def layer(name: str, x: Tensor, *, relu: bool) -> Tensor:
        own = f"tile_encoder.{name}."
        x = x @ t[f"{own}block.0.weight"].T + t[f"{own}block.0.bias"]
        x = x.clamp(min=0) if relu else x
        scale = t[f"{own}norm.weight"] / (t[f"{own}norm.running_var"] + 1e-5).sqrt()
        return (x - t[f"{own}norm.running_mean"]) * scale + t[f"{own}norm.bias"]

    inner = layer("0.block.1", layer("0.block.0", features, relu=True), relu=False)
    x = (inner + layer("0.residual_lin", features, relu=False)).clamp(min=0)
    inner = layer("1.block.1", layer("1.block.0", x, relu=True), relu=False)
    return (inner + x).clamp(min=0).mean(0)


def test_mlp_is_what_its_description_says(tmp_path: Path) -> None:
    model = read_published(save_published(tmp_path / "mlp.pth", small_mlp("backbone.mil.")))
    tiles = some_tiles()
    state = small_mlp("")
    expected = [slowly(state, tiles.features[tiles.bag == bag]) for bag in range(2)]
    torch.testing.assert_close(model.network(tiles), torch.stack(expected))


def test_a_pca_becomes_part_of_the_model(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    pca = PCA(n_components=6, whiten=True).fit(x)
    (tmp_path / "pca.pkl").write_bytes(pickle.dumps(pca))
    path = save_published(tmp_path / "scm.pth", small_scm("backbone.mil."))
    save_slide_model(tmp_path / "m.safetensors", read_published(path, pca=tmp_path / "pca.pkl"))
    model = load_slide_model(tmp_path / "m.safetensors")
    assert model.record.dim == 20
    assert model.record.training["pca"] == "pca.pkl"
    assert model.reduction is not None
    np.testing.assert_allclose(model.reduction.apply(x), pca.transform(x), rtol=1e-3, atol=1e-4)


def broken(change: Callable[[dict[str, Tensor]], Any]) -> dict[str, Tensor]:
    state = small_scm("backbone.mil.")
    change(state)
    return state


LAST = "backbone.mil.sparse_pooling.0.1.conv2.weight"
FIRST = "backbone.mil.sparse_pooling.0.0.conv1.weight"
REFUSED: dict[str, tuple[dict[str, Tensor], str]] = {
    "tile encoder": (
        {"layer1.0.conv1.weight": torch.zeros(2)},
        r"no published Giga-SSL slide encoder: among its 1 tensors \(the first is 'layer1\.",
    ),
    "missing": (broken(lambda s: s.pop(LAST)), rf"lacks the tensor '{LAST}'"),
    "not finite": (broken(lambda s: s[LAST].fill_(torch.nan)), f"'{LAST}' holds values that are"),
    "other shape": (broken(lambda s: s.update({LAST: torch.zeros(9, 1, 4, 5)})), "size mismatch"),
    "flat": (broken(lambda s: s.update({FIRST: torch.zeros(9)})), r"has the shape \(9,\)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_another_file_is_refused_with_what_was_found(tmp_path: Path, kind: str) -> None:
    state, reason = REFUSED[kind]
    with pytest.raises(SettingsError, match=reason):
        read_published(save_published(tmp_path / "x.pth", state))


WRONG_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "dim": ({"tile_encoder": "phikon"}, r"phikon have 768 columns, but 6 are expected.*--pca"),
    "mpp": ({"mpp": 0.0}, "mpp must be a positive number"),
    "pca": ({"pca": Path("none.pkl")}, r"no PCA at none\.pkl"),
}


@pytest.mark.parametrize("kind", WRONG_OPTIONS)
def test_wrong_options_are_refused(tmp_path: Path, kind: str) -> None:
    options, reason = WRONG_OPTIONS[kind]
    with pytest.raises(SettingsError, match=reason):
        read_published(save_published(tmp_path / "x.pth", small_mlp("backbone.mil.")), **options)


def test_a_pca_of_another_width_is_refused(tmp_path: Path) -> None:
    pca = PCA(n_components=3).fit(np.random.default_rng(0).normal(size=(20, 8)))
    (tmp_path / "pca.pkl").write_bytes(pickle.dumps(pca))
    path = save_published(tmp_path / "x.pth", small_mlp("backbone.mil."))
    with pytest.raises(SettingsError, match=r"reduces to 3 columns, but .* takes 6"):
        read_published(path, pca=tmp_path / "pca.pkl")


@pytest.mark.parametrize("value", ["224", -1.0, float("inf")])
def test_a_setting_that_is_no_size_is_refused(tmp_path: Path, value: Any) -> None:
    path = save_published(tmp_path / "x.pth", small_scm("backbone.mil."), downmap=value)
    with pytest.raises(SettingsError, match="setting downmap"):
        read_published(path)
