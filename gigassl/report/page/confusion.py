"""Confusion matrices: what was decided of the slides of each class."""

import numpy as np
from jaxtyping import Int64
from markupsafe import Markup

from gigassl.evaluate.blocks import Block, Said
from gigassl.evaluate.metric_draws import are_probabilities
from gigassl.evaluate.operating_point import YOUDEN, threshold_of
from gigassl.report.page.evaluation_parts import choice
from gigassl.report.page.section import heading, joined_parts, notes, rendered

LIKELIEST = "most probable class"


def confusions(block: Block, order: tuple[str, ...]) -> Markup:
    """Matrices of the methods in that order, one seen at a time.

    Every test row counts: a slide that several folds or repeats test counts as often.
    """
    said = {each.method: each for each in block.methods}
    options = [(name, _of_method(block, said[name])) for name in order]
    return joined_parts([heading("Confusion"), choice("Method", options)])


def confusion_matrix(
    labels: Int64[np.ndarray, " row"], decided: Int64[np.ndarray, " row"], *, n_classes: int
) -> Int64[np.ndarray, "true decided"]:
    """Rows of each class (down) that were decided to be of each class (across)."""
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(counts, (labels, decided), 1)
    return counts


def _of_method(block: Block, said: Said) -> Markup:
    if not are_probabilities(said.output):
        return notes([f"What '{said.method}' said are no probabilities, so it decides nothing."])
    decided = said.output.argmax(axis=1).astype(np.int64)
    why = "The class with the highest probability, as in balanced accuracy and F1 of the table."
    ways = [(LIKELIEST, _matrix(block, decided, why=why))]
    positive = block.outcome.labels == 1
    if len(block.classes) == 2 and 0 < positive.sum() < len(positive):
        ways.append(_at_youden(block, said))
    return choice("Decided by", ways)


def _at_youden(block: Block, said: Said) -> tuple[str, Markup]:
    probability = said.output[:, 1]
    threshold = threshold_of(block.outcome.labels == 1, probability, rule=YOUDEN)
    decided = (probability >= threshold).astype(np.int64)
    why = (
        f"'{block.classes[1]}' from a probability of {threshold:.3f}: Youden's threshold, which "
        "gigassl fit would freeze. It was chosen on these same predictions, so it looks a little "
        "too good here."
    )
    return f"Youden's threshold, {threshold:.3f}", _matrix(block, decided, why=why)


def _matrix(block: Block, decided: Int64[np.ndarray, " row"], *, why: str) -> Markup:
    counts = confusion_matrix(block.outcome.labels, decided, n_classes=len(block.classes))
    rows = [
        {"name": name, "cells": [_cell(row, k, right=k == true) for k in range(len(row))]}
        for true, (name, row) in enumerate(zip(block.classes, counts, strict=True))
    ]
    matrix = rendered("confusion.html", classes=block.classes, rows=rows)
    return joined_parts([matrix, notes([why, _counted(block)])])


def _cell(row: Int64[np.ndarray, " decided"], place: int, *, right: bool) -> dict[str, object]:
    total = int(row.sum())
    share = row[place] / total if total else 0.0
    return {
        "count": f"{int(row[place]):,}",
        "share": f"{share:.3f}",
        "percent": f"{share:.1%}" if total else "–",
        "right": right,
    }


def _counted(block: Block) -> str:
    what = "patients" if block.level == "patient" else "slides"
    if len(block.slide_ids) == block.n_slides:
        return f"{len(block.slide_ids):,} {what}, each tested once; percentages are of a row."
    return (
        f"{len(block.slide_ids):,} tests of {block.n_slides:,} {what}: one that several folds or "
        "repeats test counts as often. Percentages are of a row."
    )
