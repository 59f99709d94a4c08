"""What runs a training: one device or several, on one machine or several."""

from typing import Literal

import torch
from lightning_fabric import Fabric

from gigassl.errors import SettingsError

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
