"""How a training of a tile encoder ended, for people and for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gigassl.pipeline.failures import Failure, with_failures
from gigassl.pipeline.pretrain_result import FAILURES, finite
from gigassl.pipeline.training_log import PICTURE
from gigassl.tiles.pretrain.trained import TrainedTiles


@dataclass(frozen=True, kw_only=True)
class PretrainTilesResult:
    """What a training did.

    Attributes:
        out: the tile encoder; of a collapsed one, the name it was saved under instead.
        folder: of the log.
        trained: how it ended; None where it was done before.
        other: the encoder of the best round, or of the last one where ``out`` is the best; None
            where there is none.
        failures: slides or images that were left out, or skipped in the middle.
    """

    out: Path
    folder: Path
    trained: TrainedTiles | None
    other: Path | None = None
    failures: Sequence[Failure] = ()

    @property
    def interrupted(self) -> bool:
        """Whether it was asked to stop before the end."""
        return self.trained is not None and self.trained.stopped_by is not None

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        return {
            "out": str(self.out),
            "other": None if self.other is None else str(self.other),
            "log": str(self.folder),
            "interrupted": self.interrupted,
            "trained": None if self.trained is None else finite(asdict(self.trained)),
            "failures": [asdict(failure) for failure in self.failures],
        }

    def sentence(self) -> str:
        """The result in one or two lines."""
        trained = self.trained
        if trained is None:
            done = f"{self.out} is trained already, with these settings on these tiles"
        elif trained.stopped_by is not None:
            done = (
                f"stopped by {trained.stopped_by} after step {trained.steps} of "
                f"{trained.steps_wanted}; {trained.state}; run the same command again to go on"
            )
        elif trained.diverged:
            done = f"no tile encoder was written; curves in {self.folder / PICTURE}"
        else:
            done = self._done(trained)
        return with_failures(done, self.failures, self.folder / FAILURES, what="files")

    def _done(self, trained: TrainedTiles) -> str:
        shape, knn = trained.geometry, trained.knn_accuracy
        rank = "" if shape is None else f", effective rank {shape.effective_rank:.1f}"
        exam = "" if knn is None else f", kNN accuracy {knn:.3f}"
        least = next(iter(trained.best_measured.items()), None)
        held_out = "" if least is None else f", held-out {least[0]} {least[1]:.4g} at its best"
        other = "" if self.other is None else f"; that of the {self.other.stem} round: {self.other}"
        return (
            f"{self.out}: {trained.steps} steps ({trained.epochs:.3g} epochs){rank}{exam}"
            f"{held_out}; curves in {self.folder / PICTURE}{other}"
        )

    def alarm(self) -> str:
        """What is wrong with the encoder and what to do about it; empty where nothing is."""
        if self.trained is None or not (said := self.trained.alarm()):
            return ""
        if self.trained.diverged:
            return said
        return f"{said}; it was saved as {self.out.name}, not under the name asked for"


@dataclass(frozen=True, kw_only=True)
class PreviewResult:
    """A picture of tiles and their views, and no training.

    Attributes:
        picture: the PNG.
        n_tiles: shown there.
        failures: slides or images that were left out.
    """

    picture: Path
    n_tiles: int
    failures: Sequence[Failure] = ()
    interrupted: bool = False

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        return {
            "preview": str(self.picture),
            "tiles": self.n_tiles,
            "failures": [asdict(failure) for failure in self.failures],
        }

    def sentence(self) -> str:
        """The result in one line."""
        return (
            f"{self.picture}: {self.n_tiles} tiles and the views that would be learned from; "
            "nothing was trained, for that leave --preview out"
        )
