"""Batch norm of a batch that several processes share."""

from typing import Any, cast

import torch
from lightly.utils.dist import gather
from torch import Tensor, nn


class SyncedNorm(nn.BatchNorm1d):
    """Batch norm of the whole batch; stands in for PyTorch's SyncBatchNorm, which needs CUDA."""

    def forward(self, input: Tensor) -> Tensor:
        every = torch.cat(cast(Any, gather)(input), dim=0)
        variance = every.var(dim=0, unbiased=False)
        scaled = (input - every.mean(dim=0)) / torch.sqrt(variance + self.eps)
        return scaled * self.weight + self.bias if self.affine else scaled


def synchronise(module: nn.Module) -> None:
    """Makes every batch norm one of the whole batch."""
    for each in module.modules():
        if isinstance(each, nn.BatchNorm1d):
            each.__class__ = SyncedNorm
