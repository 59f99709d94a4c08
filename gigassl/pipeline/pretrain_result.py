"""How a training of a slide encoder ended, for people and for programs."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gigassl.pipeline.failures import Failure, with_failures
from gigassl.pipeline.training_log import EPOCHS, PICTURE
from gigassl.vectors.pretrain.train import Trained

FAILURES = "failures.csv"


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """What a training did.

    Attributes:
        out: the slide encoder; of a collapsed one, the name it was saved under instead.
        folder: of the log.
        trained: how it ended; None where it was interrupted, or done before.
        failures: bags that were left out.
    """

    out: Path
    folder: Path
    trained: Trained | None
    failures: Sequence[Failure] = ()
    interrupted: bool = False

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        return {
            "out": str(self.out),
            "log": str(self.folder),
            "interrupted": self.interrupted,
            "trained": None if self.trained is None else finite(asdict(self.trained)),
            "failures": [asdict(failure) for failure in self.failures],
        }

    def sentence(self) -> str:
        """The result in one or two lines."""
        if self.interrupted:
            done = f"interrupted; run the same command again to go on ({self.folder})"
        elif self.trained is None:
            done = f"{self.out} is trained already, with these settings on these tiles"
        else:
            shape = self.trained.geometry
            knn = self.trained.knn_accuracy
            done = (
                f"{self.out}: {self.trained.epochs} epochs, effective rank "
                f"{shape.effective_rank:.1f}, mean cosine {shape.mean_cosine:.3f}"
                f"{'' if knn is None else f', kNN accuracy {knn:.3f}'}; "
                f"curves in {self.folder / PICTURE}"
            )
        return with_failures(done, self.failures, self.folder / FAILURES)

    def alarm(self) -> str:
        """What to do about vectors that have collapsed; empty where they have not."""
        if self.trained is None or not self.trained.collapsed:
            return ""
        shape = self.trained.geometry
        return (
            f"the vectors have collapsed (effective rank {shape.effective_rank:.1f}, mean cosine "
            f"{shape.mean_cosine:.4f}, loss {self.trained.loss}): the slide encoder is of no use, "
            f"and was saved as {self.out.name}, not under the name asked for; try a lower --lr, "
            f"a larger --batch-size or another --objective; {self.folder / EPOCHS.table} shows "
            "when it happened"
        )


def log_folder(out: Path) -> Path:
    """Where the log of a training lies.

    >>> log_folder(Path("run/slide-encoder.safetensors")).as_posix()
    'run/slide-encoder.log'
    """
    return out.with_suffix(".log")


def finite(values: Any) -> Any:
    """Plain values with None for numbers that JSON does not know."""
    if isinstance(values, dict):
        return {name: finite(value) for name, value in values.items()}
    return None if isinstance(values, float) and not math.isfinite(values) else values
