"""Optimisers by name, and the learning rate of each step."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gigassl.errors import unknown_name


class Lars(Optimizer):
    """Momentum SGD whose step in each layer is scaled to the size of the layer's weights.

    Large batch training of convolutional networks, arXiv 1708.03888, as SimCLR and BYOL use it:
    groups with ``adapt=False`` (biases and norms) take plain momentum steps.
    """

    def __init__(
        self, parameters: Iterable[Any], *, lr: float, momentum: float = 0.9,
        weight_decay: float = 0.0, trust: float = 0.001,
    ) -> None:  # fmt: skip
        settings = {
            "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust,
            "adapt": True,
        }  # fmt: skip
        super().__init__(parameters, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Takes one step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_one(parameter, parameter.grad, group=group)

    def _step_one(self, parameter: Tensor, gradient: Tensor, *, group: Mapping[str, Any]) -> None:
        change = gradient.add(parameter, alpha=group["weight_decay"])
        if group["adapt"]:
            size, length = parameter.norm(), change.norm()
            scale = torch.where(
                (size > 0) & (length > 0), group["trust"] * size / length, torch.ones_like(size)
            )
            change.mul_(scale)
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        moved = state["momentum_buffer"].mul_(group["momentum"]).add_(change)
        parameter.sub_(moved, alpha=group["lr"])


OPTIMISERS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": lambda groups, **options: torch.optim.Adam(groups, fused=True, **options),
    "adamw": lambda groups, **options: torch.optim.AdamW(groups, fused=True, **options),
    "lars": Lars,
    "sgd": lambda groups, **options: torch.optim.SGD(groups, momentum=0.9, **options),
}
"""Name → maker of (parameter groups, ``lr``, ``weight_decay``)."""


def new_optimiser(name: str, module: nn.Module, *, lr: float, weight_decay: float) -> Optimizer:
    """An optimiser of all parameters of a module that take a gradient.

    Biases and the parameters of norms are not decayed, nor scaled by LARS.

    Raises:
        SettingsError: unknown name.
    """
    if name not in OPTIMISERS:
        raise unknown_name("optimiser", name, known=OPTIMISERS)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    flat: dict[str, Any] = {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0}
    if name == "lars":
        flat["adapt"] = False
    groups = [{"params": [p for p in trained if p.ndim >= 2]}, flat]
    return OPTIMISERS[name](groups, lr=lr, weight_decay=weight_decay)


def learning_rate(step: int, *, peak: float, warmup_steps: int, steps: int) -> float:
    """The rate of one step: rises linearly to the peak, then falls to 0 as half a cosine.

    >>> [round(learning_rate(s, peak=1.0, warmup_steps=2, steps=6), 3) for s in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
