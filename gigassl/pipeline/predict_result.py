"""What a frozen probe said of another cohort, and what it is worth there."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gigassl.evaluate.calibration import CalibrationFit
from gigassl.evaluate.comparison import Comparison
from gigassl.evaluate.operating_point import Rate
from gigassl.evaluate.predictions import Predictions
from gigassl.report.numbers import as_records
from gigassl.report.tables import as_text


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Calibration of one method on the other cohort, and what its threshold does there."""

    method: str
    fit: CalibrationFit


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictResult:
    """What was predicted, and the external validation where labels are known.

    Attributes:
        out: the file of the predictions.
        predictions: as written.
        comparison: scores on the other cohort; None without labels.
        rates: at the frozen threshold; of two classes only.
        calibration: before and after the frozen calibration; of two classes only.
        threshold_said: which class is decided for from which probability.
        notes: what was left out, and what to keep in mind.
    """

    out: Path
    predictions: Predictions
    comparison: Comparison | None
    rates: tuple[Rate, ...]
    calibration: tuple[Agreement, ...]
    notes: tuple[str, ...]
    threshold_said: str = ""
    failures: tuple[object, ...] = ()
    interrupted: bool = False

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``; what is no number is null."""
        compared = {} if self.comparison is None else as_records(self.comparison)
        return {
            **compared,
            "out": str(self.out),
            "rows": len(self.predictions),
            "rates": [_json_ready(asdict(rate)) for rate in self.rates],
            "calibration": [
                {"method": each.method, **_json_ready(asdict(each.fit))}
                for each in self.calibration
            ],
            "notes": [*self.notes, *compared.get("notes", [])],
        }

    def sentence(self) -> str:
        """Notes, the external table, what threshold and calibration do there."""
        n_slides = len(set(self.predictions.data["slide_id"].to_pylist()))
        parts = ["\n".join(self.notes)]
        if self.comparison is not None:
            parts.append(as_text(self.comparison).rstrip())
        if self.rates:
            head = f"At the frozen threshold, {self.threshold_said}:"
            parts.append("\n".join([head, *map(_rate_line, self.rates)]))
        if self.calibration:
            lines = [_calibration_line(each.method, each.fit) for each in self.calibration]
            head = "Calibration (slope 1 and intercept 0 are right; slope below 1: too sure):"
            parts.append("\n".join([head, *lines]))
        parts.append(f"predictions of {n_slides} slides in {self.out}")
        return "\n\n".join(part for part in parts if part)


def _calibration_line(method: str, fit: CalibrationFit) -> str:
    """What is said of one method.

    >>> _calibration_line("probe", CalibrationFit(slope=math.nan, intercept=0.5)).strip()
    'probe: slope none (no class overlaps another), intercept +0.50'
    """
    slope = f"{fit.slope:.2f}" if math.isfinite(fit.slope) else "none (no class overlaps another)"
    return f"  {method}: slope {slope}, intercept {fit.intercept:+.2f}"


def _rate_line(rate: Rate) -> str:
    within = f"({rate.low:.3f} to {rate.high:.3f})"
    return f"  {rate.name} {rate.value:.3f} {within}, {rate.hits} of {rate.of}"


def _json_ready(record: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in record.items()
    }
