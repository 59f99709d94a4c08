"""A training small enough for tests: a tiny network, tiles in memory, real methods around them.

Run as a program it trains in a process of its own, which can be killed or shared by two devices.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from lightning_fabric import Fabric
from torch import Tensor, nn

from gigassl.digests import digest_of_tensors
from gigassl.tiles.augmentation import AugmentationSettings
from gigassl.tiles.labelled_images import LabelledTiles
from gigassl.tiles.pretrain.catalogue import new_method
from gigassl.tiles.pretrain.checkpoints import CheckpointFile
from gigassl.tiles.pretrain.method import Method, Views
from gigassl.tiles.pretrain.options import TileTrainingOptions, planned_steps
from gigassl.tiles.pretrain.settings import TilePretrainSettings, TileViewSettings
from gigassl.tiles.pretrain.source import BatchPlan, TileBatch, UnreadableFile
from gigassl.tiles.pretrain.train import new_fabric, pretrain_tile_encoder
from gigassl.tiles.pretrain.trained import TrainedTiles
from gigassl.training.monitors import LogRow, Monitor, Quiet, TrainingPlan

MEAN = STD = (0.5, 0.5, 0.5)
SIDE, WIDTH = 16, 12

QUICK = AugmentationSettings(crop_area=(0.5, 1.0), flips=True, jitter_p=0.0, grey_p=0.0, blur_p=0.0)
AS_IT_IS = replace(QUICK, crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0), flips=False)


class Painted:
    """Tiles of four kinds in memory: stripes or dots, dark or light; batches at random or in turn.

    Args:
        broken: numbers of batches in which a file is found unreadable.
        in_turn: batch k holds the tiles that follow those of batch k - 1.
    """

    names: Sequence[str]
    patient_ids: Sequence[str]

    def __init__(self, n: int = 64, *, in_turn: bool = False, broken: Sequence[int] = ()) -> None:
        self.names = self.patient_ids = tuple(f"image{i}" for i in range(n))
        self.n_tiles, self.tile_px, self.digest = n, SIDE, f"painted-{n}"
        self.in_turn, self.broken, self.read = in_turn, broken, 0
        self.kinds = torch.arange(n) % 4
        rng = np.random.default_rng(0)
        noise = rng.normal(0.0, 12.0, (n, SIDE, SIDE, 3))
        rows, cols = np.mgrid[:SIDE, :SIDE]
        patterns = np.stack([(rows // 2) % 2, (rows // 2 + cols // 2) % 2])
        for i, kind in enumerate(self.kinds.tolist()):
            noise[i] += 60 + 60 * (kind // 2) + 80 * patterns[kind % 2][..., None]
        self.tiles = torch.from_numpy(noise.clip(0, 255).astype(np.uint8))

    def batches(self, plan: BatchPlan) -> Iterator[TileBatch]:
        for number in range(plan.first, plan.last):
            rng = np.random.default_rng([plan.seed, number])
            chosen = torch.from_numpy(rng.integers(0, self.n_tiles, plan.size))
            if self.in_turn:
                chosen = torch.arange(number * plan.size, (number + 1) * plan.size) % self.n_tiles
            mine = chosen[plan.rank :: plan.world]
            files = [UnreadableFile(name="image3", path="/images/image3", reason="torn")]
            self.read += 1
            yield TileBatch(
                self.tiles[mine], file=mine, unreadable=files if number in self.broken else ()
            )

    def exam(self) -> LabelledTiles:
        n = self.n_tiles
        return LabelledTiles(
            tiles=self.tiles.numpy(), labels=self.kinds.numpy(),
            groups=tuple(f"group{i // 4 % 5}" for i in range(n)), images=tuple(self.names),
            unreadable=(),
        )  # fmt: skip


class Diary(Quiet):
    """Notes all it is told; stops the program where it is told to."""

    def __init__(self, *, stop_at: int = 10**9) -> None:
        self.plan: TrainingPlan | None = None
        self.rows: list[LogRow] = []
        self.steps, self.stop_at = 0, stop_at

    def started(self, plan: TrainingPlan) -> None:
        self.plan = plan

    def step_done(self) -> None:
        self.steps += 1
        if self.steps >= self.stop_at:
            raise RuntimeError("stopped in the middle")

    def row_done(self, row: LogRow) -> None:
        self.rows.append(row)


class Tell(Method):
    """Learns to tell the mean colour of the second view from the first: a mean over tiles."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(WIDTH, 3)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.fill_(0.1)

    def forward(
        self, views: Views, *, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float32[Tensor, "tile width"], Float32[Tensor, "tile width"]]:
        first, second = self.encoder(views[0]), self.encoder(views[1])
        loss = (self.head(first) - views[1].mean(dim=(2, 3))).square().mean()
        return loss, first.detach(), second.detach()


def small_network(*, norm: bool = True, dropout: float = 0.1) -> nn.Module:
    """A convolutional network whose weights are always the same; dropout is the run's own too."""
    layers = [
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        *([nn.BatchNorm2d(8)] if norm else []),
        nn.ReLU(),
        nn.Conv2d(8, WIDTH, 3, stride=2, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
    ]
    network = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(0)
    for layer in network:
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.normal_(layer.weight, std=0.3, generator=generator)
            nn.init.zeros_(layer.bias)
    return network


def small_settings(method: str = "simclr", **changes: object) -> TilePretrainSettings:
    own = {
        "moco": {"queue": 32, "hidden": 16, "projection": 8},
        "byol": {"hidden": 16, "projection": 8},
        "simclr": {"hidden": 16, "projection": 8},
    }
    quick = {
        "method": method, "options": own.get(method, {}), "steps": 12, "batch_size": 16, "lr": 0.5,
        "views": TileViewSettings(first=QUICK, second=QUICK, side_px=SIDE),
    }  # fmt: skip
    return TilePretrainSettings(**{**quick, **changes})  # type: ignore[arg-type]


def still(settings: TilePretrainSettings) -> TilePretrainSettings:
    """Views that are the tiles themselves, so that batches can be cut in any way."""
    views = TileViewSettings(first=AS_IT_IS, second=AS_IT_IS, side_px=SIDE)
    return replace(settings, views=views)


def method_of(
    settings: TilePretrainSettings, network: nn.Module, *, n_tiles: int = 64, gather: bool = False
) -> Method:
    if settings.method == "tell":
        return Tell(network)
    steps = planned_steps(settings, n_tiles=n_tiles)
    return new_method(settings, network, width=WIDTH, steps=steps, gather=gather)


def train_small(
    settings: TilePretrainSettings, network: nn.Module, *, source: Painted | None = None,
    monitor: Monitor | None = None, **options: object,
) -> TrainedTiles:  # fmt: skip
    """Trains on one CPU device, unless there is a fabric among the options."""
    fabric = options.pop("fabric", None) or new_fabric(settings, device="cpu")
    assert isinstance(fabric, Fabric)
    source = source or Painted()
    return pretrain_tile_encoder(
        source, method_of(settings, network, gather=fabric.world_size > 1),
        settings=settings, mean=MEAN, std=STD, monitor=monitor,
        options=TileTrainingOptions(fabric=fabric, **options),  # type: ignore[arg-type]
    )  # fmt: skip


def main() -> None:
    """Trains, saving its state at every step; says when a step is done, and how it ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--method", default="simclr")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--still-nets", action="store_true", help="without dropout")
    parser.add_argument("--minutes", type=float, default=0.0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    settings = small_settings(asked.method, steps=asked.steps, lr=0.05)
    fabric = new_fabric(settings, device="cpu", devices=asked.devices)
    fabric.launch()
    first = fabric.is_global_zero

    class Aloud(Quiet):
        def step_done(self) -> None:
            if first:
                print("step", flush=True)

        def row_done(self, row: LogRow) -> None:
            if first:
                print(f"row {row.number} {row.loss!r}", flush=True)  # type: ignore[attr-defined]

    # norms on a CPU, and dropout, are each process' own
    network = small_network(norm=False, dropout=0.0 if asked.still_nets else 0.1)
    state = CheckpointFile(path=asked.out / "state.safetensors", digest="d")
    done = train_small(
        settings, network, monitor=Aloud(), fabric=fabric, checkpoint=state, round_steps=5,
        minutes=asked.minutes,
    )  # fmt: skip
    if first:
        print(f"ended {done.steps} {done.stopped_by}", flush=True)
        print(f"digest {digest_of_tensors(network.state_dict())}", flush=True)


if __name__ == "__main__":
    main()
