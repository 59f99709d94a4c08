"""The files of a training of a tile encoder: the encoder itself, and what lies in its log."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from gigassl.errors import SettingsError
from gigassl.files import written_whole
from gigassl.pipeline.failures import Failure, read_failures, save_failures
from gigassl.pipeline.pretrain_result import FAILURES, log_folder
from gigassl.pipeline.training_log import ROUNDS
from gigassl.tiles.encoder_files import save_encoder
from gigassl.tiles.encoders import pooled_network
from gigassl.tiles.records import EncoderRecord
from gigassl.tiles.weights import load_checkpoint, reading_card

SUFFIX = ".safetensors"
_PICTURES = ("generated.png", "reconstructions.png")
Kept = Literal["last", "best"]


@dataclass(frozen=True, kw_only=True)
class TileEncoderFiles:
    """Where everything lies.

    Attributes:
        out: the tile encoder.
        keep: whether it is that of the last round or of the best; the other one lies in the log.
    """

    out: Path
    keep: Kept = "last"

    def __post_init__(self) -> None:
        if self.out.suffix != SUFFIX:
            raise SettingsError(f"tile encoders are {SUFFIX} files; got -o {self.out}")

    @property
    def folder(self) -> Path:
        """Of the log."""
        return log_folder(self.out)

    @property
    def collapsed(self) -> Path:
        """Where a tile encoder goes that is of no use: nobody shall take it by mistake."""
        return self.out.with_suffix(f".collapsed{SUFFIX}")

    @property
    def state(self) -> Path:
        """Of a training under way."""
        return self.folder / "state.safetensors"

    @property
    def best_weights(self) -> Path:
        """Where the training puts the weights of its best round."""
        return self.folder / "best-weights.safetensors"

    @property
    def run(self) -> Path:
        """How long it took: in no model file, so that equal trainings give equal files."""
        return self.folder / "run.json"

    def path_of(self, which: Kept) -> Path:
        """Of the encoder of the last round, or of the best."""
        return self.out if which == self.keep else self.logged(which)

    def logged(self, which: Kept) -> Path:
        """Where an encoder lies that is not the one asked for."""
        return self.folder / f"{which}{SUFFIX}"

    def digest(self) -> str | None:
        """Of the training whose output is there already; "" of another's file, None without."""
        if not self.out.exists():
            return None
        card = load_checkpoint(self.out).card
        with reading_card(self.out):
            return str(card.get("training", {}).get("digest", ""))

    def clear(self) -> None:
        """Removes what an earlier training has left."""
        paths = [self.out, self.collapsed, self.state, self.best_weights, self.run]
        logged = [self.logged("best"), self.logged("last"), self.folder / ROUNDS.table]
        pictures = [self.folder / name for name in _PICTURES]
        for path in (*paths, *logged, *pictures):
            path.unlink(missing_ok=True)

    def finished(self, *, collapsed: bool) -> None:
        """Removes what was of use to a training under way only."""
        with suppress(OSError):
            self.state.unlink(missing_ok=True)
            self.best_weights.unlink(missing_ok=True)
            if not collapsed:
                self.collapsed.unlink(missing_ok=True)

    def note_failures(self, failures: Sequence[Failure]) -> None:
        """Lists files that are left out.

        Raises:
            MachineError: disk full.
        """
        save_failures(failures, self.folder / FAILURES)

    def failures(self) -> Sequence[Failure]:
        """What was listed."""
        return read_failures(self.folder / FAILURES)

    def note_time(self, seconds: float, *, step: int) -> None:
        """Adds a session to ``run.json``; one that was killed is not in it.

        Raises:
            MachineError: disk full.
        """
        sessions: list[Any] = []
        with suppress(OSError, ValueError, KeyError):
            sessions = json.loads(self.run.read_text())["sessions"]
        sessions.append({"seconds": round(seconds, 1), "ended_at_step": step})
        total = round(sum(session["seconds"] for session in sessions), 1)
        with written_whole(self.run) as part:
            part.write_text(json.dumps({"seconds": total, "sessions": sessions}, indent=2) + "\n")


def save_weights(
    path: Path, weights: Mapping[str, Tensor], *, record: EncoderRecord, training: Mapping[str, Any]
) -> None:
    """Writes a tile encoder by way of the network that its record makes, as it will be read.

    Raises:
        MachineError: disk full, read-only or missing folder.
    """
    network = pooled_network(record)
    network.load_state_dict(weights)
    save_encoder(path, record=record, network=network, training=training)
