"""What became of a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gigassl.pipeline.bank_estimate import gigabytes
from gigassl.pipeline.failures import Failure


@dataclass(frozen=True, kw_only=True)
class ReportResult:
    """The page that was written.

    Attributes:
        out: the page.
        n_bytes: of the page alone.
        n_slides: on the map.
        sections: anchors of its sections, in their order.
        n_thumbnails: slides that have one.
        thumbnails: the folder they lie in; None where they stand in the page, or there are none.
        notes: what was left out, and why.
        failures: slides that should have a thumbnail and have none, and folders of explanations
            that could not be read.
    """

    out: Path
    n_bytes: int
    n_slides: int
    sections: Sequence[str]
    n_thumbnails: int
    thumbnails: Path | None
    notes: Sequence[str]
    failures: Sequence[Failure] = ()
    interrupted: bool = False

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        return {
            "out": str(self.out),
            "bytes": self.n_bytes,
            "slides": self.n_slides,
            "sections": list(self.sections),
            "thumbnails": self.n_thumbnails,
            "thumbnails_folder": None if self.thumbnails is None else str(self.thumbnails),
            "notes": list(self.notes),
            "failures": [
                {"slide_id": f.slide_id, "stage": f.stage, "reason": f.reason}
                for f in self.failures
            ],
        }

    def sentence(self) -> str:
        """What was written, then what was left out, and every slide without its thumbnail."""
        beside = f" in {self.thumbnails}" if self.thumbnails else ""
        shown = f", {self.n_thumbnails} thumbnails{beside}" if self.n_thumbnails else ""
        size = gigabytes(self.n_bytes)
        done = f"{self.out}: {self.n_slides} slides{shown}, {len(self.sections)} sections, {size}"
        failed = [f"no thumbnail of {f.slide_id}: {f.reason}" for f in self.failures]
        return "\n".join([done, *self.notes, *failed])
