"""Evaluation on a page: its numbers are those of ``compare``, and nothing that is named runs."""

import json
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from lifelines import KaplanMeierFitter
from sklearn.metrics import confusion_matrix as sklearn_confusion

from gigassl.errors import SettingsError
from gigassl.evaluate.comparison import CompareSettings, Comparison, compare
from gigassl.evaluate.operating_point import YOUDEN, threshold_of
from gigassl.evaluate.predictions import Method, Predictions, joined, rows_of_split
from gigassl.evaluate.task import Task
from gigassl.report.page.confusion import confusion_matrix
from gigassl.report.page.curves import curve_figures
from gigassl.report.page.evaluation import evaluation_sections
from gigassl.report.page.evaluation_parts import looks_of
from gigassl.report.page.evaluation_survival import divided
from gigassl.report.page.evaluation_table import axis_of
from gigassl.report.page.evaluation_values import slide_means
from gigassl.report.page.section import Section
from tests.evaluate.prediction_tables import folds_of, holdout_of, predictions_of, task_of

SETTINGS = CompareSettings(draws=100)
METHODS = [
    (Method(name="vectors · giga-ssl"), 1.2),
    (Method(name="abmil"), 0.7),
    (Method(name="tile-count", control="tile-count"), 0.1),
]


def classified(
    *sizes: str, methods: Sequence[tuple[Method, float]] = METHODS, n_classes: int = 2
) -> Predictions:
    task = task_of(list(range(n_classes)) * 24)
    splits = [split for size in sizes for split in folds_of(task, size=size)]
    return predictions_of(task, splits, methods)


def valued(kind: str) -> Predictions:
    """Values or survival times of 40 patients, 10 of them with a second slide."""
    rng = np.random.default_rng(0)
    patients = [f"p{k}" for k in range(40)] + [f"p{k}" for k in range(10)]
    target = rng.exponential(size=40)[[*range(40), *range(10)]] + 0.1
    event = (rng.random(40) < 0.7)[[*range(40), *range(10)]]
    task = Task(
        name="years", kind="survival" if kind == "survival" else "regression",
        slide_ids=tuple(f"s{k}" for k in range(50)), patient_ids=tuple(patients),
        sites=("",) * 50, target=target, event=event if kind == "survival" else None,
    )  # fmt: skip
    sign = -1 if kind == "survival" else 1
    tables = [
        rows_of_split(
            task, split, sign * target[split.test, None] + rng.normal(size=(len(split.test), 1)),
            method=Method(name=name),
        )
        for name in ("one", "other")
        for split in folds_of(task, k=3)
    ]  # fmt: skip
    return joined(task.kind, tables, provenance={})


def rows_of(section: Section) -> list[list[str]]:
    """Cells of all tables, as a reader sees them."""
    rows = re.findall(r"<tr>(.*?)</tr>", str(section.body), flags=re.DOTALL)
    return [
        [unescape(re.sub(r"<svg.*?</svg>|<[^>]+>", "", cell, flags=re.DOTALL)).strip()
         for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, flags=re.DOTALL)]
        for row in rows
    ]  # fmt: skip


def figures_of(body: str) -> list[dict[str, Any]]:
    found = re.findall(r'<script type="application/json">(.*?)</script>', body, flags=re.DOTALL)
    return [json.loads(text) for text in found]


def compared(predictions: Predictions) -> Comparison:
    return compare([predictions], settings=SETTINGS)


def test_numbers_are_those_of_compare() -> None:
    predictions = classified("20", "full")
    (section,) = evaluation_sections([predictions], settings=SETTINGS)
    rows = rows_of(section)
    for table in compared(predictions).tables:
        for row in table.rows:
            score, ece = row.scores["auc"], row.scores["calibration_error"]
            name = row.method + ("control" if row.control else "")
            expected = [name, f"{score.mean:.3f} ± {score.sd:.3f}",
                        f"{score.low:.3f} – {score.high:.3f}"]  # fmt: skip
            (found,) = (cells for cells in rows if cells[:3] == expected)
            assert f"{row.scores['balanced_accuracy'].mean:.3f}" in found
            pooled = f"{score.pooled:.3f} ({score.pooled_low:.3f} – {score.pooled_high:.3f})"
            assert pooled in found
            if not row.control:
                assert [row.method, f"{ece.pooled:.3f}", f"{ece.mean:.3f}"] in [r[:3] for r in rows]


def test_the_best_is_marked_only_where_it_is_better_beyond_chance() -> None:
    for strength, marked in ((4.0, True), (0.72, False)):
        methods = [(Method(name="first"), strength), *METHODS[1:]]
        (section,) = evaluation_sections([classified("full", methods=methods)], settings=SETTINGS)
        assert ('class="tag best"' in section.body) is marked
        assert ("cannot be told from" in section.body) is not marked
        assert ("better in AUC than every other method" in section.body) is marked


def test_one_method_one_size_and_no_predictions() -> None:
    alone = classified("full", methods=METHODS[:1])
    (section,) = evaluation_sections([alone], settings=SETTINGS)
    assert "There is one training size, so there is no learning curve" in section.body
    assert "verdict" not in section.body
    assert evaluation_sections([]) == ()
    empty = Predictions(kind="classification", data=alone.data.slice(0, 0), provenance={})
    assert evaluation_sections([empty]) == ()


def test_curves_have_a_band_and_the_interval_of_each_size() -> None:
    # abmil was not run on the smallest size
    data = classified("8", "20", "full").data
    keep = [not (m == "abmil" and s == "8") for m, s in zip(
        data["method"].to_pylist(), data["train_size"].to_pylist(), strict=True)]  # fmt: skip
    predictions = Predictions(
        kind="classification", data=data.filter(pa.array(keep)), provenance={}
    )
    comparison = compared(predictions)
    (drawn,) = figures_of(str(curve_figures(comparison, looks=looks_of(comparison.tables))))
    lines = {trace["name"]: trace for trace in drawn["data"] if "name" in trace}
    assert {name: trace["x"] for name, trace in lines.items()} == {
        "vectors · giga-ssl": [8, 20, 36], "abmil": [20, 36], "tile-count": [8, 20, 36]
    }  # fmt: skip
    expected = {t.block.train_size: {r.method: r.scores["auc"] for r in t.rows}
                for t in comparison.tables}  # fmt: skip
    scores = [expected[size]["vectors · giga-ssl"] for size in ("8", "20", "full")]
    assert lines["vectors · giga-ssl"]["y"] == [score.mean for score in scores]
    bands = [trace for trace in drawn["data"] if trace.get("fill") == "toself"]
    assert [band["legendgroup"] for band in bands] == ["vectors · giga-ssl", "abmil"]
    there_and_back = [*(s.high for s in scores), *(s.low for s in reversed(scores))]
    assert bands[0]["y"] == there_and_back
    assert drawn["layout"]["xaxis"]["type"] == "log"
    assert drawn["layout"]["xaxis"]["ticktext"] == ["8", "20", "36<br>full"]


def test_a_method_has_one_look_in_all_tasks() -> None:
    first, second = compared(classified("full")), compared(valued("regression"))
    looks = looks_of([*first.tables, *second.tables])
    assert len({(look.colour, look.symbol) for look in looks.values()}) == 5
    assert looks["tile-count"].dash == "dot"


def test_confusion_matrices_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, decided = rng.integers(0, 3, 50), rng.integers(0, 3, 50)
    expected = sklearn_confusion(labels, decided, labels=range(4))
    assert np.array_equal(confusion_matrix(labels, decided, n_classes=4), expected)


def test_confusions_count_rows_at_both_thresholds() -> None:
    predictions = classified("full")
    (section,) = evaluation_sections([predictions], settings=SETTINGS)
    (table,) = compared(predictions).tables
    found = [int(text) for text in re.findall(r"<b>(\d+)</b><small>", str(section.body))]
    expected: list[int] = []
    for row in sorted(table.rows, key=lambda r: (bool(r.control), -r.scores["auc"].mean)):
        said = next(each for each in table.block.methods if each.method == row.method)
        labels, p = table.block.outcome.labels, said.output[:, 1]
        cut = threshold_of(labels == 1, p, rule=YOUDEN)
        for decided in (p > 0.5, p >= cut):
            expected += sklearn_confusion(labels, decided.astype(int)).ravel().tolist()
    assert found == expected


def test_several_classes_have_a_diagram_each_and_no_threshold() -> None:
    (section,) = evaluation_sections([classified("full", n_classes=3)], settings=SETTINGS)
    alts = re.findall(r'aria-label="Reliability of the probability of (\w)', str(section.body))
    assert alts == ["a", "b", "c"]
    assert "Youden" not in section.body


def test_values_are_drawn_as_the_mean_of_a_slides_predictions() -> None:
    predictions = valued("regression")
    (section,) = evaluation_sections([predictions], settings=SETTINGS)
    (table,) = compared(predictions).tables
    names, true, value = slide_means(table.block, table.block.methods[0])
    frame = predictions.data.to_pandas().query("method == 'one'").groupby("slide_id").mean(
        numeric_only=True
    )  # fmt: skip
    assert names == frame.index.tolist()
    assert true == pytest.approx(frame["y_true"])
    assert value == pytest.approx(frame["value"])
    points = [f for f in figures_of(str(section.body)) if f["data"][1]["mode"] == "markers"]
    drawn = [each["data"][1]["y"] for each in points]
    assert len(drawn) == 2
    assert any(np.allclose(each, value, rtol=1e-4) for each in drawn)
    assert "Spearman ρ" in section.body


def test_many_slides_are_thinned_and_it_is_said() -> None:
    n, rng = 2500, np.random.default_rng(0)
    task = Task(
        name="years", kind="regression", slide_ids=tuple(f"s{k:04d}" for k in range(n)),
        patient_ids=tuple(f"p{k}" for k in range(n)), sites=("",) * n, target=rng.normal(size=n),
    )  # fmt: skip
    (split,) = holdout_of(task)
    said = rng.normal(size=(len(split.test), 1))
    table = rows_of_split(task, split, said, method=Method(name="one"))
    found = joined("regression", [table], provenance={})
    (section,) = evaluation_sections([found], settings=SETTINGS)
    assert "one in 3 of 2,496 slides" in section.body
    (drawn,) = figures_of(str(section.body))
    assert len(drawn["data"][1]["x"]) == 832


def test_survival_is_kaplan_and_meiers_of_patients_divided_within_their_fold() -> None:
    predictions = valued("survival")
    (section,) = evaluation_sections([predictions], settings=SETTINGS)
    (table,) = compared(predictions).tables
    frame = predictions.data.to_pandas().query("method == 'one'")
    risk = frame.groupby(["fold", "patient_id"])["risk"].mean()
    high = risk > risk.groupby("fold").transform("median")
    facts = frame.groupby(["fold", "patient_id"])[["time", "event"]].first()
    found = divided(table.block, table.block.methods[0])
    assert len(found.time) == 40
    assert sorted(found.time[found.high]) == sorted(facts["time"][high])
    order = [row.method for row in table.rows]
    best = max(order, key=lambda m: next(
        r for r in table.rows if r.method == m).scores["c_index"].mean)  # fmt: skip
    curves = figures_of(str(section.body))[0 if best == "one" else 1]["data"]
    line = next(t for t in curves if t.get("name", "").startswith("higher risk"))
    fitter = KaplanMeierFitter().fit(facts["time"][high], facts["event"][high])
    slow = fitter.survival_function_at_times(np.multiply(line["x"], 1.0001)).to_numpy()
    assert line["y"] == pytest.approx(slow, rel=1e-4)
    bands = [t for t in curves if t.get("fill") == "tonexty"]
    bounds = fitter.confidence_interval_survival_function_.iloc[:, 1]
    for x, y in zip(bands[0]["x"][1:-1], bands[0]["y"][1:-1], strict=True):
        assert y == pytest.approx(bounds.loc[: x * 1.0001].iloc[-1], rel=1e-4)


def test_all_kinds_have_a_section_of_their_own() -> None:
    tables = [valued("survival"), classified("full"), valued("regression")]
    sections = evaluation_sections(tables, settings=SETTINGS)
    assert [section.title for section in sections] == [
        "Evaluation: subtype", "Evaluation: years", "Evaluation: years"
    ]  # fmt: skip
    assert len({section.anchor for section in sections}) == 3


def test_what_encoders_saw_and_notes_stand_there_once() -> None:
    task = task_of([0, 1] * 8)
    seen = Method(name="seen", seen=frozenset(task.slide_ids[:8]))
    splits = [s for size in ("4", "full") for s in folds_of(task, size=size)]
    found = predictions_of(task, splits, [(seen, 1.0), (Method(name="other"), 1.0)])
    (section,) = evaluation_sections([found], settings=SETTINGS)
    assert "on slides that are tested here: seen (50%)." in section.body
    assert section.body.count("16 patients; intervals and p-values of fewer than 20") == 1


def test_names_are_text_in_tables_and_figures() -> None:
    evil = "</script><script>alert(1)</script><b>x"
    task = task_of([0, 1] * 12, name=evil)
    task = Task(
        name=evil, kind="classification", slide_ids=task.slide_ids, patient_ids=task.patient_ids,
        sites=task.sites, classes=("a", evil), target=task.target,
    )  # fmt: skip
    splits = [s for size in ("8", "full") for s in folds_of(task, size=size)]
    methods = [(Method(name=evil), 1.0), (Method(name=f"{evil}2"), 0.5)]
    (section,) = evaluation_sections([predictions_of(task, splits, methods)], settings=SETTINGS)
    assert "<script>alert" not in section.body
    assert "<b>x" not in section.body
    for drawn in figures_of(str(section.body)):
        assert "<script>" not in json.dumps(drawn)


def test_scores_that_are_no_probabilities_decide_nothing_and_are_named() -> None:
    task = task_of([0, 1] * 12)
    logits = np.stack([-task.target, task.target], axis=1) * 3 + np.arange(24)[:, None] % 3
    tables = [
        rows_of_split(task, split, logits[split.test], method=Method(name="logits"))
        for split in folds_of(task)
    ]
    found = joined("classification", tables, provenance={})
    (section,) = evaluation_sections([found], settings=SETTINGS)
    assert "What &#39;logits&#39; said are no probabilities" in section.body
    assert "Left out, because its scores are no probabilities: logits." in section.body
    assert not figures_of(str(section.body))


def test_the_same_predictions_give_the_same_page() -> None:
    first, second = (
        evaluation_sections([classified("8", "full")], settings=SETTINGS) for _ in range(2)
    )
    assert first == second


def test_an_axis_holds_every_interval_and_chance_where_it_is_near() -> None:
    comparison = compared(classified("full"))
    rows = comparison.tables[0].rows
    axis = axis_of(rows, comparison.metric)
    scores = [row.scores["auc"] for row in rows]
    assert axis.low <= min(score.low for score in scores)
    assert axis.high == max(score.high for score in scores)
    assert axis.chance == 0.5
    assert axis.place(axis.low) == 8
    assert axis.place(axis.high) == 182
    assert axis.place(float("nan")) is None


def test_tables_that_differ_are_refused(tmp_path: Path) -> None:
    one = classified("full", methods=METHODS[:1])
    other = classified("full", methods=METHODS[:1])
    changed = other.data.set_column(
        other.data.column_names.index("p_a"), "p_a", pa.array([0.5] * len(other))
    )
    with pytest.raises(SettingsError):
        evaluation_sections(
            [one, Predictions(kind="classification", data=changed, provenance={})],
            settings=SETTINGS,
        )
