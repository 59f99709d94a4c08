"""Table of tile encoders: what each is worth on labelled images, how fast and how large it is."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gigassl.evaluate.pairs import Pair
from gigassl.evaluate.scores import Delta, Score
from gigassl.report.numbers import csv_text
from gigassl.report.tables import MISSING, Grid, number, signed


@dataclass(frozen=True, kw_only=True, eq=False)
class EncoderRow:
    """A row of the table; None where a control has no such thing.

    Attributes:
        name: of the encoder or control.
        control: "" for an encoder, else which control it is.
        width: length of the features.
        mpp: µm/px that it expects.
        licence: of the weights.
        auc, balanced_accuracy: of the linear probe.
        knn: balanced accuracy of the nearest neighbours.
        over_first: AUC minus that of the first encoder, paired.
        over_random: AUC minus that of its network with random weights, paired.
        tiles_per_s: of encoding alone.
        weight_bytes: of the weights.
    """

    name: str
    control: str
    width: int
    mpp: float | None = None
    licence: str = ""
    auc: Score
    balanced_accuracy: Score
    knn: Score
    over_first: Pair | None = None
    over_random: Delta | None = None
    tiles_per_s: float | None = None
    weight_bytes: int | None = None


Cell = Callable[[EncoderRow], str]


def encoder_grid(rows: Sequence[EncoderRow], *, title: str, inside: str) -> Grid:
    """The table as text cells.

    Args:
        rows: encoders and controls.
        title: what stands above it.
        inside: what intervals hold ("95%").
    """
    columns: list[tuple[str, Cell]] = [
        ("encoder", lambda row: f"{row.name} (control)" if row.control else row.name),
        ("AUC", lambda row: number(row.auc.mean)),
        (f"{inside} interval", lambda row: _range(row.auc.low, row.auc.high)),
        ("bal. acc.", lambda row: number(row.balanced_accuracy.mean)),
        ("kNN bal. acc.", lambda row: number(row.knn.mean)),
    ]
    if any(row.over_first for row in rows):
        columns.append(("Δ first", lambda row: _difference(row.over_first)))
    if any(row.over_random for row in rows):
        columns.append(("Δ random", lambda row: _difference(row.over_random)))
    columns += [
        ("tiles/s", lambda row: _rate(row.tiles_per_s)),
        ("MB", lambda row: _megabytes(row.weight_bytes)),
        ("width", lambda row: str(row.width)),
        ("µm/px", lambda row: MISSING if row.mpp is None else f"{row.mpp:g}"),
        ("licence", lambda row: row.licence or MISSING),
    ]
    return Grid(
        title=title,
        header=tuple(name for name, _ in columns),
        rows=tuple(tuple(cell(row) for _, cell in columns) for row in rows),
    )


def encoder_records(rows: Sequence[EncoderRow]) -> list[dict[str, Any]]:
    """One record a row, nothing rounded, NaN as None."""
    return [{key: _ready(value) for key, value in _record(row).items()} for row in rows]


def encoder_csv(rows: Sequence[EncoderRow]) -> str:
    """The same numbers as CSV; empty where there is none."""
    return csv_text(encoder_records(rows))


def _record(row: EncoderRow) -> dict[str, Any]:
    facts = ("name", "control", "width", "mpp", "licence", "tiles_per_s", "weight_bytes")
    scores = {"auc": row.auc, "balanced_accuracy": row.balanced_accuracy,
              "knn_balanced_accuracy": row.knn}  # fmt: skip
    found = {name: getattr(row, name) for name in facts}
    for name, score in scores.items():
        found |= {name: score.mean, f"{name}_sd": score.sd, f"{name}_low": score.low,
                  f"{name}_high": score.high}  # fmt: skip
    for name, each in (("minus_first", row.over_first), ("minus_random", row.over_random)):
        for fact in ("difference", "low", "high"):
            found[f"{name}_{fact}"] = None if each is None else getattr(each, fact)
    found["minus_first_p_adjusted"] = None if row.over_first is None else row.over_first.p_adjusted
    return found


def _ready(value: Any) -> Any:
    if isinstance(value, str) or value is None or isinstance(value, int):
        return value
    return None if math.isnan(value) else float(value)


def _range(low: float, high: float) -> str:
    return MISSING if math.isnan(low) else f"[{number(low)}, {number(high)}]"


def _difference(found: Pair | Delta | None) -> str:
    if found is None:
        return ""
    if math.isnan(found.low):
        return signed(found.difference)
    return f"{signed(found.difference)} [{signed(found.low)}, {signed(found.high)}]"


def _rate(tiles_per_s: float | None) -> str:
    return MISSING if tiles_per_s is None else f"{tiles_per_s:.3g}"


def _megabytes(weight_bytes: int | None) -> str:
    return MISSING if weight_bytes is None else f"{weight_bytes / 1e6:.3g}"
