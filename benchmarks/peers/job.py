"""What every contender is told, and how it answers; runs in its environment, without gigassl."""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
THUMBNAIL = "thumbnail"


@dataclass(frozen=True, kw_only=True)
class Job:
    """The same for all contenders.

    Attributes:
        slides: path by name.
        first: a small slide to begin with, before the clock runs.
        tile_px: side of the tiles, and of what the network takes.
        network: "thumbnail", or what timm calls it.
        checkpoint: its weights, a .safetensors file.
        precision: "fp32" or "bf16".
        workers: threads or processes that read.
        out: empty folder for what the contender writes.
    """

    slides: Mapping[str, str]
    first: str
    tile_px: int
    mpp: float
    network: str
    checkpoint: str
    precision: str
    workers: int
    out: str

    def as_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, kw_only=True)
class Found:
    """Tiles of one slide: corners (x, y) in level-0 px [tile, 2], and features [tile, dim]."""

    coords: np.ndarray
    features: np.ndarray


Work = Callable[[Mapping[str, str], Path], Mapping[str, Found]]
"""From slides, path by name, and an empty folder to tiles by name."""


class Thumbnail(nn.Module):
    """Next to no arithmetic, so that only reading counts: 7 × 7 mean colours of a tile."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(32)
        self.scale = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        means: Tensor = self.pool(images) * self.scale
        return means.flatten(1)


def bare_network(name: str) -> nn.Module:
    """Untrained, without a classifier."""
    if name == THUMBNAIL:
        return Thumbnail()
    import timm

    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    return network


def loaded_network(job: Job) -> nn.Module:
    from safetensors.torch import load_file

    network = bare_network(job.network)
    network.load_state_dict(load_file(job.checkpoint))
    return network.eval()


def answer(prepare: Callable[[Job], Work], *, packages: tuple[str, ...]) -> None:
    """Carries out the job given on the command line; prints one line of JSON.

    Only the work is timed. Before it the network is loaded and one small slide is done, so that
    what is imported or started at first use is there.
    """
    job = Job(**json.loads(sys.argv[1]))
    work, out = prepare(job), Path(job.out)
    for folder in (out / "first", out / "all"):
        folder.mkdir()
    work({Path(job.first).stem: job.first}, out / "first")
    begin, cpu_begin = time.perf_counter(), cpu_seconds()
    found = work(job.slides, out / "all")
    seconds, cpu = time.perf_counter() - begin, cpu_seconds() - cpu_begin
    for name, tiles in found.items():
        np.savez(
            out / f"{name}.npz",
            coords=tiles.coords,
            features=np.asarray(tiles.features, np.float32),
        )
    told: dict[str, Any] = {
        "work_s": seconds,
        "work_cpu_s": cpu,
        "tiles": {name: len(tiles.coords) for name, tiles in found.items()},
        "packages": {name: _version_and_licence(name) for name in packages},
    }
    print(f"\n{json.dumps(told)}", flush=True)


def cpu_seconds() -> float:
    """Of this process and of the workers that it has seen end."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


def _version_and_licence(package: str) -> str:
    facts = metadata(package)
    named = [facts[key] for key in ("License-Expression", "License") if key in facts]
    return f"{facts['Version']} ({named[0].splitlines()[0] if named else 'no licence named'})"
