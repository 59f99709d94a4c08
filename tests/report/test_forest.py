"""The forest plot: every method has its row; equal comparisons, equal bytes."""

from pathlib import Path

from gigassl.evaluate.comparison import CompareSettings, Comparison, compare
from gigassl.evaluate.predictions import Method
from gigassl.report.forest import save_forest
from tests.evaluate.prediction_tables import folds_of, predictions_of, task_of

METHODS = [
    (Method(name="scm · logistic"), 2.0),
    (Method(name="scm, mean · logistic", control="mean", control_of="scm"), 1.0),
]


def _comparison() -> Comparison:
    task = task_of([0, 1] * 20)
    splits = [s for size in ("8", "full") for s in folds_of(task, size=size)]
    settings = CompareSettings(draws=100)
    return compare([predictions_of(task, splits, METHODS)], settings=settings)


def test_every_method_stands_in_the_picture_of_the_largest_training_size(tmp_path: Path) -> None:
    png, svg = save_forest(_comparison(), tmp_path / "scores.of")
    assert (png.name, svg.name) == ("scores.of.png", "scores.of.svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text(encoding="utf-8")
    for words in ("scm · logistic", "scm, mean · logistic", "patient-kfold · full", "AUC"):
        assert words in text
    assert "patient-kfold · 8" not in text


def test_equal_comparisons_give_equal_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in save_forest(_comparison(), tmp_path / "a")]
    again = [path.read_bytes() for path in save_forest(_comparison(), tmp_path / "b")]
    assert first == again
