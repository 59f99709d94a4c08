"""How far a training of a tile encoder is, and its checkpoint every few minutes."""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.optim import Optimizer

from gigassl.tiles.pretrain.checkpoints import CheckpointFile, load_training, save_training
from gigassl.tiles.pretrain.monitors import RoundRow
from gigassl.tiles.pretrain.schedule import Plateau
from gigassl.tiles.pretrain.source import UnreadableFile

log = logging.getLogger("gigassl")

_RECENT, _BEST = "recent", "best."


@dataclass(kw_only=True)
class Progress:
    """How far a training is: what its state file holds beside weights and optimiser.

    Attributes:
        step: steps done.
        losses: of the steps of the round under way.
        collapsed_rounds: rounds, up to the last one, whose vectors had collapsed.
        row: of the last round.
        best: of the round whose encoder was best.
        best_weights: that encoder's, on the CPU.
        unreadable: files that were skipped, each once.
        recent: vectors of the last batches, over all devices.
        plateau: of what is measured on held-out tiles.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    collapsed_rounds: int = 0
    row: RoundRow | None = None
    best: RoundRow | None = None
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    unreadable: dict[str, UnreadableFile] = field(default_factory=dict)
    recent: Float32[Tensor, "tile 2 width"] | None = None
    plateau: Plateau = field(default_factory=Plateau)

    def skip(self, files: Iterable[UnreadableFile], *, aloud: bool) -> None:
        """Notes files that cannot be read, and names each once."""
        for file in files:
            if aloud and file.name not in self.unreadable:
                log.warning("skipped from here on: %s: %s", file.path, file.reason)
            self.unreadable.setdefault(file.name, file)

    def plain(self) -> dict[str, Any]:
        """What is no tensor, in plain values."""
        return {
            "step": self.step,
            "losses": self.losses,
            "collapsed_rounds": self.collapsed_rounds,
            "row": None if self.row is None else self.row.plain(),
            "best": None if self.best is None else self.best.plain(),
            "plateau": asdict(self.plateau),
            "unreadable": [asdict(file) for file in self.unreadable.values()],
        }

    def tensors(self) -> dict[str, Tensor]:
        """What is tensors, by name."""
        found = {f"{_BEST}{name}": tensor for name, tensor in self.best_weights.items()}
        return found if self.recent is None else {**found, _RECENT: self.recent}

    @classmethod
    def of(cls, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "Progress":
        """The progress that ``plain`` and ``tensors`` gave."""
        rows = {
            name: None if plain[name] is None else RoundRow.of_plain(plain[name])
            for name in ("row", "best")
        }
        files = [UnreadableFile(**values) for values in plain["unreadable"]]
        plateau = Plateau(**plain["plateau"])
        return cls(
            **{
                **plain,
                **rows,
                "plateau": plateau,
                "unreadable": {file.name: file for file in files},
            },
            best_weights={
                k.removeprefix(_BEST): t for k, t in tensors.items() if k.startswith(_BEST)
            },
            recent=tensors.get(_RECENT),
        )


class Keeper:
    """Keeps the state of a training in a file, a new one every few minutes.

    Args:
        file: None keeps nothing.
        minutes: between two.
    """

    def __init__(
        self, file: CheckpointFile | None, *, minutes: float, method: nn.Module,
        optimiser: Optimizer,
    ) -> None:  # fmt: skip
        self._file = None if file is None else replace(file, kind="tile-encoder-training")
        self._seconds = 60.0 * minutes
        self._method, self._optimiser = method, optimiser
        self._last = time.monotonic()
        self.saved_step: int | None = None

    def due(self) -> bool:
        """Whether the last state is older than it shall be."""
        return self._file is not None and time.monotonic() - self._last >= self._seconds

    def resume(self) -> Progress:
        """Puts a saved state back; a new progress where there is none.

        Raises:
            SettingsError: it is of another training, method or network.
        """
        if self._file is None:
            return Progress()
        saved = load_training(self._file, self._method, self._optimiser)
        if saved is None:
            return Progress()
        progress = Progress.of(saved.progress, saved.kept)
        self.saved_step = progress.step
        return progress

    def save(self, progress: Progress) -> None:
        """Writes the state, whole, over the last one.

        Raises:
            MachineError: disk full, read-only or missing folder.
        """
        if self._file is not None:
            save_training(
                self._file, self._method, self._optimiser,
                progress=progress.plain(), kept=progress.tensors(),
            )  # fmt: skip
            self.saved_step = progress.step
        self._last = time.monotonic()

    def said(self) -> str:
        """Where the last good state is."""
        if self._file is None or self.saved_step is None:
            return "no state had been saved yet"
        return f"the state of step {self.saved_step} is kept in {self._file.path}"


def finite(module: nn.Module) -> bool:
    """Whether all weights of a module are numbers."""
    sums = [tensor.sum() for tensor in module.state_dict().values() if tensor.is_floating_point()]
    return bool(torch.stack([total.float() for total in sums]).isfinite().all())
