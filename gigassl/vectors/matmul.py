"""Matrix products on CPUs: PyTorch's faster route in float32, where it is as exact."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from jaxtyping import Float32
from torch import Tensor

# float32 products err by about 4e-7 of their norm; true bfloat16 ones by 3e-3
_MAX_ERROR = 2e-6


@contextmanager
def fast_matmul(device: torch.device | str) -> Iterator[None]:
    """Inside, float32 matrix products on a CPU take the fastest route at float32's accuracy.

    By default PyTorch hands them to MKL, which on AMD processors reaches less than half of the
    peak; the setting "medium" hands them to oneDNN. On some processors that means bfloat16, so
    the error of a product is measured first. On a GPU nothing is changed.
    """
    before = torch.get_float32_matmul_precision()
    if torch.device(device).type != "cpu" or not medium_is_exact():
        yield
        return
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@cache
def medium_is_exact() -> bool:
    """Whether a product at precision "medium" is as exact as float32, on this processor."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(512, 512, generator=generator) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        return product_error(left, right) <= _MAX_ERROR
    finally:
        torch.set_float32_matmul_precision(before)


def product_error(left: Float32[Tensor, "row inner"], right: Float32[Tensor, "inner col"]) -> float:
    """Norm of the error of a product over the norm of the product, against float64."""
    exact = left.double() @ right.double()
    return float(((left @ right).double() - exact).norm() / exact.norm())
