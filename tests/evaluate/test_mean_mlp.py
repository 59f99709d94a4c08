"""A small network on mean vectors learns what a line cannot, on the same splits."""

import numpy as np

from gigassl.evaluate.mean_mlp import mean_mlp
from gigassl.evaluate.predictions import COLUMNS
from gigassl.evaluate.probes import ProbeSettings, run_probe
from gigassl.evaluate.splits import SplitSettings, make_splits
from gigassl.evaluate.task import Task
from gigassl.evaluate.vector_set import VectorSet


def ring(n: int = 160) -> tuple[Task, VectorSet]:
    """Two classes: near the middle, and around it."""
    rng = np.random.default_rng(0)
    target = np.arange(n) % 2
    angle = rng.uniform(0, 2 * np.pi, n)
    radius = np.where(target == 1, 3.0, 1.0) * rng.uniform(0.8, 1.2, n)
    names = tuple(f"s{number:03}" for number in range(n))
    task = Task(
        name="ring", kind="classification", slide_ids=names, patient_ids=names, sites=("",) * n,
        classes=("in", "out"), target=target.astype(np.float64),
    )  # fmt: skip
    vectors = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    order = rng.permutation(n)
    mean = VectorSet(
        name="v, mean", slide_ids=tuple(names[i] for i in order),
        vectors=vectors[order].astype(np.float32), control="mean", control_of="v",
    )  # fmt: skip
    return task, mean


def share_right(rows: object) -> float:
    table = rows.to_pylist()  # type: ignore[attr-defined]
    return float(np.mean([row[f"p_{row['y_true']}"] > 0.5 for row in table]))


def test_it_learns_what_a_line_cannot_and_stands_as_a_control() -> None:
    task, mean = ring()
    splits = make_splits(task, SplitSettings(folds=2))
    rows = mean_mlp(task, mean, splits)
    assert rows.column_names[: len(COLUMNS)] == list(COLUMNS)
    first = rows.slice(0, 1).to_pylist()[0]
    assert (first["method"], first["control"], first["control_of"]) == (
        "v, mean+mlp · mlp", "mean+mlp", "v",
    )  # fmt: skip
    linear = run_probe(task, mean, splits, settings=ProbeSettings(strength=1.0))
    assert rows["slide_id"].to_pylist() == linear["slide_id"].to_pylist()
    assert share_right(rows) > 0.85
    assert share_right(linear) < 0.65
    assert mean_mlp(task, mean, splits).equals(rows)
    assert not mean_mlp(task, mean, splits, seed=1).equals(rows)
