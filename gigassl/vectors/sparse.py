"""Sparse convolution in two dimensions: gather → matrix product → scatter over pairs of cells.

The operators are those of submanifold sparse convolution networks (Graham, Engelcke and
van der Maaten, arXiv 1711.10275), in plain PyTorch with a backward pass of their own.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from gigassl.vectors.cells import WINDOW, KernelMap

# rows that go through one product: bounds the memory of what is gathered, and stays in cache
_ROWS_AT_ONCE = 8192
# oneDNN prepares itself anew for every number of rows; multiples of this keep the numbers few
_MULTIPLE = 64


class SparseConv2d(nn.Module):
    """3 × 3 convolution over the pairs of a kernel map, submanifold or strided; no bias.

    The weight is [position, in, out]: position 3·x + y of the filter, so the transpose of
    ``conv2d``'s [out, in, row, column] where images lie as [channel, x, y].
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(len(WINDOW), dim, width))

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the weight as He et al. (arXiv 1502.01852) for ReLU, by the fan-out of a filter."""
        std = (2 / (len(WINDOW) * self.weight.shape[2])) ** 0.5
        nn.init.normal_(self.weight, std=std, generator=generator)

    def forward(
        self, rows: Float[Tensor, "cell dim"], kernel_map: KernelMap
    ) -> Float[Tensor, "out width"]:
        """Output cells of input cells."""
        weight: Tensor = self.weight
        if torch.is_autocast_enabled(rows.device.type):
            kind = torch.get_autocast_dtype(rows.device.type)
            rows, weight = rows.to(kind), weight.to(kind)
        return convolve(rows, weight, kernel_map)


def convolve(
    rows: Float[Tensor, "cell dim"],
    weight: Float[Tensor, "position dim width"],
    kernel_map: KernelMap,
) -> Float[Tensor, "out width"]:
    """Sums, for each output cell, its input cells times the filter's matrix at their position."""
    out: Tensor = _Convolution.apply(rows, weight, kernel_map)
    return out


def average(rows: Float[Tensor, "cell dim"], kernel_map: KernelMap) -> Float[Tensor, "out dim"]:
    """Average pooling as published networks do it: divided by the filter's nine positions.

    Empty positions count as zeros: an isolated cell hands on one ninth of its value.
    """
    out: Tensor = _Average.apply(rows, kernel_map)
    return out


class _Convolution(Function):
    @staticmethod
    def forward(rows: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        return _product(rows, weight, kernel_map)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, KernelMap], output: Tensor) -> None:
        del output
        rows, weight, ctx.kernel_map = inputs
        ctx.save_for_backward(rows, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        rows, weight = ctx.saved_tensors
        back = _turned(ctx.kernel_map)
        grad = grad.contiguous()
        grad_rows = grad_weight = None
        if ctx.needs_input_grad[0]:
            transposed = weight.transpose(1, 2)
            grad_rows = _product(grad, transposed, back)
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(rows, grad, ctx.kernel_map)
        return grad_rows, grad_weight, None


def _turned(kernel_map: KernelMap) -> KernelMap:
    return KernelMap(
        source=kernel_map.target,
        target=kernel_map.source,
        identity=kernel_map.identity,
        n_in=kernel_map.n_out,
        n_out=kernel_map.n_in,
    )


def _product(rows: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Gathers the source rows of each position, multiplies, and adds to the target rows."""
    own, n_out = kernel_map.identity, kernel_map.n_out
    if own is None:
        out = rows.new_zeros(n_out, weight.shape[2])
    else:
        out = _padded(rows) @ weight[own]
        out = out[:n_out] if len(out) != n_out else out
    for position, source, target in _parts(kernel_map):
        product = _gathered(rows, source) @ weight[position]
        out.index_add_(0, target, product[: len(target)])
    return out


def _weight_gradient(rows: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
    out = rows.new_empty(len(kernel_map.source), rows.shape[1], grad.shape[1])
    for position, source in enumerate(kernel_map.source):
        if position == kernel_map.identity:
            torch.mm(_padded(rows).T, _padded(grad), out=out[position])
        elif not len(source):
            out[position] = 0
    filled = set()
    for position, source, target in _parts(kernel_map):
        left, right = _gathered(rows, source).T, _gathered(grad, target)
        if position in filled:
            out[position].addmm_(left, right)
        else:  # a first product overwrites: cheaper than to write zeros and add to them
            torch.mm(left, right, out=out[position])
            filled.add(position)
    return out


def _parts(kernel_map: KernelMap) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Position, source and target of pieces of at most ``_ROWS_AT_ONCE`` pairs."""
    for position, (source, target) in enumerate(
        zip(kernel_map.source, kernel_map.target, strict=True)
    ):
        for start in range(0, len(source), _ROWS_AT_ONCE):
            end = start + _ROWS_AT_ONCE
            yield position, source[start:end], target[start:end]


def _gathered(rows: Tensor, index: Int64[Tensor, " _"]) -> Tensor:
    """Rows by index, and zeros up to a multiple of ``_MULTIPLE`` rows."""
    n_rows = len(index)
    out = rows.new_empty(_rounded_up(n_rows), rows.shape[1])
    torch.index_select(rows, 0, index, out=out[:n_rows])
    out[n_rows:] = 0
    return out


def _padded(rows: Tensor) -> Tensor:
    missing = _rounded_up(len(rows)) - len(rows)
    return nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows


def _rounded_up(n_rows: int) -> int:
    return -(-n_rows // _MULTIPLE) * _MULTIPLE


class _Average(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.kernel_map = kernel_map
        return _ninth(rows, kernel_map)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _ninth(grad.contiguous(), _turned(ctx.kernel_map)), None


def _ninth(rows: Tensor, kernel_map: KernelMap) -> Tensor:
    out = rows.new_zeros(kernel_map.n_out, rows.shape[1])
    for _, source, target in _parts(kernel_map):
        out.index_add_(0, target, rows.index_select(0, source))
    return out.div_(len(WINDOW))
