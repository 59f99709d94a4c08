"""Networks of neural image compression: shapes, numbers of weights, names."""

import numpy as np
import pytest
import torch
from torch import nn

from gigassl.digests import digest_of_tensors
from gigassl.errors import SettingsError
from gigassl.tiles.encoder_files import save_encoder
from gigassl.tiles.encoders import create_network, load_encoder, random_twin
from gigassl.tiles.nic_encoders import NIC_NETWORKS, new_nic_network, nic_record
from gigassl.tiles.nic_networks import Discriminator, Generator, NicEncoder
from gigassl.tiles.training_networks import TileNetwork, begun_network

SMALL = "nic:vae?code=16,convolutions=2,dense=64,channels=1"
SMALL_BIGAN = "nic:bigan?code=16,convolutions=2,filters=32,pool=1,channels=1"


def encoder_of(name: str, *, px: int = 128) -> NicEncoder:
    network = begun_network(TileNetwork(architecture=name), sides_px=[px], seed=0).network
    assert isinstance(network, NicEncoder)
    return network.eval()


def sides_in(network: NicEncoder, *, px: int) -> list[int]:
    """Sides of all maps, the convolutions' input first."""
    maps = network.seen(torch.zeros(1, 3, px, px))
    sides = [maps.shape[-1]]
    for layer in network.body:
        maps = layer(maps)
        if isinstance(layer, nn.Conv2d):
            sides.append(maps.shape[-1])
    return sides


def test_the_published_encoder_of_the_bigan() -> None:
    network = encoder_of("nic:bigan")
    assert sides_in(network, px=128) == [64, 31, 15, 7, 3]
    values = [t.numel() for k, t in network.state_dict().items() if "num_batches" not in k]
    assert sum(values) == 595_968
    assert sum(p.numel() for p in network.parameters()) == 594_944
    kinds = [type(layer) for layer in network.body[:3]]
    assert kinds == [nn.Conv2d, nn.LeakyReLU, nn.BatchNorm2d]
    norm = network.body[2]
    assert isinstance(norm, nn.BatchNorm2d)
    assert (norm.eps, norm.momentum) == (1e-3, 0.2)


def test_the_published_encoder_of_the_vae() -> None:
    network = encoder_of("nic:vae")
    assert sides_in(network, px=128) == [128, 64, 32, 16, 8, 4]
    assert network.filters == (32, 64, 128, 256, 512)
    assert network.code.in_features == 512


@pytest.mark.parametrize("name", [SMALL, SMALL_BIGAN])
def test_the_small_encoders_of_the_synthetic_task(name: str) -> None:
    network = encoder_of(name, px=9)
    codes = network(torch.rand(2, 3, 9, 9))
    assert codes.shape == (2, 16)
    grey = torch.rand(2, 1, 9, 9)
    rgb = torch.cat([grey - 0.2, grey + 0.3, grey - 0.1], dim=1)
    assert torch.allclose(network(rgb), network(grey.expand(-1, 3, -1, -1)), atol=1e-5)


def test_large_tiles_are_averaged_before_the_bigan_sees_them() -> None:
    network = encoder_of("nic:bigan")
    tiles = torch.rand(2, 3, 128, 128)
    slow = torch.empty(2, 3, 64, 64)
    for row in range(64):
        for col in range(64):
            square = tiles[:, :, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
            slow[:, :, row, col] = square.sum(dim=(2, 3)) / 4
    assert torch.allclose(network.seen(tiles), slow, atol=1e-6)


@pytest.mark.parametrize(
    ("filters", "first", "side", "sides"),
    [
        ([256, 128, 64, 32, 16], 512, 128, [8, 16, 32, 64, 128]),
        ([128] * 4, 64, 64, [8, 16, 32, 64]),
        ([64, 32], 128, 9, [8, 9]),
        ([32, 32], 32, 8, [8, 8]),
    ],
)
def test_generators_draw_tiles_of_any_side(
    filters: list[int], first: int, side: int, sides: list[int]
) -> None:
    network = Generator(filters, code=6, first=first, side_px=side, channels=3).eval()
    assert network.sides == sides
    drawn = network(torch.randn(2, 6))
    assert drawn.shape == (2, 3, side, side)
    assert drawn.abs().max() <= 1.0
    assert network.dense[0].out_features == 16 * first


def test_the_discriminator_sees_images_through_layers_of_its_own() -> None:
    encoder = encoder_of(SMALL_BIGAN, px=9)
    network = Discriminator(encoder, width=32, dropout=0.5).eval()
    shapes = {k: t.shape for k, t in encoder.state_dict().items()}
    own = dict(network.image.state_dict())
    assert sorted(map(tuple, shapes.values())) == sorted(tuple(t.shape) for t in own.values())
    assert not torch.equal(own["0.0.weight"], encoder.state_dict()["body.0.weight"])
    logits = network(torch.rand(3, 1, 9, 9), torch.randn(3, 16))
    assert logits.shape == (3,)


def test_weights_come_from_the_seed_and_from_nothing_else() -> None:
    record = nic_record("nic:vae?px=16,convolutions=2,dense=8,code=4")
    before = torch.get_rng_state()
    first, same, other = (
        digest_of_tensors(create_network(record, seed=seed).state_dict()) for seed in (0, 0, 1)
    )
    assert first == same != other
    assert torch.equal(before, torch.get_rng_state())


def test_mean_rgb_is_the_mean_of_each_channel() -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
    encoder = load_encoder("nic:mean-rgb?px=20", batch_size=4)
    assert encoder.dim == 3
    slow = [[tile[..., c].astype(float).mean() / 127.5 - 1.0 for c in range(3)] for tile in tiles]
    assert np.allclose(encoder.encode(tiles), slow, atol=1e-5)


def test_a_saved_encoder_is_read_again_with_its_options(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("nic") / "small.safetensors"
    begun = begun_network(TileNetwork(architecture=SMALL), sides_px=[9], seed=3)
    save_encoder(path, record=begun.record, network=begun.network)
    found = load_encoder(str(path), batch_size=2)
    tiles = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3), dtype=np.uint8)
    pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255.0
    expected = begun.network.eval()(pixels * 2.0 - 1.0)
    assert np.allclose(found.encode(tiles), expected.detach().numpy(), atol=1e-5)
    assert random_twin(found).dim == 16


def test_a_control_has_random_weights_by_its_seed() -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    names = [f"random:nic:vae?px=16,convolutions=2,dense=8,code=4,seed={k}" for k in (0, 1)]
    first, second = (load_encoder(name, batch_size=1) for name in names)
    assert first.record.name == names[0]
    assert not np.allclose(first.encode(tiles), second.encode(tiles))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("random:nic:vea", "did you mean 'vae'"),
        ("random:nic:vae?code=x", "whole numbers, such as"),
        ("random:nic:vae?codes=4", "did you mean 'code'"),
        ("random:nic:vae?convolutions=0", "positive whole number; got 0"),
        ("random:nic:vae?channels=2", "3 channels, or 1"),
        ("random:nic:bigan?px=9", "averaged over squares of 2 px"),
        ("random:nic:bigan?px=9,pool=1", "too small for 4 strided convolutions"),
        ("nic:vae", "a network without weights.*random:nic:vae"),
    ],
)
def test_wrong_names_are_refused(name: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        load_encoder(name)


@pytest.mark.parametrize("name", sorted(NIC_NETWORKS))
def test_every_network_takes_tiles_of_its_side(name: str) -> None:
    record = nic_record(f"nic:{name}")
    assert record.mean == record.std == (0.5, 0.5, 0.5)
    assert (record.input_px, record.mpp) == (128, 0.5)
    network = new_nic_network(record).eval()
    assert network(torch.zeros(1, 3, 128, 128)).shape == (1, record.dim)
