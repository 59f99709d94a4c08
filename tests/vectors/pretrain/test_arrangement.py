"""The loss of neighbours against a slow formula, and what it is for."""

import numpy as np
import pytest
import torch

from gigassl.errors import SettingsError
from gigassl.vectors.cells import Cells
from gigassl.vectors.mlp import ResidualMlp
from gigassl.vectors.pretrain.arrangement import NeighbourLoss
from gigassl.vectors.pretrain.objectives import new_objective


def test_loss_is_that_of_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    xy = np.array([[0, 0], [0, 1], [1, 1], [5, 5], [0, 0], [1, 0]])
    bag = np.array([0, 0, 0, 0, 1, 1])
    values = rng.standard_normal((6, 3))
    alike = [
        values[i] @ values[j]
        for i in range(6)
        for j in range(6)
        if i != j and bag[i] == bag[j] and np.abs(xy[i] - xy[j]).max() == 1
    ]
    apart = np.mean([(values[i] @ values[j]) ** 2 for i in range(6) for j in range(6)])
    cells = Cells(xy=torch.from_numpy(xy), bag=torch.from_numpy(bag), n_bags=2)
    found = NeighbourLoss()(torch.from_numpy(values), cells)
    assert float(found) == pytest.approx(apart - 2 * np.mean(alike), rel=1e-5)


def test_without_neighbours_features_go_to_zero() -> None:
    cells = Cells(xy=torch.tensor([[0, 0], [3, 0]]), bag=torch.tensor([0, 0]), n_bags=1)
    values = torch.ones(2, 3, requires_grad=True)
    loss = NeighbourLoss()(values, cells)
    loss.backward()
    assert float(loss.detach()) == 9.0
    assert values.grad is not None
    assert (values.grad > 0).all()


def test_a_network_without_tile_features_is_refused() -> None:
    with pytest.raises(SettingsError, match="slide encoder 'spatial'"):
        new_objective("neighbours", ResidualMlp(dim=4), width=512, temperature=0.1, seed=0)
