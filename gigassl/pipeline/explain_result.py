"""What explaining slides came to: one record a slide, and agreement with masks over all."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gigassl.evaluate.explain.record import ExplainedSlide
from gigassl.evaluate.mask_agreement import (
    MEASURES,
    Agreement,
    PairedDifference,
    paired_differences,
)
from gigassl.pipeline.failures import Failure, with_failures


@dataclass(frozen=True, kw_only=True, eq=False)
class ExplainResult:
    """What a run came to.

    Attributes:
        out: the folder.
        slides: explained, by name.
        n_new, n_reused: explained now, and found from before.
        notes: what to know of all.
        other: an earlier run to compare the agreement with; "" for none.
        against: its slides.
    """

    out: Path
    slides: Sequence[ExplainedSlide]
    n_new: int
    n_reused: int
    failures: Sequence[Failure]
    notes: Sequence[str] = ()
    interrupted: bool = False
    other: str = ""
    against: Mapping[str, ExplainedSlide] = field(default_factory=dict)

    @property
    def failures_file(self) -> Path:
        """Where the failures are listed."""
        return self.out / "failures.csv"

    def measured(self) -> list[tuple[Agreement, Agreement]]:
        """Agreement and its control, of the slides that have them."""
        pairs = [(slide.agreement, slide.chance) for slide in self.slides]
        return [(ours, chance) for ours, chance in pairs if ours and chance]

    def differences(self) -> dict[str, list[PairedDifference]]:
        """Agreement against the shuffled scores and against the other run, slide by slide."""
        found = {}
        measured, other = self.measured(), self.compared()
        if measured:
            found["shuffled scores"] = _differences(measured)
        if other:
            found[self.other] = _differences(other)
        return found

    def compared(self) -> list[tuple[Agreement, Agreement]]:
        """Agreement and that of the other run, of the slides that both measured."""
        theirs = [(slide.agreement, self.against.get(slide.slide_id)) for slide in self.slides]
        return [(a, b.agreement) for a, b in theirs if a and b and b.agreement]

    def means(self) -> dict[str, dict[str, float]]:
        """Mean over slides of each measure, of the scores and of the same scores shuffled."""
        measured = self.measured()
        return {
            name: {
                "mean": float(np.mean([getattr(ours, name) for ours, _ in measured])),
                "shuffled": float(np.mean([getattr(chance, name) for _, chance in measured])),
            }
            for name in (MEASURES if measured else ())
        }

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        return {
            "out": str(self.out),
            "new": self.n_new,
            "reused": self.n_reused,
            "interrupted": self.interrupted,
            "slides": [asdict(slide) for slide in self.slides],
            "agreement": {"slides": len(self.measured()), **self.means()},
            "differences": {
                name: [asdict(each) for each in found] for name, found in self.differences().items()
            },
            "notes": list(self.notes),
            "failures": [asdict(failure) for failure in self.failures],
        }

    def sentence(self) -> str:
        """The result in a few lines."""
        stopped = "; unfinished, the same command goes on where this one stopped"
        done = (
            f"{self.out}: {len(self.slides)} slides explained ({self.n_new} new, {self.n_reused} "
            f"from before){stopped if self.interrupted else ''}"
        )
        lines = [*self.notes, *self._errors(), *self._agreement()]
        return "\n".join([*lines, with_failures(done, self.failures, self.failures_file)])

    def _errors(self) -> list[str]:
        errors = [s.completeness_error for s in self.slides if s.completeness_error is not None]
        if not errors:
            return []
        sizes = [abs(s.output - s.offset) for s in self.slides if s.completeness_error is not None]
        said = f"off by at most {max(errors):.2g} (median of what is to be summed: "
        return [f"contributions sum to the output less its offset: {said}{np.median(sizes):.3g})"]

    def _agreement(self) -> list[str]:
        measured = self.measured()
        if not measured:
            return []
        lines = [f"agreement with masks on {len(measured)} slides (shuffled scores in brackets): "
                 + ", ".join(f"{_SAID[name]} {mean['mean']:.3f} ({mean['shuffled']:.3f})"
                             for name, mean in self.means().items())]  # fmt: skip
        for name, found in self.differences().items():
            said = ", ".join(
                f"{_SAID[d.measure]} {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]" for d in found
            )
            lines.append(f"less that of {name}, {found[0].n} slides: {said}")
        return lines


_SAID = {"iou": "IoU at equal area", "pointing": "pointing game", "auprc": "AUPRC",
         "auc": "pixel AUC"}  # fmt: skip


def _differences(pairs: Sequence[tuple[Agreement, Agreement]]) -> list[PairedDifference]:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    return paired_differences(first, second, generator=np.random.default_rng(0))
