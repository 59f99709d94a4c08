"""What an embedding run did."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gigassl.pipeline.failures import Failure, failures_path, with_failures
from gigassl.pipeline.forecast import Timing
from gigassl.pipeline.gate import VectorQuality
from gigassl.urls import beside, shown
from gigassl.vectors.table import SlideTable


@dataclass(frozen=True, kw_only=True)
class EmbedResult:
    """What a run of ``embed`` did.

    Attributes:
        out: the file or URL of the table.
        failures: slides that could not be embedded: where it failed, and why.
        table: the whole table as written; None where no slide could be embedded.
        n_new, n_reused: slides embedded now, and rows kept from before.
        interrupted: the run was stopped by the user; what was done is kept.
        quality: of the vectors of a trained slide encoder; None for poolings and for few slides.
        timing: foretold against taken; without a dry run None for few slides and on a cluster.
    """

    out: Path | str
    table: SlideTable | None
    failures: Sequence[Failure]
    n_new: int
    n_reused: int
    interrupted: bool = False
    quality: VectorQuality | None = None
    timing: Timing | None = None

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        return {
            "out": shown(str(self.out)),
            "rows": 0 if self.table is None else len(self.table),
            "new": self.n_new,
            "reused": self.n_reused,
            "interrupted": self.interrupted,
            "quality": None if self.quality is None else self.quality.summary(),
            "timing": None if self.timing is None else self.timing.summary(),
            "failures": [asdict(failure) for failure in self.failures],
        }

    def sentence(self) -> str:
        """The result in one or two lines."""
        rows = 0 if self.table is None else len(self.table)
        out = shown(str(self.out))
        done = f"{out}: {rows} slides ({self.n_new} new, {self.n_reused} from before)"
        if self.quality is not None:
            done = f"{done}; {self.quality.sentence()}"
        return with_failures(done, self.failures, beside(self.out, failures_path))
