"""Each method's loss beside a slow version of its paper's formula, term by term."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gigassl.tiles.pretrain.method import Method
from tests.tiles.pretrain.methods.cases import (
    PATCH,
    SIDE,
    convolutions,
    method,
    step_of,
    toy_views,
)

N = 6


def arrays(learner: nn.Module, views: list[Tensor], *through: str) -> list[np.ndarray]:
    """The views passed through named parts of a method, in float64."""
    found = []
    passed = nn.Sequential(*(learner.get_submodule(name) for name in through))
    for view in views:
        with torch.no_grad():
            found.append(passed(view).double().numpy())
    return found


def units(rows: np.ndarray) -> np.ndarray:
    return np.stack([row / math.sqrt(float(row @ row)) for row in rows])


def loss_of(learner: Method, views: list[Tensor], *, progress: float = 0.0) -> float:
    return float(step_of(learner, views, progress=progress).detach())


def softmax(row: np.ndarray) -> np.ndarray:
    raised = [math.exp(x - max(row)) for x in row]
    return np.array(raised) / sum(raised)


def cross_entropy(wanted: np.ndarray, said: np.ndarray) -> float:
    return -math.fsum(p * math.log(q) for p, q in zip(wanted, softmax(said), strict=True))


def test_moco_tells_each_key_from_the_queue() -> None:
    learner, views = method("moco", {"queue": 3 * N + 1}, batch_size=N, steps=100), toy_views(N)
    bank: Any = learner.get_submodule("loss.memory_bank")
    for step in range(4):  # in which the queue is filled once and begun again
        queue = bank.bank.double().numpy().copy()
        assert queue.shape == (3 * N, 16)
        (asked,) = arrays(learner, views[:1], "encoder", "projector")
        (keys,) = arrays(learner, views[1:2], "slow_encoder", "slow_projector")
        asked, keys = units(asked), units(keys)
        total = 0.0
        for i in range(N):
            logits = [float(asked[i] @ keys[i]) / 0.2]
            logits += [float(asked[i] @ negative) / 0.2 for negative in queue]
            total -= math.log(softmax(np.array(logits))[0])
        assert loss_of(learner, views) == pytest.approx(total / N, rel=1e-5)
        first = step % 3 * N
        np.testing.assert_allclose(bank.bank[first : first + N].numpy(), keys, atol=1e-6)


def test_mocos_norms_see_one_group_and_keys_are_grouped_anew() -> None:
    learner = method("moco", {"group": 4}, batch_size=12, encoder=convolutions(norm=True))
    views, bank = toy_views(12), learner.get_buffer("loss.memory_bank.bank").double().numpy()
    dealt = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()
    asked, keys = np.zeros((12, 16)), np.zeros((12, 16))
    for first in range(0, 12, 4):
        mine, theirs = list(range(first, first + 4)), dealt[first : first + 4]
        assert mine != sorted(theirs)
        (asked[mine],) = arrays(learner, [views[0][mine]], "encoder", "projector")
        (keys[theirs],) = arrays(learner, [views[1][theirs]], "slow_encoder", "slow_projector")
    asked, keys = units(asked), units(keys)
    total = 0.0
    for i in range(12):
        logits = np.array([asked[i] @ keys[i], *(bank @ asked[i])]) / 0.2
        total -= math.log(softmax(logits)[0])
    assert loss_of(learner, views) == pytest.approx(total / 12, rel=1e-5)


def test_simclr_is_equation_1_of_its_paper() -> None:
    learner, views = method("simclr", {"temperature": 0.3}), toy_views(N)
    # one batch of both views, so that norms see both
    (both,) = arrays(learner, [torch.cat(views)], "encoder", "projector")
    z, total = units(both), 0.0
    for i in range(2 * N):
        j = (i + N) % (2 * N)
        others = sum(math.exp(float(z[i] @ z[k]) / 0.3) for k in range(2 * N) if k != i)
        total -= math.log(math.exp(float(z[i] @ z[j]) / 0.3) / others)
    assert loss_of(learner, views) == pytest.approx(total / (2 * N), rel=1e-5)


def test_byol_is_the_squared_distance_of_unit_vectors_both_ways() -> None:
    learner, views = method("byol"), toy_views(N)
    predicted = [units(q) for q in arrays(learner, views, "encoder", "projector", "predictor")]
    slow = [units(z) for z in arrays(learner, views, "slow_encoder", "slow_projector")]
    total = 0.0
    for q, z in ((predicted[0], slow[1]), (predicted[1], slow[0])):
        total += sum(float((q[i] - z[i]) @ (q[i] - z[i])) for i in range(N)) / N
    assert loss_of(learner, views) == pytest.approx(total, rel=1e-5)


def test_vicreg_is_the_sum_of_its_three_terms() -> None:
    learner = method("vicreg", {"invariance": 10, "variance": 20, "covariance": 3})
    views = toy_views(N)
    a, b = arrays(learner, views, "encoder", "projector")
    dim = a.shape[1]
    invariance = sum(float((a[i] - b[i]) @ (a[i] - b[i])) for i in range(N)) / N / dim
    variance = covariance = 0.0
    for z in (a, b):
        centred = z - z.mean(axis=0)
        for j in range(dim):
            spread = math.sqrt(float(centred[:, j] @ centred[:, j]) / (N - 1) + 1e-4)
            variance += max(0.0, 1.0 - spread) / dim / 2
            for k in range(dim):
                if j != k:
                    covariance += (float(centred[:, j] @ centred[:, k]) / (N - 1)) ** 2 / dim
    expected = 10 * invariance + 20 * variance + 3 * covariance
    assert loss_of(learner, views) == pytest.approx(expected, rel=1e-4)


def test_barlow_twins_wants_the_identity_as_cross_correlation() -> None:
    learner, views = method("barlow", {"redundancy": 0.02}), toy_views(N)
    a, b = arrays(learner, views, "encoder", "projector")
    total = 0.0
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            x = (a[:, i] - a[:, i].mean()) / math.sqrt(float(a[:, i].var()) + 1e-5)
            y = (b[:, j] - b[:, j].mean()) / math.sqrt(float(b[:, j].var()) + 1e-5)
            c = float((x * y).mean())
            total += (1 - c) ** 2 if i == j else 0.02 * c**2
    assert loss_of(learner, views) == pytest.approx(0.024 * total, rel=1e-4)


def of_classes(
    taught: list[np.ndarray], said: list[np.ndarray], *, centre: np.ndarray, temperature: float
) -> float:
    """DINO: every pair of a teacher's view and a student's other one."""
    terms = []
    for t, teacher in enumerate(taught):
        for s, student in enumerate(said):
            if t != s:
                terms += [
                    cross_entropy(softmax((teacher[i] - centre) / temperature), student[i] / 0.1)
                    for i in range(len(teacher))
                ]
    return sum(terms) / len(terms)


def test_dino_is_a_cross_entropy_with_a_sharp_centred_teacher() -> None:
    learner, views = method("dino"), toy_views(N, name="dino")
    assert len(views) == 4
    loss: Any = learner.get_submodule("loss")
    centre = np.zeros(40)
    for progress, temperature in ((0.0, 0.04), (0.15, 0.055), (0.3, 0.07), (0.9, 0.07)):
        taught = arrays(learner, views[:2], "slow_encoder", "slow_head")
        said = arrays(learner, views, "encoder", "head")
        expected = of_classes(taught, said, centre=centre, temperature=temperature)
        assert loss_of(learner, views, progress=progress) == pytest.approx(expected, rel=1e-5)
        centre = 0.9 * centre + 0.1 * np.concatenate(taught).mean(axis=0)
        np.testing.assert_allclose(loss.center.flatten().numpy(), centre, atol=1e-6)


def tokens_of(vit: Any, images: Tensor, *, masks: Tensor, mask_token: Tensor) -> Tensor:
    """The tokens of a vision transformer with hidden patches: timm's own parts, one by one."""
    patches = vit.patch_embed(images).flatten(1, 2)
    for i in range(len(patches)):
        for j in range(patches.shape[1]):
            if masks[i].flatten()[j]:
                patches[i, j] = mask_token
    tokens = torch.cat([vit.cls_token.expand(len(patches), -1, -1), patches], dim=1)
    found: Tensor = vit.norm(vit.blocks(tokens + vit.pos_embed))
    return found


def spread_of(classes: np.ndarray) -> float:
    """KoLeo: minus the mean logarithm of the distance to the nearest neighbour."""
    z = units(classes)
    nearest = [min(math.dist(z[i], z[j]) for j in range(len(z)) if j != i) for i in range(len(z))]
    return -sum(math.log(d) for d in nearest) / len(z)


def dinov2_terms(learner: Any, views: list[Tensor], masks: Tensor) -> dict[str, float]:
    large = torch.cat(views[:2])
    with torch.no_grad():
        none = torch.zeros_like(masks)
        taught = tokens_of(learner.slow_encoder, large, masks=none, mask_token=torch.zeros(1))
        learned = tokens_of(learner.encoder, large, masks=masks, mask_token=learner.mask_token[0])
        small = learner.encoder(torch.cat(views[2:]))
        said = learner.head(torch.cat([learned[:, 0], small])).double().numpy()
        wanted = learner.slow_head(taught[:, 0]).double().numpy()
        patches = learner.patch_head(learned[:, 1:]).double().numpy()
        patches_wanted = learner.slow_patch_head(taught[:, 1:]).double().numpy()
    of_patches = 0.0
    for i in range(2 * N):
        hidden = [j for j in range(patches.shape[1]) if masks[i].flatten()[j]]
        of_patches += sum(
            cross_entropy(softmax(patches_wanted[i, j] / 0.04), patches[i, j] / 0.1) / len(hidden)
            for j in hidden
        )
    classes = learned[:, 0].double().numpy()
    return {
        "classes": of_classes(
            np.split(wanted, 2), np.split(said, 4), centre=np.zeros(40), temperature=0.04
        ),
        "patches": of_patches / (2 * N),
        "spread": spread_of(classes[:N]) + spread_of(classes[N:]),
    }


def test_dinov2_adds_up_dino_ibot_and_koleo() -> None:
    learner: Any = method("dinov2", {"patch_weight": 0.7, "spread_weight": 0.3})
    with torch.no_grad():
        learner.mask_token.normal_(generator=torch.Generator().manual_seed(5))
    views = toy_views(N, name="dinov2")
    masks = learner._masks(torch.cat(views[:2]), generator=torch.Generator().manual_seed(0))
    assert masks.shape == (2 * N, SIDE // PATCH, SIDE // PATCH)
    assert int(masks.any(dim=2).any(dim=1).sum()) == N  # half of the views
    terms = dinov2_terms(learner, views, masks)
    expected = terms["classes"] + 0.7 * terms["patches"] + 0.3 * terms["spread"]
    assert loss_of(learner, views) == pytest.approx(expected, rel=1e-4)


def test_the_centre_of_patches_is_the_mean_of_hidden_ones() -> None:
    learner: Any = method("dinov2")
    views = toy_views(N, name="dinov2")
    masks = learner._masks(torch.cat(views[:2]), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        none = torch.zeros_like(masks)
        taught = tokens_of(
            learner.slow_encoder, torch.cat(views[:2]), masks=none, mask_token=torch.zeros(1)
        )
        answers = learner.slow_patch_head(taught[:, 1:])[masks.flatten(1)]
    loss_of(learner, views)
    torch.testing.assert_close(
        learner.patch_loss.center.value, 0.1 * answers.mean(dim=0, keepdim=True)
    )


def test_where_nothing_is_hidden_the_patches_say_nothing() -> None:
    learner: Any = method("dinov2", {"masked_views": 0})
    views = toy_views(N, name="dinov2")
    loss = step_of(learner, views, progress=0.0)
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert not learner.patch_loss.center.value.any()
    assert not learner.patch_head.layers[0].weight.grad.any()


@pytest.mark.parametrize(
    ("name", "part"),
    [("moco", "slow_projector"), ("byol", "slow_projector"), ("dino", "slow_head")],
)
def test_no_gradient_passes_what_is_foretold(name: str, part: str) -> None:
    learner = method(name)
    step_of(learner, toy_views(8, name=name), progress=0.0).backward()
    slow: Callable[[], Any] = learner.get_submodule(part).parameters
    assert all(p.grad is None and not p.requires_grad for p in slow())
    assert all(p.grad is None for p in learner.get_submodule("slow_encoder").parameters())
    assert all(p.grad is not None for p in learner.encoder.parameters())
