"""Sparse convolution against dense convolution with masks, and its gradients against numbers."""

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.nn import functional

from gigassl.vectors import sparse
from gigassl.vectors.cells import Cells, KernelMap, cells_of_tiles, neighbours, strided
from gigassl.vectors.sparse import SparseConv2d, average, convolve
from tests.vectors.packing import COUNTS, SEEDS, packed

SIDE = 12


def some(counts: list[int], seed: int, dim: int = 6) -> tuple[Tensor, Cells]:
    """Float64 rows on cells of random bags."""
    cells, _ = cells_of_tiles(packed(counts, seed=seed, side=SIDE), cell=10.0, rounding="nearest")
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(cells), dim, generator=generator, dtype=torch.float64), cells


def filters(dim: int, width: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(9, dim, width, generator=generator, dtype=torch.float64)


def dense(rows: Tensor, cells: Cells, *, side: int) -> Tensor:
    """[bag, dim, x, y] with zeros where no cell is active."""
    image = rows.new_zeros(cells.n_bags, side, side, rows.shape[1])
    image = image.index_put((cells.bag, cells.xy[:, 0], cells.xy[:, 1]), rows)
    return image.permute(0, 3, 1, 2)


def picked(image: Tensor, cells: Cells) -> Tensor:
    return image.permute(0, 2, 3, 1)[cells.bag, cells.xy[:, 0], cells.xy[:, 1]]


def as_conv2d(weight: Tensor) -> Tensor:
    """[9, in, out] → [out, in, x, y]."""
    return weight.reshape(3, 3, *weight.shape[1:]).permute(3, 2, 0, 1)


def both(
    rows: Tensor, cells: Cells, weight: Tensor, *, stride: int
) -> tuple[Tensor, Tensor, KernelMap]:
    """Output of the sparse and of the dense convolution on the same active cells."""
    if stride == 1:
        out_cells, kernel_map = cells, neighbours(cells)
        image = functional.conv2d(dense(rows, cells, side=SIDE), as_conv2d(weight), padding=1)
    else:
        out_cells, kernel_map = strided(cells)
        image = functional.conv2d(
            dense(rows, cells, side=2 * SIDE + 3), as_conv2d(weight), stride=2
        )
    return convolve(rows, weight, kernel_map), picked(image, out_cells), kernel_map


@pytest.mark.parametrize("stride", [1, 2])
@given(counts=COUNTS, seed=SEEDS)
@settings(max_examples=25)
def test_agrees_with_a_dense_convolution(stride: int, counts: list[int], seed: int) -> None:
    rows, cells = some(counts, seed)
    weight = filters(6, 5)
    for tensor in (rows, weight):
        tensor.requires_grad_()
    found, expected, _ = both(rows, cells, weight, stride=stride)
    torch.testing.assert_close(found, expected)
    grad = torch.randn(found.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad(found, (rows, weight), grad),
        torch.autograd.grad(expected, (rows, weight), grad),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_are_right(stride: int) -> None:
    rows, cells = some([5, 1, 9], seed=3, dim=3)
    kernel_map = neighbours(cells) if stride == 1 else strided(cells)[1]
    weight = filters(3, 2)
    inputs = (rows.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradcheck(lambda r, w: convolve(r, w, kernel_map), inputs)
    assert torch.autograd.gradcheck(lambda r: average(r, kernel_map), inputs[:1])


def test_pieces_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, cells = some([60, 60], seed=4)
    weight = filters(6, 5).requires_grad_()
    kernel_map = neighbours(cells)
    results = []
    for at_once in (8192, 7):
        monkeypatch.setattr(sparse, "_ROWS_AT_ONCE", at_once)
        out = convolve(rows, weight, kernel_map)
        results.append((out, torch.autograd.grad(out.square().sum(), weight)[0]))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


@given(counts=COUNTS, seed=SEEDS)
@settings(max_examples=25)
def test_average_divides_by_the_filters_volume(counts: list[int], seed: int) -> None:
    rows, cells = some(counts, seed)
    out, kernel_map = strided(cells)
    # conv2d's own pooling counts empty cells as zeros, so divides by nine too
    image = functional.avg_pool2d(dense(rows, cells, side=2 * SIDE + 3), 3, stride=2)
    torch.testing.assert_close(average(rows, kernel_map), picked(image, out))


def test_a_lone_tile_hands_on_a_ninth() -> None:
    cells = Cells(xy=torch.tensor([[5, 5]]), bag=torch.zeros(1, dtype=torch.int64), n_bags=1)
    _, kernel_map = strided(cells)
    assert average(torch.tensor([[18.0]]), kernel_map).tolist() == [[2.0]]


def test_autocast_computes_in_the_lower_precision() -> None:
    rows, cells = some([30], seed=5)
    layer = SparseConv2d(6, 5)
    layer.initialise(torch.Generator().manual_seed(0))
    kernel_map = neighbours(cells)
    exact = layer(rows.float(), kernel_map)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = layer(rows.float(), kernel_map)
    assert (exact.dtype, rough.dtype) == (torch.float32, torch.bfloat16)
    error = float(((rough.float() - exact).norm() / exact.norm()).detach())
    assert 0 < error < 2e-2
    rough.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_a_layers_weights_come_from_the_generator_alone() -> None:
    drawn = []
    for seed in (0, 0, 1):
        layer = SparseConv2d(8, 16)
        layer.initialise(torch.Generator().manual_seed(seed))
        drawn.append(layer.weight.detach())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert abs(float(drawn[0].std()) / (2 / (9 * 16)) ** 0.5 - 1) < 0.1
