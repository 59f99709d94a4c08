"""What runs a training: one device or several, on one machine or several."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor

from gigassl.errors import SettingsError

_Value = TypeVar("_Value")

_PRECISION: dict[Literal["fp32", "bf16"], Literal["32-true", "bf16-mixed"]] = {
    "fp32": "32-true", "bf16": "bf16-mixed"
}  # fmt: skip


def fabric_of(
    precision: Literal["fp32", "bf16"], *, device: str, devices: int, nodes: int = 1
) -> Fabric:
    """Lightning's Fabric, which finds SLURM and torchrun by itself.

    Args:
        precision: of the network's arithmetic; weights stay fp32.
        device: "auto", "cpu" or "cuda".
        devices: how many of each machine; they share each batch.
        nodes: machines.

    Raises:
        SettingsError: devices that are not there.
    """
    if device == "cuda" and torch.cuda.device_count() < devices:
        raise SettingsError(
            f"{devices} CUDA devices asked for, {torch.cuda.device_count()} found; "
            "choose fewer, or the device cpu"
        )
    try:
        return Fabric(
            accelerator=device, devices=devices, num_nodes=nodes, precision=_PRECISION[precision]
        )
    except (RuntimeError, ValueError) as error:
        raise SettingsError(f"cannot train on {devices} × {device}: {error}") from error


@contextmanager
def fast_convolutions() -> Iterator[None]:
    """Inside, cuDNN tries its ways to convolve and takes the fastest: sides are always the same."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def over_devices(fabric: Fabric, values: Tensor) -> Tensor:
    """What all devices have of this, one after the other along the first axis."""
    if fabric.world_size == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def mean_over_devices(fabric: Fabric, values: Tensor) -> Tensor:
    """The mean of what all devices have."""
    reduced: Tensor = fabric.all_reduce(values, reduce_op="mean")  # type: ignore[assignment]
    return reduced


def merged_over_devices(fabric: Fabric, found: Mapping[str, _Value]) -> dict[str, _Value]:
    """What any device has found."""
    if fabric.world_size == 1:
        return dict(found)
    parts: list[dict[str, _Value]] = [{} for _ in range(fabric.world_size)]
    torch.distributed.all_gather_object(parts, dict(found))
    return {name: value for part in reversed(parts) for name, value in part.items()}
