"""VAE, contrastive and BiGAN: their losses, whose gradients are whose, and what pairs are of."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gigassl.errors import SettingsError
from gigassl.tiles.pretrain.catalogue import METHOD_NETWORKS, METHOD_PRESETS, new_method
from gigassl.tiles.pretrain.method import Method
from gigassl.tiles.pretrain.methods.bigan import Bigan, value_of
from gigassl.tiles.pretrain.methods.contrastive import Contrastive, elsewhere
from gigassl.tiles.pretrain.methods.vae import Vae, divergence_from_normal
from gigassl.tiles.pretrain.source import TileBatch
from gigassl.tiles.training_networks import TileNetwork, begun_network

SMALL: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "vae": ("nic:vae?code=6,convolutions=2,dense=16,channels=1", {"decoder": 256}),
    "contrastive": ("nic:vae?code=6,convolutions=2,dense=16", {"hidden": 8}),
    "bigan": (
        "nic:bigan?code=6,convolutions=2,filters=8,pool=1",
        {"generator": 128, "discriminator": 16, "dropout": 0.0},
    ),
}
SIDE, CODE = 9, 6


def small(name: str, **options: float) -> Method:
    network, own = SMALL[name]
    preset = METHOD_PRESETS[name]
    settings = replace(
        preset, options={**own, **options}, views=replace(preset.views, side_px=SIDE)
    )
    begun = begun_network(TileNetwork(architecture=network), sides_px=[SIDE], seed=1)
    return new_method(settings, begun.network, width=CODE, steps=10)


def views(n_tiles: int = 8, *, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(n_tiles, 3, SIDE, SIDE, generator=generator) * 2 - 1 for _ in range(2)]


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_divergence_of_normals_is_the_integral_that_defines_it() -> None:
    mean, log_variance = torch.tensor([[0.7, -1.0]]), torch.tensor([[-0.5, 0.8]])
    expected = 0.0
    grid = np.linspace(-12, 12, 200_001)
    for m, v in zip(mean[0].tolist(), log_variance[0].exp().tolist(), strict=True):
        density = np.exp(-((grid - m) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)
        ratio = -((grid - m) ** 2) / (2 * v) - 0.5 * math.log(v) + grid**2 / 2
        expected += float((density * ratio).sum() * (grid[1] - grid[0]))
    assert float(divergence_from_normal(mean, log_variance)) == pytest.approx(expected, rel=1e-5)
    assert float(divergence_from_normal(torch.zeros(3, 2), torch.zeros(3, 2))) == 0.0


def test_the_loss_of_the_vae_is_error_plus_weighed_divergence() -> None:
    method = small("vae", kl=0.25)
    assert isinstance(method, Vae)
    method.eval()
    seen = torch.cat(views())
    with torch.no_grad():
        loss, first, second = method(views(), progress=0.0, generator=chance())
        grey = seen.mean(dim=1, keepdim=True)
        hidden = method.encoder.body(grey)
        mean, log_variance = method.encoder.code(hidden), method.log_variance(hidden)
        noise = torch.randn(mean.shape, generator=chance())
        drawn = method.decoder(mean + torch.exp(log_variance).sqrt() * noise)
        total = 0.0
        for image in range(len(seen)):
            error = float(((drawn[image] - grey[image]) ** 2).mean())
            nats = 0.0
            for m, v in zip(mean[image].tolist(), log_variance[image].tolist(), strict=True):
                nats += (m**2 + math.exp(v) - 1 - v) / 2
            total += error + 0.25 * nats
        codes = method.encoder(seen)
        measured = method.measure(views(), chance())
    assert float(loss) == pytest.approx(total / len(seen), rel=1e-5)
    assert torch.allclose(torch.cat([first, second]), codes, atol=1e-6)
    assert list(measured) == ["loss", "error", "divergence"]
    assert float(measured["loss"]) == pytest.approx(float(loss), rel=1e-6)


def test_gradients_of_the_vae_reach_every_weight() -> None:
    method = small("vae")
    method(views(), progress=0.0, generator=chance())[0].backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.ndim < 2 or parameter.grad.abs().sum() > 0, name


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the gradients of all weights; each has one."""
    found = {}
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        found[name] = parameter.grad.clone()
    return found


def slow_value(method: Bigan, x: Tensor, z: Tensor) -> Tensor:
    """Mean of log D(x, E(x)) + log(1 - D(G(z), z)), as the paper prints it."""
    real = torch.sigmoid(method.discriminator(x, method.encoder(x)))
    false = torch.sigmoid(method.discriminator(method.generator(z), z))
    return (torch.log(real) + torch.log(1 - false)).mean()


def test_each_side_of_the_game_has_the_gradients_of_its_own_objective() -> None:
    method = small("bigan")
    assert isinstance(method, Bigan)
    x = torch.cat(views())
    loss = method(views(), progress=0.0, generator=chance())[0]
    loss.backward()
    found = gradients(method)
    z = torch.randn(len(x), CODE, generator=chance())

    method.zero_grad()
    value = slow_value(method, x, z)
    torch.autograd.backward(-value)
    for name, gradient in gradients(method.discriminator).items():
        assert torch.allclose(found[f"discriminator.{name}"], gradient, atol=1e-5), name

    method.zero_grad()
    real = torch.sigmoid(method.discriminator(x, method.encoder(x)))
    false = torch.sigmoid(method.discriminator(method.generator(z), z))
    deceit = -(torch.log(1 - real) + torch.log(false)).mean()
    torch.autograd.backward(deceit)
    for side in ("encoder", "generator"):
        for name, gradient in gradients(method.get_submodule(side)).items():
            assert torch.allclose(found[f"{side}.{name}"], gradient, atol=1e-5), name
    assert float(loss.detach()) == pytest.approx(float((deceit - value).detach()), rel=1e-5)


def test_the_game_is_won_neither_way_by_a_coin() -> None:
    assert float(value_of(torch.zeros(4), torch.zeros(4))) == pytest.approx(-2 * math.log(2))
    assert float(value_of(torch.full((4,), 90.0), torch.full((4,), -90.0))) == pytest.approx(0.0)


def test_a_small_step_moves_discriminator_and_deceivers_their_own_ways() -> None:
    method = small("bigan")
    assert isinstance(method, Bigan)
    x, z = torch.cat(views()), torch.randn(16, CODE, generator=chance())
    before = {k: p.detach().clone() for k, p in method.named_parameters()}
    with torch.no_grad():
        start = float(slow_value(method, x, z))
    method(views(), progress=0.0, generator=chance())[0].backward()
    found = gradients(method)
    with torch.no_grad():
        for side, sign in (("discriminator", 1), ("generator", -1), ("encoder", -1)):
            for k, p in method.named_parameters():
                p.copy_(before[k] - (3e-3 * found[k] if k.startswith(f"{side}.") else 0.0))
            assert sign * (float(slow_value(method, x, z)) - start) > 0, side


def pairs(files: list[int], *, beside: list[bool] | None = None) -> TileBatch:
    """Tiles of a grey that is their number; the neighbour's is 100 more."""
    n_tiles = len(files)
    numbers = torch.arange(n_tiles, dtype=torch.uint8).view(-1, 1, 1, 1)
    tiles = numbers.expand(-1, SIDE, SIDE, 3).contiguous()
    return TileBatch(
        tiles, file=torch.tensor(files), partners=tiles + 100,
        beside=torch.tensor(beside or [True] * n_tiles),
    )  # fmt: skip


def kinds(batch: TileBatch, method: Contrastive) -> list[str]:
    """What the partner of each tile is, by its grey."""
    assert batch.partners is not None
    found = []
    for k, grey in enumerate(batch.partners[:, 0, 0, 0].tolist()):
        kind = "same" if grey == k else "beside" if grey == k + 100 else "far"
        if kind == "far":
            assert batch.file[grey] != batch.file[k]
        found.append(kind)
    assert [kind == "same" for kind in found] == method._same.tolist()
    return found


def test_half_of_the_pairs_are_one_place_and_three_in_four_others_lie_side_by_side() -> None:
    method = small("contrastive")
    assert isinstance(method, Contrastive)
    counts = {"same": 0, "beside": 0, "far": 0}
    for seed in range(100):
        batch = method.prepare(pairs([k // 4 for k in range(64)]), chance(seed))
        for kind in kinds(batch, method):
            counts[kind] += 1
    assert counts["same"] == 3200
    # a binomial of 3200 with 3/4 has a standard deviation of 24.5
    assert abs(counts["beside"] - 2400) < 5 * 24.5


def test_pairs_where_nothing_lies_beside_or_everything_is_of_one_file() -> None:
    method = small("contrastive")
    assert isinstance(method, Contrastive)
    alone = method.prepare(pairs([0, 0, 1, 1] * 4, beside=[False] * 16), chance())
    assert set(kinds(alone, method)) == {"same", "far"}
    one_file = method.prepare(pairs([0] * 16), chance())
    assert set(kinds(one_file, method)) == {"same", "beside"}
    neither = method.prepare(pairs([0] * 4, beside=[False] * 4), chance())
    assert kinds(neither, method) == ["same"] * 4
    with pytest.raises(SettingsError, match="neighbours=True"):
        method.prepare(TileBatch(alone.tiles, file=alone.file), chance())


def test_elsewhere_is_any_other_file_alike() -> None:
    file = torch.tensor([0, 0, 1, 2])
    counts = np.zeros((4, 4), int)
    for seed in range(600):
        for k, place in enumerate(elsewhere(file, chance(seed)).tolist()):
            counts[k, place] += 1
    assert (counts[0][[0, 1]] == 0).all()
    assert counts[2][2] == 0
    assert abs(counts[0][[2, 3]] - 300).max() < 5 * math.sqrt(150)
    assert abs(counts[2][[0, 1, 3]] - 200).max() < 5 * math.sqrt(134)
    assert elsewhere(torch.zeros(3, dtype=torch.int64), chance()).tolist() == [-1] * 3


def test_the_loss_of_pairs_is_the_cross_entropy_of_the_answers() -> None:
    method = small("contrastive")
    assert isinstance(method, Contrastive)
    method.prepare(pairs([k // 2 for k in range(8)]), chance())
    method.eval()
    with torch.no_grad():
        loss, first, second = method(views(), progress=0.0, generator=chance())
        answers = torch.sigmoid(method.head(torch.cat([first, second], dim=1))[:, 0]).tolist()
        measured = method.measure(views(), chance())
    wanted = method._same.tolist()
    chances = [p if same else 1 - p for p, same in zip(answers, wanted, strict=True)]
    assert float(loss) == pytest.approx(-sum(map(math.log, chances)) / 8, rel=1e-5)
    wrong = sum((p > 0.5) != same for p, same in zip(answers, wanted, strict=True))
    assert next(iter(measured)) == "wrong"
    assert float(measured["wrong"]) == pytest.approx(wrong / 8)


@pytest.mark.parametrize("name", ["vae", "bigan"])
def test_pictures_lie_below_one_another(name: str) -> None:
    method = small(name).eval()
    with torch.no_grad():
        drawn = method.pictures(views()[0], chance())
    assert isinstance(method, Vae | Bigan)
    channels = method.encoder.channels
    assert drawn["reconstructions"].shape == (2, 8, channels, SIDE, SIDE)
    assert torch.equal(drawn["reconstructions"][0], method.encoder.seen(views()[0]))
    if name == "bigan":
        assert drawn["generated"].shape == (4, 8, channels, SIDE, SIDE)


@pytest.mark.parametrize("name", ["vae", "bigan"])
def test_other_networks_cannot_be_drawn_from(name: str) -> None:
    with pytest.raises(SettingsError, match="take --arch nic:vae or nic:bigan"):
        new_method(METHOD_PRESETS[name], nn.Flatten(), width=4, steps=1)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_presets_are_the_published_ones(name: str) -> None:
    preset = METHOD_PRESETS[name]
    images = preset.batch_size * (1 if name == "contrastive" else 2)
    published = {"vae": 1e-3, "contrastive": 1e-2, "bigan": 2e-4}
    assert images == 64
    assert preset.lr * preset.batch_size / 256 == pytest.approx(published[name])
    assert preset.schedule == ("constant" if name == "bigan" else "plateau")
    assert (preset.validation > 0) == (name != "bigan")
    assert preset.optimiser == "adam"
    assert METHOD_NETWORKS[name].startswith("nic:")
