"""Explained slides in words: what a score is, titles, and the table of all slides."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float64
from numpy import ndarray

from gigassl.evaluate.explain.record import ExplainedSlide
from gigassl.files import written_whole
from gigassl.pipeline.explain_models import Explainable


def answer_of(model: Explainable) -> str:
    """What a model without classes says."""
    return "risk" if model.kind == "survival" else "value"


def named(model: Explainable, answer: Float64[ndarray, " answer"]) -> dict[str, float]:
    """What a model says, by class or as its one number."""
    names = model.classes or (answer_of(model),)
    return dict(zip(names, answer.tolist(), strict=True))


def title_of(record: ExplainedSlide) -> str:
    """What stands above a heatmap."""
    answer = record.answer[record.explained]
    what = f"{record.explained} {answer:.3g}"
    if record.asked:
        truth = f"; true class '{record.y_true}'" if record.y_true else ""
        what = f"class '{record.explained}' ({record.asked}), probability {answer:.3f}{truth}"
    seen = "LEARNED FROM THIS SLIDE OR ITS PATIENT" if record.learned_from else "never saw it"
    return f"{record.slide_id}: {what}\n{record.how}\n{record.method}, {record.model}: {seen}"


def save_slide_table(slides: Sequence[ExplainedSlide], path: Path) -> None:
    """One row a slide."""
    facts = ("slide_id", "patient_id", "method", "model", "learned_from", "explained", "asked",
             "y_true", "meaning", "output", "offset", "completeness_error", "n_tiles", "n_unseen",
             "in_tiles", "mask_note")  # fmt: skip
    rows = [_row(slide, facts) for slide in slides]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with written_whole(path) as part, part.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)


def _row(slide: ExplainedSlide, facts: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(slide, name) for name in facts}
    prefix = "p_" if slide.asked else ""
    row |= {f"{prefix}{name}": value for name, value in slide.answer.items()}
    for prefix, found in (("", slide.agreement), ("shuffled_", slide.chance)):
        if found is not None:
            row |= {f"{prefix}{name}": value for name, value in vars(found).items()}
    return row
