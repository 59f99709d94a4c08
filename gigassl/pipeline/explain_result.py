"""What explaining slides came to: one record a slide, and agreement with masks over all."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gigassl.errors import SettingsError
from gigassl.evaluate.mask_agreement import (
    MEASURES,
    Agreement,
    PairedDifference,
    paired_differences,
)
from gigassl.files import written_whole
from gigassl.pipeline.failures import Failure, with_failures

RECORD = "explanation.json"


@dataclass(frozen=True, kw_only=True)
class ExplainedSlide:
    """One explained slide.

    Attributes:
        digest: of all that the explanation was made from.
        model, method: that explained it.
        learned_from: whether the model learned from the slide or its patient.
        explained: the class, or "value" or "risk".
        asked: why that one: "predicted", "true" or "named"; "" where there is but one.
        y_true: the true class where it is known, else "".
        answer: what the model says: of each class its probability, or the value or risk.
        meaning, how, output, offset, completeness_error: as of ``Explanation``.
        n_tiles, n_unseen: tiles, and those without a score.
        agreement, chance: with the mask, of the scores and of the same scores shuffled.
        in_tiles: share of the mask's area that lies in scored tiles.
        mask_note: why there is no agreement though a mask was asked for.
    """

    digest: str
    slide_id: str
    patient_id: str
    model: str
    method: str
    learned_from: bool
    explained: str
    asked: str
    y_true: str
    answer: Mapping[str, float]
    meaning: str
    how: str
    output: float
    offset: float
    completeness_error: float | None
    n_tiles: int
    n_unseen: int
    agreement: Agreement | None = None
    chance: Agreement | None = None
    in_tiles: float | None = None
    mask_note: str = ""


def save_record(record: ExplainedSlide, folder: Path) -> None:
    """Writes a slide's record: the last of its files, which says that the others are there.

    Raises:
        MachineError: it cannot be written.
    """
    text = json.dumps(asdict(record), indent=2, ensure_ascii=False, allow_nan=False)
    with written_whole(folder / RECORD) as part:
        part.write_text(f"{text}\n", encoding="utf-8")


def read_record(folder: Path) -> ExplainedSlide | None:
    """The record of a finished slide; None where there is none of this version."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        agreements = {
            name: values[name] and Agreement(**values[name]) for name in ("agreement", "chance")
        }
        return ExplainedSlide(**{**values, **agreements})
    except (json.JSONDecodeError, TypeError, KeyError):
        return None


def read_records(folder: Path) -> dict[str, ExplainedSlide]:
    """The records of an earlier run, by slide.

    Raises:
        SettingsError: there are none.
    """
    found = (read_record(path.parent) for path in sorted(folder.glob(f"*/{RECORD}")))
    records = {record.slide_id: record for record in found if record is not None}
    if not records:
        raise SettingsError(f"{folder} holds no explained slides of `gigassl explain`")
    return records


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
