"""Every method learns without collapse, resumes to the bit, and takes only what it knows."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gigassl.digests import digest_of_tensors
from gigassl.errors import SettingsError
from gigassl.tiles.pretrain.catalogue import METHOD_OPTIONS, METHOD_PRESETS, METHODS, new_method
from gigassl.tiles.pretrain.method import Method
from gigassl.tiles.pretrain.methods.moco import MocoOptions
from gigassl.tiles.pretrain.methods.parts import momentum_after, options_from
from gigassl.tiles.weights import load_checkpoint, save_checkpoint
from gigassl.training.geometry import geometry
from gigassl.training.optimisers import learning_rate, new_optimiser
from tests.tiles.pretrain.methods.cases import (
    NAMES,
    WIDTH,
    convolutions,
    method,
    step_of,
    toy_views,
    transformer,
)


def stained(n_tiles: int, *, name: str, seed: int) -> list[Tensor]:
    """Toy views each of a slightly other colour, which says nothing about the tile."""
    generator = torch.Generator().manual_seed(seed)
    return [
        view + 0.2 * torch.randn(n_tiles, 3, 1, 1, generator=generator)
        for view in toy_views(n_tiles, name=name, seed=seed)
    ]


def trained(learner: Method, *, name: str, steps: int, n_tiles: int = 24) -> list[float]:
    optimiser = new_optimiser("adamw", learner, lr=1e-3, weight_decay=0.0)
    losses = []
    for step in range(steps):
        rate = learning_rate(step, peak=1e-3, warmup_steps=steps // 5, steps=steps)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = step_of(
            learner, stained(n_tiles, name=name, seed=step), progress=step / steps, seed=step
        )
        optimiser.zero_grad()
        loss.backward()
        learner.before_step(step / steps)
        optimiser.step()
        learner.after_step((step + 1) / steps)
        losses.append(float(loss.detach()))
    return losses


def vectors_of(encoder: nn.Module) -> tuple[Any, Any]:
    first, second = stained(40, name="moco", seed=1000)
    with torch.no_grad():
        return encoder.eval()(first).numpy(), encoder(second).numpy()


def confusion(encoder: nn.Module) -> float:
    """How far views of a tile lie apart, as a share of what tiles do."""
    first, second = vectors_of(encoder)
    spread = ((first - first.mean(axis=0)) ** 2).sum()
    return float(((first - second) ** 2).sum() / spread)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_learns_what_a_tile_is_and_does_not_collapse(name: str) -> None:
    steps = 80
    encoder = transformer() if name == "dinov2" else convolutions(norm=True)
    # so few steps, with so small a head, need a sharper teacher to the end
    options = {"teacher_temperature": 0.04} if name.startswith("dino") else {}
    learner = method(name, options, batch_size=24, steps=steps, encoder=encoder)
    before = confusion(learner.encoder)
    learner.train()
    losses = trained(learner, name=name, steps=steps)
    if name.startswith("dino"):
        # it rises from 0 as the centre comes to be; prototypes all alike would give this:
        assert sum(losses[-5:]) / 5 < 0.9 * math.log(40)
    else:
        assert sum(losses[-5:]) < 0.95 * sum(losses[10:15])
    kept = learner.encoder_to_keep()
    found = geometry(*vectors_of(kept))
    assert not found.collapsed
    assert found.effective_rank > 3
    assert confusion(kept) < before


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_method_goes_on_to_the_bit(name: str, tmp_path: Path) -> None:
    views = [toy_views(8, name=name, seed=seed) for seed in range(6)]

    def go_on(learner: Method, steps: range) -> list[float]:
        losses = []
        for step in steps:
            loss = step_of(learner, views[step], progress=step / 6, seed=step)
            learner.zero_grad()
            loss.backward()
            learner.before_step(step / 6)
            with torch.no_grad():
                for parameter in learner.parameters():
                    if parameter.grad is not None:
                        parameter.sub_(0.05 * parameter.grad)
            learner.after_step((step + 1) / 6)
            losses.append(float(loss.detach()))
        return losses

    first = method(name, steps=6, encoder=None if name == "dinov2" else convolutions(norm=True))
    go_on(first, range(3))
    save_checkpoint(tmp_path / "state.safetensors", first.state_dict(), card={})
    undisturbed = go_on(first, range(3, 6))
    other = transformer(seed=9) if name == "dinov2" else convolutions(norm=True, seed=9)
    second = method(name, steps=6, seed=9, encoder=other)
    second.load_state_dict(load_checkpoint(tmp_path / "state.safetensors").tensors)
    assert go_on(second, range(3, 6)) == undisturbed
    assert digest_of_tensors(second.state_dict()) == digest_of_tensors(first.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_drawn_outside_seed_and_generator(name: str) -> None:
    before = torch.get_rng_state()
    views = toy_views(8, name=name)
    learners = [method(name, seed=seed) for seed in (3, 3, 4)]
    losses = [float(step_of(x, views, progress=0.0).detach()) for x in learners]
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(before, torch.get_rng_state())


def test_hidden_patches_follow_the_generator() -> None:
    views = toy_views(8, name="dinov2")
    losses = [
        float(step_of(method("dinov2"), views, progress=0.0, seed=s).detach()) for s in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_computed_in_float32_under_autocast(name: str) -> None:
    views = toy_views(8, name=name)
    exact = float(step_of(method(name), views, progress=0.0).detach())
    learner = method(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, first, second = learner(
            views, progress=0.0, generator=torch.Generator().manual_seed(0)
        )
    assert loss.dtype == first.dtype == second.dtype == torch.float32
    assert first.shape == second.shape == (8, WIDTH)
    assert not first.requires_grad
    assert not second.requires_grad
    assert float(loss.detach()) == pytest.approx(exact, rel=0.05)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in learner.parameters() if p.grad is not None)


def test_momentum_rises_as_half_a_cosine() -> None:
    for step in range(50):
        expected = 1 - (1 - 0.99) * (math.cos(math.pi * step / 49) + 1) / 2
        assert momentum_after((step + 1) / 50, start=0.99, steps=50) == pytest.approx(expected)
    assert momentum_after(1.0, start=0.99, steps=1) == 1.0


@pytest.mark.parametrize(
    ("name", "share"), [("moco", 0.999), ("byol", 0.996), ("dino", 0.996), ("dinov2", 0.992)]
)
def test_the_slow_encoder_moves_by_its_momentum(name: str, share: float) -> None:
    learner: Any = method(name, steps=10)
    parts = {"encoder": "slow_encoder"}
    for part in ("projector", "head", "patch_head"):
        if hasattr(learner, f"slow_{part}"):
            parts[part] = f"slow_{part}"
    before = {k: [p.clone() for p in getattr(learner, v).parameters()] for k, v in parts.items()}
    with torch.no_grad():
        for parameter in learner.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    learner.after_step(0.1)
    for fast, slow in parts.items():
        pairs = (getattr(learner, fast).parameters(), getattr(learner, slow).parameters())
        for old, new, moved in zip(before[fast], *pairs, strict=True):
            torch.testing.assert_close(moved.detach(), share * old + (1 - share) * new.detach())
    assert len(parts) == {"moco": 2, "byol": 2, "dino": 2, "dinov2": 3}[name]
    frozen = [p.clone() for p in learner.slow_encoder.parameters()]
    learner.after_step(1.0)
    still = all(
        torch.equal(a, b) for a, b in zip(frozen, learner.slow_encoder.parameters(), strict=True)
    )
    assert still == (name != "moco")  # whose momentum does not rise


@pytest.mark.parametrize("name", ["dino", "dinov2"])
def test_prototypes_wait_in_the_beginning(name: str) -> None:
    learner: Any = method(name, {"frozen": 0.2})
    for progress, waits in ((0.0, True), (0.19, True), (0.2, False)):
        learner.zero_grad()
        step_of(learner, toy_views(8, name=name), progress=progress).backward()
        learner.before_step(progress)
        assert (learner.head.last_layer.weight_v.grad is None) == waits
        assert learner.head.layers[0].weight.grad is not None


@pytest.mark.parametrize("name", ["dino", "dinov2"])
def test_a_teacher_too_slow_for_so_few_steps_is_said(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    method(name, {"momentum": 0.996}, steps=1000)
    # the share of its first weights is the product of all momenta
    left = math.prod(momentum_after((s + 1) / 1000, start=0.996, steps=1000) for s in range(1000))
    said = re.search(r"keeps (\d+)% of the weights", caplog.text)
    assert said is not None
    assert float(said[1]) == pytest.approx(100 * left, abs=2)
    caplog.clear()
    method(name, {"momentum": 0.98}, steps=1000)
    assert not caplog.text


@pytest.mark.parametrize("name", ["dino", "dinov2"])
def test_the_teacher_is_kept_where_papers_say_so(name: str) -> None:
    learner: Any = method(name)
    assert learner.encoder_to_keep() is learner.slow_encoder


@pytest.mark.parametrize("name", ["moco", "simclr", "byol", "vicreg", "barlow"])
def test_the_trained_encoder_is_kept_elsewhere(name: str) -> None:
    learner = method(name)
    assert learner.encoder_to_keep() is learner.encoder


def test_the_slow_encoders_norms_see_their_own_batch() -> None:
    learner: Any = method("moco", encoder=convolutions(norm=True))
    views = toy_views(8)
    step_of(learner, views, progress=0.0)
    for encoder, view in ((learner.encoder, views[0]), (learner.slow_encoder, views[1])):
        seen = encoder[0](view).mean(dim=(0, 2, 3))
        torch.testing.assert_close(encoder[1].running_mean, 0.1 * seen.detach())


def test_dino_trains_without_small_views_and_vision_transformers_with_them() -> None:
    large = toy_views(8)
    assert math.isfinite(float(step_of(method("dino"), large, progress=0.0).detach()))
    learner = method("dino", encoder=transformer())
    step_of(learner, toy_views(8, name="dino"), progress=0.0).backward()
    assert all(p.grad is not None for p in learner.encoder.parameters())


def test_dinov2_trains_transformers_with_registers() -> None:
    learner = method("dinov2", encoder=transformer(reg_tokens=2))
    step_of(learner, toy_views(8, name="dinov2"), progress=0.0).backward()
    assert all(p.grad is not None for p in learner.encoder.parameters())


@pytest.mark.parametrize(
    "encoder",
    [
        convolutions(),
        transformer(global_pool="avg"),
        transformer(class_token=False, global_pool="avg"),
    ],
)
def test_dinov2_refuses_other_networks_and_names_some_that_fit(encoder: nn.Module) -> None:
    encoder.train()
    with pytest.raises(SettingsError, match=r"class token.* vit_small_patch16_224"):
        method("dinov2", encoder=encoder)
    assert all(module.training for module in encoder.modules())


def test_dinov2_refuses_views_of_too_few_patches() -> None:
    with pytest.raises(SettingsError, match="at least 64 px"):
        method("dinov2", encoder=transformer(patch_size=16))


def test_every_method_has_options_and_a_preset_of_its_own() -> None:
    assert set(METHODS) == set(METHOD_OPTIONS) == set(METHOD_PRESETS) > set(NAMES)
    for name, preset in METHOD_PRESETS.items():
        assert preset.method == name
        assert (preset.views.n_small > 0) == name.startswith("dino")
        assert METHOD_OPTIONS[name]() is not None


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(SettingsError, match="did you mean 'simclr'"):
        new_method(
            type(METHOD_PRESETS["moco"])(method="simcrl"), convolutions(), width=WIDTH, steps=1
        )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tau": 0.1}, r"no option 'tau'.*temperature \(0\.2\), momentum \(0\.999\)"),
        ({"temperature": 0.0}, "temperature lies from 0.001 to 10; got 0"),
        ({"momentum": 1.5}, "momentum lies from 0 to 1; got 1.5"),
        ({"hidden": 7.5}, "hidden is a whole number; got 7.5"),
        ({"temperature": float("nan")}, "temperature lies from"),
        ({"hidden": float("inf")}, "hidden is a whole number"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        options_from(MocoOptions, options, method="moco")


def test_a_queue_holds_whole_batches() -> None:
    with pytest.raises(SettingsError, match="no whole batch of 8 tiles"):
        method("moco", {"queue": 7})
    for steps, keys in ((10_000, 64), (50, 40), (46, 32), (10, 8), (1, 8)):
        bank = method("moco", {"queue": 64.0}, steps=steps).get_buffer("loss.memory_bank.bank")
        assert len(bank) == keys


@pytest.mark.parametrize("name", NAMES)
def test_whole_numbers_may_come_as_floats(name: str) -> None:
    assert method(name, {"hidden": 8.0}).state_dict()
