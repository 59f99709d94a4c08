"""Networks to train: seeded, whole, unfolded, of views' sides; wrong wishes are sentences."""

from pathlib import Path

import pytest
import timm
import torch

from gigassl.errors import SettingsError
from gigassl.tiles.encoder_files import save_encoder
from gigassl.tiles.encoders import encoder_record, load_encoder, plain_network
from gigassl.tiles.training_networks import TileNetwork, begun_network


def test_random_weights_are_timms_own_and_follow_the_seed() -> None:
    before = torch.random.get_rng_state()
    first, same, other = (
        begun_network(TileNetwork(architecture=name), sides_px=(32,), seed=seed)
        for name, seed in (("timm:test_resnet", 3), ("test_resnet", 3), ("test_resnet", 4))
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = timm.create_model("test_resnet", num_classes=0).state_dict()
    found = first.network.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert all(torch.equal(found[n], w) for n, w in same.network.state_dict().items())
    assert not all(torch.equal(found[n], w) for n, w in other.network.state_dict().items())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in first.network.modules())
    assert all(weight.requires_grad for weight in first.network.parameters())
    assert first.network.training


def test_the_record_says_what_the_architecture_takes() -> None:
    record = begun_network(TileNetwork(), sides_px=(64,), seed=0).record
    assert (record.architecture, record.dim, record.input_px) == ("resnet18", 512, 64)
    assert record.mean == (0.485, 0.456, 0.406)


def test_a_transformer_of_one_side_takes_views_of_several() -> None:
    begun = begun_network(
        TileNetwork(architecture="vit_tiny_patch16_224"), sides_px=(48, 32), seed=0
    )
    assert begun.record.options == {"dynamic_img_size": True}
    assert begun.network(torch.zeros(2, 3, 32, 32)).shape == (2, begun.record.dim)


def test_weights_of_an_encoder_go_on(tmp_path: Path) -> None:
    name, file = "random:test_resnet?seed=5", tmp_path / "mine.safetensors"
    save_encoder(file, record=encoder_record(name), network=plain_network(name))
    begun = begun_network(TileNetwork(init_from=str(file)), sides_px=(32,), seed=0)
    expected = plain_network(name).state_dict()
    assert all(torch.equal(begun.network.state_dict()[n], w) for n, w in expected.items())
    bundled = begun_network(TileNetwork(init_from="efficientnet-lite0"), sides_px=(32,), seed=0)
    assert bundled.record.architecture == "tf_efficientnet_lite0"
    assert bundled.record.mean == (0.5, 0.5, 0.5)
    assert bundled.record.dim == 1280


@pytest.mark.parametrize(
    ("chosen", "sides_px", "said"),
    [
        (TileNetwork(architecture="resnet81"), (32,), "did you mean 'resnet18'"),
        (TileNetwork(architecture="resnet18@layer3"), (32,), "whole networks are trained"),
        (TileNetwork(init_from="random:resnet18@layer3"), (32,), "whole networks are trained"),
        (TileNetwork(architecture="test_vit"), (33,), "does not take views of 33 px"),
        (TileNetwork(architecture="test_vit"), (32, 17), "does not take views of 17 px"),
        (
            TileNetwork(architecture="resnet18", init_from="random:test_resnet"), (32,),
            "of the architecture test_resnet, not of resnet18",
        ),
        (TileNetwork(init_from="nowhere.safetensors"), (32,), "no checkpoint at nowhere"),
    ],
)  # fmt: skip
def test_wrong_wishes_are_sentences(
    chosen: TileNetwork, sides_px: tuple[int, ...], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        begun_network(chosen, sides_px=sides_px, seed=0)


def test_a_file_is_cut_when_it_is_used(tmp_path: Path) -> None:
    name, file = "random:resnet18?seed=5", tmp_path / "mine@home.safetensors"
    save_encoder(file, record=encoder_record(name), network=plain_network(name))
    cut = load_encoder(f"{file}@layer3", batch_size=1)
    assert (cut.record.cut, cut.dim) == ("layer3", 256)
    assert cut.record.name == f"{encoder_record(name).name}@layer3"
    assert cut.digest == load_encoder("random:resnet18@layer3?seed=5", batch_size=1).digest
    with pytest.raises(SettingsError, match=r"unknown stage of resnet18 'layer9'.*layer3"):
        load_encoder(f"{file}@layer9")
    again = tmp_path / "cut.safetensors"
    save_encoder(again, record=cut.record, network=plain_network(f"{file}@layer3"))
    assert load_encoder(f"{again}@layer3", batch_size=1).digest == cut.digest
    with pytest.raises(SettingsError, match="ends after layer3 already"):
        load_encoder(f"{again}@layer2")
