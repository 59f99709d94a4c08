"""The faster route of matrix products: as exact as float32, and only inside."""

import pytest
import torch

from gigassl.vectors import matmul
from gigassl.vectors.matmul import fast_matmul, medium_is_exact, product_error


def operands() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(300, 256, generator=generator), torch.randn(256, 512, generator=generator)


def test_products_inside_are_exact_and_the_setting_is_put_back() -> None:
    before = torch.get_float32_matmul_precision()
    with fast_matmul("cpu"):
        assert product_error(*operands()) < 2e-6
        expected = "medium" if medium_is_exact() else before
        assert torch.get_float32_matmul_precision() == expected
    assert torch.get_float32_matmul_precision() == before


def test_a_processor_that_would_round_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "_MAX_ERROR", 0.0)
    medium_is_exact.cache_clear()
    before = torch.get_float32_matmul_precision()
    with fast_matmul("cpu"):
        assert torch.get_float32_matmul_precision() == before
    medium_is_exact.cache_clear()


def test_rounded_products_would_be_noticed() -> None:
    left, right = operands()
    exact = left.double() @ right.double()
    rough = (left.bfloat16() @ right.bfloat16()).double()
    assert float((rough - exact).norm() / exact.norm()) > 2e-6 > product_error(left, right)
