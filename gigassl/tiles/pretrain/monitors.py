"""What a training of a tile encoder tells about itself: its plan, and a row a round of steps."""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float32
from torch import Tensor

from gigassl.training.geometry import Geometry
from gigassl.training.monitors import measured

MEASURED = 256
"""Tiles that the geometry of a round is computed on: those of its last batches."""


@dataclass(frozen=True, kw_only=True)
class RoundRow:
    """What one round of steps did.

    Attributes:
        round: counted from 1.
        step: steps done at its end.
        epoch: passes over as many tiles as there are, at its end.
        loss: mean over its steps.
        lr: learning rate of its last step.
        tiles_per_s: tiles, of all their views, through a training step, reading included.
        waiting: share of the time in which a step waited for its tiles.
        geometry: of the encoder's vectors of both large views of its last batches.
        knn_accuracy: share of labelled tiles whose neighbours of other groups have their label, in
            evaluation mode; None without labelled tiles.
        n_unreadable: files that were skipped so far.
        measured: by the method on held-out tiles, what decides first; empty where none are.
    """

    round: int
    step: int
    epoch: float
    loss: float
    lr: float
    tiles_per_s: float
    waiting: float
    geometry: Geometry
    knn_accuracy: float | None = None
    n_unreadable: int = 0
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def validation(self) -> float | None:
        """What decides of the things measured on held-out tiles, lower is better."""
        return next(iter(self.measured.values()), None)

    @property
    def number(self) -> int:
        """Of the row in the log."""
        return self.round

    def sentence(self) -> str:
        """The numbers of a round in one short line."""
        shown = measured(self.loss, self.geometry, self.knn_accuracy)
        skipped = f", {self.n_unreadable} files skipped" if self.n_unreadable else ""
        held_out = "".join(f", held-out {name} {v:.4g}" for name, v in self.measured.items())
        return (
            f"{shown}{held_out}, lr {self.lr:.2g}, {self.tiles_per_s:.0f} tiles/s, "
            f"{100 * self.waiting:.0f} % waiting{skipped}"
        )

    def plain(self) -> dict[str, Any]:
        """The row in plain values, for a checkpoint."""
        # JSON files are written with sorted keys, and what decides stands first
        return {**asdict(self), "measured": list(self.measured.items())}

    @classmethod
    def of_plain(cls, values: dict[str, Any]) -> "RoundRow":
        """The row that ``plain`` gave."""
        return cls(
            **{
                **values,
                "geometry": Geometry(**values["geometry"]),
                "measured": dict(values["measured"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class TilePlan:
    """What is about to be trained, said before it starts.

    Attributes:
        n_tiles, n_files, n_patients: that tiles are drawn from.
        batch_size: tiles of a batch, over all devices.
        accumulate: batches of a step.
        round_steps: steps of a round.
        n_held_out: patients whose tiles are only measured.
    """

    method: str
    n_tiles: int
    n_files: int
    n_patients: int
    batch_size: int
    accumulate: int
    steps: int
    round_steps: int
    steps_done: int
    lr: float
    n_parameters: int
    device: str
    n_devices: int
    n_held_out: int = 0
    unit: ClassVar[str] = "round"

    @property
    def rows(self) -> int:
        """Rows of the whole log: one a round."""
        return -(-self.steps // self.round_steps)

    @property
    def rows_done(self) -> int:
        """Rounds that were finished before the training was interrupted."""
        return self.rows if self.steps_done == self.steps else self.steps_done // self.round_steps

    def sentence(self) -> str:
        """The plan in one line."""
        devices = self.device if self.n_devices == 1 else f"{self.n_devices} × {self.device}"
        each = "" if self.accumulate == 1 else f", {self.accumulate} of them a step"
        held_out = f", {self.n_held_out:,} more held out" if self.n_held_out else ""
        epochs = self.steps * self.batch_size * self.accumulate / self.n_tiles
        return (
            f"{self.method}: {self.n_tiles:,} tiles of {self.n_files:,} files of "
            f"{self.n_patients:,} patients{held_out}, batches of {self.batch_size}{each}: "
            f"{self.steps:,} steps ({epochs:.3g} epochs) at learning rate {self.lr:.3g} "
            f"on {devices}, {self.n_parameters:,} parameters"
        )


class Recent:
    """Keeps the vectors that training computes anyway, of the last batches.

    Args:
        rows: how many to keep at least.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._batches: deque[Float32[Tensor, "tile 2 width"]] = deque()

    def note(
        self, first: Float32[Tensor, "tile width"], second: Float32[Tensor, "tile width"]
    ) -> None:
        """Keeps the vectors of both views of a batch, and drops what is too old."""
        self._batches.append(torch.stack([first, second], dim=1))
        while sum(len(batch) for batch in list(self._batches)[1:]) >= self._rows:
            self._batches.popleft()

    def kept(self) -> Float32[Tensor, "tile 2 width"]:
        """What was kept, batch after batch."""
        return torch.cat(list(self._batches))

    def forget(self) -> None:
        """Begins anew: rows are of one round only."""
        self._batches.clear()

    def __len__(self) -> int:
        return sum(len(batch) for batch in self._batches)

    def restore(self, vectors: Float32[Tensor, "tile 2 width"], *, batch: int) -> None:
        """Puts back what ``kept`` gave, of batches of this size."""
        self._batches = deque(torch.split(vectors, batch))
