"""The CNN on compressed slides: its maps, its layers against the published ones, its learning."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gigassl.errors import SettingsError
from gigassl.evaluate.mil.grid_cnn import (
    CROPS,
    GridCnn,
    SeparableLayer,
    crop_for,
    map_sizes,
    n_strided,
)
from gigassl.evaluate.mil.models import new_model
from gigassl.evaluate.mil.packed import PackedBags
from tests.evaluate.mil.bags import SEEDS, packed, random_bags, some_task
from tests.evaluate.mil.grids import crop_reader, grid_store

CROP = 17


def model_of(*, dim: int = 5, classes: int = 2, crop: int = CROP, seed: int = 0) -> GridCnn:
    model = new_model(
        "nic-cnn", some_task(classes=classes), dim=dim, seed=seed,
        options={"crop": crop, "width": 6, "hidden": 4},
    ).eval()  # fmt: skip
    assert isinstance(model, GridCnn)
    return model


def some_crops(n: int = 4, *, seed: int = 0) -> PackedBags:
    reader = crop_reader(grid_store(some_task(n), shape=(15, 15), seed=seed))
    return reader.batch(range(n), generator=torch.Generator().manual_seed(seed))


def strange(model: nn.Module, seed: int) -> None:
    """Norms as after some training."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            for each in (module.weight, module.bias, module.running_mean, module.running_var):
                assert each is not None
                each.data.uniform_(0.5, 1.5, generator=generator)


def slow_scores(model: GridCnn, image: np.ndarray) -> np.ndarray:
    """The published network on one crop [dim, row, col], sum by sum."""

    def norm(x: np.ndarray, layer: nn.BatchNorm2d | nn.BatchNorm1d) -> np.ndarray:
        weight, bias, mean, var = (
            each.detach().double().numpy()  # type: ignore[union-attr]
            for each in (layer.weight, layer.bias, layer.running_mean, layer.running_var)
        )
        shape = (-1,) + (1,) * (x.ndim - 1)
        each = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + 1e-3)
        return np.asarray(each * weight.reshape(shape) + bias.reshape(shape))

    def leaky(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, 0.2 * x)

    maps = image.astype(np.float64)
    for number, layer in enumerate(model.layers):
        stride = 2 if number < n_strided(model.crop) else 1
        assert isinstance(layer, SeparableLayer)
        depth = layer.depth.weight.detach().double().numpy()[:, 0]
        point = layer.point.weight.detach().double().numpy()[:, :, 0, 0]
        side = (maps.shape[1] - 3) // stride + 1
        filtered = np.zeros((len(maps), side, side))
        for row in range(side):
            for col in range(side):
                window = maps[:, row * stride : row * stride + 3, col * stride : col * stride + 3]
                filtered[:, row, col] = (window * depth).sum(axis=(1, 2))
        mixed = np.einsum("oi,irc->orc", point, filtered)
        maps = leaky(norm(mixed, layer.norm))
    hidden = model.dense.weight.detach().double().numpy() @ maps.mean(axis=(1, 2))
    hidden = leaky(norm(hidden, model.norm))
    head = model.head
    return np.asarray(
        head.weight.detach().double().numpy() @ hidden + head.bias.detach().double().numpy()
    )


@given(seed=SEEDS, crop=st.sampled_from([17, 20, 32]), classes=st.sampled_from([2, 3]))
@settings(max_examples=8)
def test_what_it_says_is_the_published_network(seed: int, crop: int, classes: int) -> None:
    model = model_of(classes=classes, crop=crop, seed=seed)
    strange(model, seed)
    bags = some_crops(seed=seed)  # crops of 17, which lie in the corner of wider images
    found = model(bags).scores.detach().numpy()
    images = model.image(bags).numpy()
    expected = np.stack([slow_scores(model, image) for image in images])
    assert found.shape == (4, 1 if classes == 2 else 3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_published_crop_ends_as_one_cell_and_has_the_published_number_of_weights() -> None:
    assert map_sizes(400, strided=6) == (400, 199, 99, 49, 24, 11, 5, 3, 1)
    model = GridCnn(dim=128, outputs=1, crop=400)
    strides = [m.stride[0] for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert strides == [2] * 6 + [1] * 2
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(160_000, rel=0.01)


@given(crop=st.integers(17, 700))
@settings(max_examples=30)
def test_maps_have_the_sizes_that_pytorch_gives_them(crop: int) -> None:
    sizes = map_sizes(crop, strided=n_strided(crop))
    maps = torch.zeros(1, 1, crop, crop)
    for number, size in enumerate(sizes[1:]):
        stride = 2 if number < n_strided(crop) else 1
        maps = nn.functional.conv2d(maps, torch.zeros(1, 1, 3, 3), stride=stride)
        assert maps.shape[2:] == (size, size)
    assert sizes[-1] >= 1
    more = n_strided(crop) + 1
    assert more == 7 or map_sizes(crop, strided=more)[-1] < 1


@given(extent=st.integers(1, 1000))
def test_crops_hold_the_largest_slide_up_to_400_and_end_as_one_cell(extent: int) -> None:
    side = crop_for(extent)
    assert side in CROPS
    assert side >= min(extent, 400)
    assert map_sizes(side, strided=n_strided(side))[-1] == 1
    smaller = [each for each in CROPS if each < side]
    assert not smaller or smaller[-1] < extent


def test_every_weight_gets_a_gradient_and_dropout_drops_whole_channels() -> None:
    model = model_of(classes=3).train()
    model(some_crops(8)).scores.square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    maps = model.layers[0](torch.randn(4, 5, CROP, CROP))
    dropped = (maps == 0).all(dim=(2, 3))
    assert dropped.any()
    assert not (maps[~dropped] == 0).all(dim=1).any()


def test_a_crop_alone_or_in_a_batch_gets_the_same_and_tiles_of_others_do_not_matter() -> None:
    reader = crop_reader(grid_store(some_task(5)))
    crops = [next(iter(reader.test_crops(slide))) for slide in range(5)]
    model = model_of()
    strange(model, 1)
    together = model(reader.packed(crops)).scores
    for number in (0, 3):
        alone = model(reader.packed([crops[number]])).scores[0]
        torch.testing.assert_close(alone, together[number], rtol=1e-4, atol=1e-5)


def test_it_sees_where_tiles_lie() -> None:
    bags = some_crops()
    assert bags.cells is not None
    moved = bags.cells.flip(1)
    model = model_of()
    strange(model, 1)
    before = model(bags).scores
    bags = PackedBags(features=bags.features, bag=bags.bag, sizes=bags.sizes, cells=moved)
    assert (model(bags).scores - before).abs().max() > 1e-3


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights(seed: int) -> Tensor:
        return torch.cat([p.flatten() for p in model_of(seed=seed).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert (weights(1) != weights(2)).float().mean() > 0.5


def test_half_precision_stays_near_full_precision() -> None:
    model, bags = model_of(), some_crops()
    exact = model(bags).scores
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(bags).scores.float()
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05)


def test_crops_too_small_and_bags_without_cells_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"at least 17 cells wide.*got 16"):
        model_of(crop=16)
    with pytest.raises(SettingsError, match=r"MIL model 'nic-cnn'.*wide"):
        new_model("nic-cnn", some_task(), dim=4, seed=0, options={"crop": 17, "wide": 3})
    with pytest.raises(ValueError, match="use CropReader"):
        model_of(dim=6)(packed(random_bags([4], 0)))
