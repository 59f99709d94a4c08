"""Grad-CAM of the slide CNN: against crops one by one, and heat only where something lies."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from gigassl.bags.bag import Bag
from gigassl.evaluate.explain.grad_cam import at_cells, explain_crops, grad_cam
from gigassl.evaluate.explain.mil import asked_of
from gigassl.evaluate.mil.bags import BagReader
from gigassl.evaluate.mil.crops import CropReader
from gigassl.evaluate.mil.grid_cnn import GridCnn
from gigassl.vectors.slide_encoders import initialise
from gigassl.vectors.tile_store import store_of_bags
from tests.vectors.stores import grid_bag

DIM = 3


def cnn(*, crop: int = 17, outputs: int = 1) -> GridCnn:
    model = GridCnn(dim=DIM, outputs=outputs, crop=crop, width=8, hidden=8)
    initialise(model, seed=3)
    return model.eval()


def reader_of(bag: Bag, *, side: int, n_crops: int) -> CropReader:
    store = store_of_bags([bag], patient_ids=["p"], on_grid=True)
    bags = BagReader(store=store, device=torch.device("cpu"))
    return CropReader(bags=bags, side=side, n_crops=n_crops)


def test_heat_against_loops() -> None:
    rng = np.random.default_rng(0)
    maps, gradients = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 3, 4, 5))
    found = grad_cam(torch.from_numpy(maps), torch.from_numpy(gradients))
    for crop, row, col in product(range(2), range(4), range(5)):
        heat = sum(gradients[crop, k].sum() / 20 * maps[crop, k, row, col] for k in range(3))
        assert float(found[crop, row, col]) == pytest.approx(max(0.0, heat))


@given(side=st.integers(3, 20), stride=st.integers(1, 2), seed=st.integers(0, 99))
def test_heat_lies_under_the_cells_that_it_comes_from(side: int, stride: int, seed: int) -> None:
    size = (side - 3) // stride + 1
    heat = np.random.default_rng(seed).random((size, size))
    cells = np.array(list(product(range(side), range(side))))
    slow = map_coordinates(heat, (cells.T - 1) / stride, order=1, mode="nearest")
    found = at_cells(torch.from_numpy(heat), torch.from_numpy(cells), stride=stride)
    np.testing.assert_allclose(found, slow, atol=1e-12)


@pytest.mark.parametrize(("crop", "n_crops"), [(17, 3), (32, 1)])
def test_a_slide_has_the_mean_heat_of_its_crops(crop: int, n_crops: int) -> None:
    bag, model = grid_bag("s", cols=23, rows=19, dim=DIM), cnn(crop=crop)
    reader = reader_of(bag, side=crop, n_crops=n_crops)
    found = explain_crops(model, reader, asked=asked_of(("no", "yes"), 0))
    total, count, said = np.zeros(len(bag)), np.zeros(len(bag)), []
    for each in reader.test_crops(0):  # one at a time, and dense images by hand
        image = torch.zeros(1, DIM, crop, crop)
        for tile, (row, col) in zip(each.rows.tolist(), each.cells.tolist(), strict=True):
            image[0, :, row, col] = torch.from_numpy(bag.features[tile].astype(np.float32))
        maps = model.layers[0](image).detach().requires_grad_()
        score = -model.scores(model.layers[1:](maps))[0, 0]
        (gradient,) = torch.autograd.grad(score, maps)
        said.append(score.item())
        heat = grad_cam(maps.detach(), gradient)[0].numpy()
        stride = 1 if crop == 17 else 2
        place = (each.cells.numpy().T - 1) / stride
        total[each.rows] += map_coordinates(heat, place, order=1, mode="nearest")
        count[each.rows] += 1
    assert found.output == pytest.approx(np.mean(said), abs=1e-5)
    mean = total[count > 0] / count[count > 0]
    np.testing.assert_allclose(found.score[count > 0], mean / mean.max(), atol=1e-4)
    assert np.isnan(found.score[count == 0]).all()
    assert (found.meaning, np.nanmax(found.score)) == ("grad-cam", 1.0)


def test_there_is_no_heat_where_nothing_lies() -> None:
    full = grid_bag("s", cols=17, rows=17, dim=DIM)
    features = np.zeros_like(full.features)
    features[8 * 17 + 4] = 9.0
    bag = Bag(features=features, coords=full.coords, info=full.info)
    reader = reader_of(bag, side=17, n_crops=1)
    for number in (0, 1):
        found = explain_crops(cnn(), reader, asked=asked_of(("no", "yes"), number))
        rows, cols = np.divmod(np.flatnonzero(found.score > 0), 17)
        assert (np.abs(rows - 8) <= 2).all()
        assert (np.abs(cols - 4) <= 2).all()


def test_of_several_classes_each_has_its_own_heat() -> None:
    reader = reader_of(grid_bag("s", cols=17, rows=17, dim=DIM), side=17, n_crops=1)
    model = cnn(outputs=3)
    heats = [explain_crops(model, reader, asked=asked_of("abc", k)).score for k in range(3)]
    assert not np.allclose(heats[0], heats[1])
