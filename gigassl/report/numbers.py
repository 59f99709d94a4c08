"""Numbers of a comparison as CSV: nothing rounded, one file a kind of row."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gigassl.evaluate.blocks import Block
from gigassl.evaluate.comparison import Comparison
from gigassl.evaluate.scores import DELTAS, BlockScores, MethodScores


def as_csv(comparison: Comparison) -> str:
    """One row a block and method: means over folds, pooled numbers, intervals, differences."""
    return csv_text([row for table in comparison.tables for row in _score_rows(table)])


def pairs_as_csv(comparison: Comparison) -> str:
    """One row a test against the reference."""
    return csv_text([asdict(pair) for pair in comparison.pairs])


def folds_as_csv(comparison: Comparison) -> str:
    """One row a block, method and fold: every metric; empty where it is not defined."""
    return csv_text([row for table in comparison.tables for row in _fold_rows(table)])


def as_records(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON-ready values; NaN as null."""
    scores = [row for table in comparison.tables for row in _score_rows(table)]
    return {
        "metric": comparison.metric.name,
        "scores": [_json_ready(row) for row in scores],
        "pairs": [_json_ready(asdict(pair)) for pair in comparison.pairs],
        "notes": list(comparison.notes),
    }


def _score_rows(table: BlockScores) -> Iterator[dict[str, Any]]:
    for row in table.rows:
        yield {
            **_block_facts(table.block),
            **_method_facts(row),
            "n_slides": table.block.n_slides,
            "n_patients": table.block.n_patients,
            "n_folds": table.block.n_folds,
            "seen": row.seen,
            **{key: value for name in row.scores for key, value in _score_facts(row, name)},
            **{key: value for name in DELTAS for key, value in _delta_facts(row, name)},
        }


def _fold_rows(table: BlockScores) -> Iterator[dict[str, Any]]:
    block = table.block
    for row in table.rows:
        for number, (draw, fold) in enumerate(block.fold_names):
            yield {
                **_block_facts(block),
                **_method_facts(row),
                "draw": draw,
                "fold": fold,
                "n_train": block.n_train[number],
                "n_test": int((block.folds == number).sum()),
                **{name: score.folds[number] for name, score in row.scores.items()},
            }


def _block_facts(block: Block) -> dict[str, Any]:
    names = ("task", "split", "train_size", "level")
    return {name: getattr(block, name) for name in names}


def _method_facts(row: MethodScores) -> dict[str, Any]:
    return {"method": row.method, "control": row.control, "control_of": row.control_of}


def _score_facts(row: MethodScores, name: str) -> Iterator[tuple[str, Any]]:
    score = row.scores[name]
    yield f"{name}_fold_mean", score.mean
    yield f"{name}_fold_sd", score.sd
    yield f"{name}_fold_mean_low", score.low
    yield f"{name}_fold_mean_high", score.high
    yield f"{name}_fold_mean_interval", score.interval
    yield f"{name}_pooled", score.pooled
    yield f"{name}_pooled_low", score.pooled_low
    yield f"{name}_pooled_high", score.pooled_high
    yield f"{name}_folds_undefined", sum(math.isnan(value) for value in score.folds)


def _delta_facts(row: MethodScores, control: str) -> Iterator[tuple[str, Any]]:
    delta = row.deltas.get(control)
    for fact in ("difference", "low", "high", "interval"):
        yield f"minus_{control}_{fact}", None if delta is None else getattr(delta, fact)


def _json_ready(row: Mapping[str, Any]) -> dict[str, Any]:
    empty = {k for k, v in row.items() if isinstance(v, float) and math.isnan(v)}
    return {
        k: None if k in empty else float(v) if isinstance(v, float) else v for k, v in row.items()
    }


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, with every column that one of them has; empty where there is no number."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    if columns:
        writer.writeheader()
    writer.writerows([{k: "" if v is None else v for k, v in _json_ready(r).items()} for r in rows])
    return text.getvalue()
