"""Tables: the same cells in every form, and a legend that says what they are."""

import csv
import io
import json

import numpy as np
import pytest

from gigassl.evaluate.comparison import CompareSettings, Comparison, compare
from gigassl.evaluate.predictions import Method
from gigassl.report.numbers import as_csv, as_records, folds_as_csv, pairs_as_csv
from gigassl.report.tables import (
    as_latex,
    as_markdown,
    as_text,
    grids,
    number,
    p_value,
    signed,
    tex,
)
from tests.evaluate.prediction_tables import folds_of, predictions_of, task_of

METHODS = [
    (Method(name="v · logistic", seen=frozenset(["s001"])), 1.2),
    (Method(name="abmil_x & co"), 0.8),
    (Method(name="v, mean · logistic", control="mean", control_of="v"), 0.4),
]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    task = task_of([0, 1] * 24, patients=[f"p{i // 2}" for i in range(48)], name="her_2")
    return compare(
        [predictions_of(task, folds_of(task), METHODS)], settings=CompareSettings(draws=100)
    )


def test_every_cell_stands_in_every_form(comparison: Comparison) -> None:
    texts = (as_text(comparison), as_markdown(comparison))
    latex = as_latex(comparison)
    for grid in grids(comparison):
        for cell in (cell for row in (grid.header, *grid.rows) for cell in row):
            assert all(cell in text for text in texts)
            assert tex(cell) in latex


def test_a_table_says_what_its_numbers_are(comparison: Comparison) -> None:
    text = as_text(comparison)
    for words in (
        "48 slides tested of 24 patients, 4 folds", "36 slides learned from", "sd (ddof 1)",
        "pooled AUC", "Δ mean", "100 bootstrap draws of patients", "class 'b'", "Holm over the 1",
        "corrected resampled t", "patient bootstrap", "v, mean · logistic (control)", "not known",
    ):  # fmt: skip
        assert words in text, words


def test_lines_of_the_text_are_aligned(comparison: Comparison) -> None:
    block = as_text(comparison).split("\n\n")[1].splitlines()
    start = block[0].index("AUC")
    assert len(block) == 5
    assert all(line[start - 1] == " " and line[start] != " " for line in block)


def test_latex_is_whole(comparison: Comparison) -> None:
    latex = as_latex(comparison)
    for name in ("table", "tabular"):
        assert latex.count(rf"\begin{{{name}}}") == latex.count(rf"\end{{{name}}}") == 3
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert r"abmil\_x \& co" in latex
    assert all(part in latex for part in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert not any(letter in line for line in rows for letter in "±Δ·–")


def test_csv_holds_what_was_computed(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(comparison))))
    row = comparison.tables[0].rows[0]
    assert len(rows) == 3
    assert float(rows[0]["auc_fold_mean"]) == row.scores["auc"].mean
    assert float(rows[0]["auc_pooled_high"]) == row.scores["auc"].pooled_high
    assert float(rows[0]["minus_mean_difference"]) == row.deltas["mean"].difference
    assert rows[1]["minus_mean_difference"] == ""
    folds = list(csv.DictReader(io.StringIO(folds_as_csv(comparison))))
    own = [float(fold["auc"]) for fold in folds if fold["method"] == "v · logistic"]
    assert own == list(row.scores["auc"].folds)
    pairs = list(csv.DictReader(io.StringIO(pairs_as_csv(comparison))))
    assert [float(pair["p"]) for pair in pairs] == [pair.p for pair in comparison.pairs]


def test_records_are_strict_json() -> None:
    task = task_of([0, 1] * 24)
    rows = np.flatnonzero(np.arange(48) % 2 == 0)  # a fold of one class
    splits = [*folds_of(task)[:2], folds_of(task)[2]]
    splits[2] = type(splits[2])(
        scheme="patient-kfold", fold=2, train=np.setdiff1d(np.arange(48), rows), test=rows
    )
    found = compare([predictions_of(task, splits, METHODS)], settings=CompareSettings(draws=100))
    text = json.dumps(as_records(found), allow_nan=False)
    assert json.loads(text)["scores"][0]["auc_folds_undefined"] == 1


def test_numbers_as_they_are_shown() -> None:
    assert [number(0.12349), number(float("nan"))] == ["0.123", "–"]
    assert [signed(0.1), signed(-0.1), signed(float("nan"))] == ["+0.100", "-0.100", "–"]
    assert [p_value(0.0004), p_value(0.04)] == ["< .001", "0.040"]
