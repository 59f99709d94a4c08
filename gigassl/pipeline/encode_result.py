"""What an encoding run did, into bags or into a bank."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gigassl.pipeline.failures import Failure, with_failures

_UNFINISHED = ", unfinished; the same command goes on where this one stopped"


@dataclass(frozen=True, kw_only=True)
class EncodeResult:
    """Slides encoded now, slides kept from before, and what failed.

    Attributes:
        kind: what the folder holds.
        failures_file: where the failures are listed.
        interrupted: the run was stopped by the user; what was done is kept.
    """

    kind: Literal["bags", "bank"]
    folder: Path
    failures_file: Path
    n_new: int
    n_reused: int
    failures: Sequence[Failure]
    interrupted: bool = False

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        return {
            "out": str(self.folder),
            "new": self.n_new,
            "reused": self.n_reused,
            "interrupted": self.interrupted,
            "failures": [asdict(failure) for failure in self.failures],
        }

    def sentence(self) -> str:
        """The result in one or two lines."""
        n_slides = self.n_new + self.n_reused
        done = (
            f"{self.folder}: {self.kind} of {n_slides} slides "
            f"({self.n_new} new, {self.n_reused} from before)"
            f"{_UNFINISHED if self.interrupted else ''}"
        )
        return with_failures(done, self.failures, self.failures_file)
