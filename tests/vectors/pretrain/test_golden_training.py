"""Twenty training steps of the original network and loss, from the same weights and views."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gigassl.tiles.weights import load_checkpoint
from gigassl.vectors.importing import read_published
from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.pretrain.objectives import Objective, ViewPair, new_objective
from tests.vectors.published import GOLDEN, golden_checkpoint, needs_golden

pytestmark = needs_golden
# published name → ours, for what lies behind the slide encoder and within it
PROJECTOR = {"layer1.0": "0", "layer1.2": "2", "layer2.0": "3", "layer2.2": "5", "layer3": "6"}
NAMES = {"convd": "skip", "normd": "skip_norm"}


@pytest.fixture(scope="module")
def steps() -> Any:
    return np.load(GOLDEN / "giga_ssl_scm_train.npz")


def objective_as_published(folder: Path, *, temperature: float) -> Objective:
    path = golden_checkpoint("giga_ssl_scm", folder)
    network = read_published(path).network
    objective = new_objective("simclr", network, width=512, temperature=temperature, seed=0)
    published = load_checkpoint(path).tensors
    objective.projector.load_state_dict(
        {
            name.replace(f"projector.{theirs}", ours): tensor
            for name, tensor in published.items()
            for theirs, ours in PROJECTOR.items()
            if name.startswith(f"projector.{theirs}.")
        }
    )
    return objective.train()


def view(steps: Any, which: int, step: int, *, dtype: torch.dtype) -> PackedTiles:
    features = torch.from_numpy(steps["features"][which, step])
    n_bags, n_tiles, dim = features.shape
    return PackedTiles(
        features=features.reshape(-1, dim).to(dtype),
        coords=torch.from_numpy(steps["coords_l0"][which, step]).reshape(-1, 2).to(dtype),
        bag=torch.arange(n_bags).repeat_interleave(n_tiles),
        n_bags=n_bags,
    )


def our_name(published: str) -> str:
    name = published.replace("backbone.net.mil_model.sparse_pooling.0.", "network.blocks.")
    for theirs, ours in (*NAMES.items(), *PROJECTOR.items()):
        name = name.replace(f".{theirs}.", f".{ours}.")
    return name


def trained(objective: Objective, steps: Any, *, n_steps: int, dtype: torch.dtype) -> list[float]:
    """The loss at each step; gradients of the last one stay in place."""
    objective.to(dtype)
    adam = torch.optim.Adam(objective.parameters(), lr=float(steps["lr"]))
    losses = []
    for step in range(n_steps):
        if step:
            adam.step()
        adam.zero_grad()
        pair = ViewPair(*(view(steps, which, step, dtype=dtype) for which in (0, 1)))
        loss: Tensor = objective(pair)[0]
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
    return losses


def test_first_loss_and_gradients_are_those_of_the_original(steps: Any, tmp_path: Path) -> None:
    objective = objective_as_published(tmp_path, temperature=float(steps["temperature"]))
    (loss,) = trained(objective, steps, n_steps=1, dtype=torch.float32)
    assert loss == pytest.approx(float(steps["loss"][0]), rel=1e-5)
    ours = {name: weight.grad for name, weight in objective.named_parameters()}
    assert len(steps["grad_names"]) == len(ours)
    for name, expected in zip(steps["grad_names"], steps["grad_norms"], strict=True):
        grad = ours[our_name(str(name))]
        assert grad is not None, name
        assert float(grad.norm()) == pytest.approx(float(expected), rel=1e-4), name


def test_the_loss_curve_follows_the_original(steps: Any, tmp_path: Path) -> None:
    """Float noise grows from step to step; the last ones differ by per cents for that alone.

    Our own curve in float64 says how much: the original's may lie no further off than a few
    times what float32 does to ours.
    """
    curves = {}
    for dtype in (torch.float32, torch.float64):
        objective = objective_as_published(tmp_path, temperature=float(steps["temperature"]))
        curves[dtype] = np.array(trained(objective, steps, n_steps=20, dtype=dtype))
    expected = steps["loss"]
    for curve in curves.values():
        assert np.abs(curve / expected - 1)[:5].max() < 2e-3
        assert np.abs(curve / expected - 1)[:10].max() < 2e-2
        assert abs(curve.mean() / expected.mean() - 1) < 0.03
    noise = np.abs(curves[torch.float32] - curves[torch.float64]).max()
    assert np.abs(curves[torch.float64] - expected).max() < 4 * noise
