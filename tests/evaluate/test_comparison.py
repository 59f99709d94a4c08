"""Comparison: same slides or refused, the right test for the data, controls, families."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from gigassl.errors import SettingsError
from gigassl.evaluate.blocks import make_blocks
from gigassl.evaluate.bootstrap import BootstrapSettings, resample
from gigassl.evaluate.comparison import CompareSettings, Comparison, compare
from gigassl.evaluate.delong import delong_test
from gigassl.evaluate.intervals import BOOTSTRAP, RESAMPLED_T, correction_ratio
from gigassl.evaluate.metrics import METRICS
from gigassl.evaluate.pairs import DELONG
from gigassl.evaluate.predictions import Method, Predictions, joined
from gigassl.evaluate.significance import corrected_resampled_t, holm
from tests.evaluate.prediction_tables import folds_of, holdout_of, predictions_of, task_of

LABELS = [0, 1] * 30
TWO = [(Method(name="vectors · logistic"), 1.5), (Method(name="abmil"), 0.8)]
PAIRS_OF_SLIDES = [f"p{i // 2}" for i in range(60)]


def compared(*tables: Predictions, reference: str | None = None) -> Comparison:
    return compare(tables, settings=CompareSettings(draws=200, reference=reference))


def four_folds(seed: int = 0) -> Predictions:
    task = task_of(LABELS)
    return predictions_of(task, folds_of(task), TWO, seed=seed)


def without(predictions: Predictions, keep: pa.ChunkedArray) -> Predictions:
    return replace(predictions, data=predictions.data.filter(keep))


def test_numbers_are_those_of_scikit_learn() -> None:
    predictions = four_folds()
    (table,) = compared(predictions).tables
    rows = [r for r in predictions.data.to_pylist() if r["method"] == "abmil"]
    each = [
        roc_auc_score([r["y_true"] == "b" for r in part], [r["p_b"] for r in part])
        for part in ([r for r in rows if r["fold"] == f] for f in range(4))
    ]
    score = next(row for row in table.rows if row.method == "abmil").scores["auc"]
    assert list(score.folds) == each
    assert score.mean == pytest.approx(np.mean(each), abs=1e-15)
    assert score.sd == pytest.approx(np.std(each, ddof=1), abs=1e-15)
    assert score.pooled == roc_auc_score(
        [r["y_true"] == "b" for r in rows], [r["p_b"] for r in rows]
    )
    assert score.low < score.mean < score.high
    assert score.pooled_low < score.pooled < score.pooled_high


def test_pooled_is_the_mean_over_repeats_of_all_rows_of_a_repeat() -> None:
    task = task_of(LABELS)
    splits = [split for draw in range(3) for split in folds_of(task, k=2 + draw, draw=draw)]
    predictions = predictions_of(task, splits, TWO[:1])
    (table,) = compared(predictions).tables
    rows = predictions.data.to_pylist()
    each = [
        roc_auc_score([r["y_true"] == "b" for r in part], [r["p_b"] for r in part])
        for part in ([r for r in rows if r["draw"] == d] for d in range(3))
    ]
    assert table.rows[0].scores["auc"].pooled == pytest.approx(np.mean(each), abs=1e-15)
    assert table.block.n_folds == 2 + 3 + 4


def test_one_test_set_of_independent_patients_gets_delong() -> None:
    task = task_of(LABELS)
    predictions = predictions_of(task, holdout_of(task), TWO)
    (pair,) = compared(predictions).pairs
    (block,) = make_blocks([predictions])
    expected = delong_test(
        block.outcome.labels == 1, np.stack([m.output[:, 1] for m in block.methods[::-1]], axis=1)
    )
    assert (pair.test, pair.method, pair.reference) == (DELONG, "abmil", "vectors · logistic")
    assert (pair.difference, pair.p) == (expected.difference, expected.p)


def test_several_slides_a_patient_get_the_bootstrap_over_patients() -> None:
    task = task_of(LABELS, patients=PAIRS_OF_SLIDES)
    (pair,) = compared(predictions_of(task, holdout_of(task), TWO)).pairs
    assert pair.test == BOOTSTRAP
    assert pair.n_patients == 28
    assert pair.low < pair.difference < pair.high


def test_three_classes_get_the_bootstrap() -> None:
    task = task_of([0, 1, 2] * 20)
    (pair,) = compared(predictions_of(task, holdout_of(task), TWO)).pairs
    assert pair.test == BOOTSTRAP


def test_folds_get_the_corrected_t_and_pooled_numbers_the_bootstrap() -> None:
    predictions = four_folds()
    comparison = compared(predictions)
    (block,) = make_blocks([predictions])
    results = resample(block, [METRICS["auc"]], settings=BootstrapSettings(draws=100))
    folds = results["abmil", "auc"].folds - results["vectors · logistic", "auc"].folds
    expected = corrected_resampled_t(folds, test_over_train=15 / 45)
    t, pooled = comparison.pairs
    assert (t.test, pooled.test) == (RESAMPLED_T, BOOTSTRAP)
    assert (t.p, t.low, t.high) == (expected.p, expected.low, expected.high)
    assert t.estimand == "mean AUC over 4 test sets"
    assert pooled.estimand == "pooled AUC of 60 patients"


def wilson_slowly(folds: np.ndarray, *, test_over_train: float) -> tuple[float, float]:
    """Truths p at which the mean is just t standard errors away, errors as p(1 - p) has them."""
    mean, t = folds.mean(), student.isf(0.025, len(folds) - 1)
    variance = folds.var(ddof=1) * (1 / len(folds) + test_over_train)
    truth = np.linspace(0, 1, 2_000_001)
    inside = (mean - truth) ** 2 <= t**2 * variance * truth * (1 - truth) / (mean * (1 - mean))
    return truth[inside].min(), truth[inside].max()


def test_the_interval_of_a_mean_over_folds_is_the_corrected_t_in_wilsons_form() -> None:
    task = task_of(LABELS)
    weak = (Method(name="weak"), 0.1)
    (table,) = compared(predictions_of(task, folds_of(task), [*TWO, weak])).tables
    for row in table.rows:
        score = row.scores["auc"]
        assert score.interval == RESAMPLED_T
        slow = wilson_slowly(score.folds, test_over_train=15 / 45)
        assert (score.low, score.high) == pytest.approx(slow, abs=2e-6)
    loss = table.rows[0].scores["log_loss"]
    assert loss.high == corrected_resampled_t(loss.folds, test_over_train=15 / 45).high


def test_draws_for_one_test_set_count_once_in_the_interval() -> None:
    task = task_of(LABELS)
    splits = [s for draw in range(5) for s in folds_of(task, k=3, size="10", draw=draw)]
    (table,) = compared(predictions_of(task, splits, TWO[1:])).tables
    score = table.rows[0].scores["auc"]
    each = score.folds.reshape(5, 3).mean(axis=0)
    slow = wilson_slowly(each, test_over_train=20 / 40)
    assert (score.low, score.high) == pytest.approx(slow, abs=2e-6)


def test_one_or_two_test_sets_have_the_bootstrap_and_a_note() -> None:
    task = task_of(LABELS)
    one = compared(predictions_of(task, holdout_of(task), TWO))
    assert one.tables[0].rows[0].scores["auc"].interval == BOOTSTRAP
    assert not any("models as trained" in note for note in one.notes)  # the legend says it
    two = compared(predictions_of(task, folds_of(task, k=2), TWO))
    assert two.tables[0].rows[0].scores["auc"].interval == BOOTSTRAP
    assert [(p.test, p.family) for p in two.pairs] == [(BOOTSTRAP, 1), (BOOTSTRAP, 1)]
    assert any("intervals of auc," in n and "fewer than 3 test sets" in n for n in two.notes)


def test_perfect_folds_are_no_proof_of_perfection() -> None:
    task = task_of(LABELS)
    sure = compared(predictions_of(task, folds_of(task), [(Method(name="m"), 100)]))
    score = sure.tables[0].rows[0].scores["auc"]
    assert (score.mean, score.sd, score.high) == (1.0, 0.0, 1.0)
    assert score.low < 0.99


def test_a_difference_from_a_control_is_that_of_a_pair() -> None:
    task = task_of(LABELS)
    control = Method(name="v, mean · logistic", control="mean", control_of="v")
    both = [(Method(name="v · logistic"), 1.5), (control, 0.5)]
    (table,) = compared(predictions_of(task, folds_of(task), both)).tables
    delta = table.rows[0].deltas["mean"]
    folds = table.rows[0].scores["auc"].folds - table.rows[1].scores["auc"].folds
    t = corrected_resampled_t(folds, test_over_train=15 / 45)
    assert (delta.difference, delta.low, delta.high) == (t.difference, t.low, t.high)
    assert delta.interval == RESAMPLED_T


def test_trainings_on_one_test_set_are_no_further_test_sets() -> None:
    task = task_of(LABELS)
    splits = [s for draw in range(5) for s in folds_of(task, k=3, size="10", draw=draw)]
    predictions = predictions_of(task, splits, TWO)
    (block,) = make_blocks([predictions])
    assert (block.n_folds, int(block.test_sets.max()) + 1) == (15, 3)
    assert compared(predictions).pairs[0].estimand == "mean AUC over 3 test sets"
    # few-shot trainings: 20 are tested, 10 learned from, 40 were there
    assert correction_ratio(block) == pytest.approx(20 / 40)
    one = predictions_of(task, [s for s in splits if s.fold == 0], TWO)
    (pair,) = compared(one).pairs
    assert (pair.test, pair.estimand) == (BOOTSTRAP, "AUC on one test set, mean over 5 trainings")


def test_p_values_are_adjusted_within_a_family_across_tasks() -> None:
    tables = []
    for k, name in enumerate(("one", "two", "three")):
        task = task_of(LABELS, name=name)
        tables.append(predictions_of(task, folds_of(task), TWO, seed=k))
    comparison = compared(*tables)
    for test in (RESAMPLED_T, BOOTSTRAP):
        family = [pair for pair in comparison.pairs if pair.test == test]
        expected = holm(np.array([pair.p for pair in family]))
        assert [pair.p_adjusted for pair in family] == list(expected)
        assert {pair.family for pair in family} == {3}


def test_controls_are_no_rivals_but_columns() -> None:
    task = task_of(LABELS)
    methods = [
        (Method(name="v, mean · knn", control="mean", control_of="v"), 0.1),
        (Method(name="v, mean · logistic", control="mean", control_of="v"), 0.5),
        (Method(name="other, mean · logistic", control="mean", control_of="other"), 2.0),
        (Method(name="v · logistic"), 1.5),
        (Method(name="abmil"), 1.0),
    ]
    comparison = compared(predictions_of(task, folds_of(task), methods))
    (table,) = comparison.tables
    assert [row.method for row in table.rows[:2]] == ["v · logistic", "abmil"]
    assert table.reference == "v · logistic"
    assert {pair.method for pair in comparison.pairs} == {"abmil"}
    delta = table.rows[0].deltas["mean"]
    by_name = {row.method: row.scores["auc"].mean for row in table.rows}
    assert delta.control == "v, mean · logistic"
    assert delta.difference == pytest.approx(
        by_name["v · logistic"] - by_name["v, mean · logistic"], abs=1e-12
    )
    assert delta.low < delta.difference < delta.high
    assert not table.rows[1].deltas  # both belong to other vectors


def test_a_lacking_slide_is_refused_with_what_to_do() -> None:
    predictions = four_folds()
    data = predictions.data
    keep = [not (r["method"] == "abmil" and r["slide_id"] == "s007") for r in data.to_pylist()]
    with pytest.raises(SettingsError, match=r"1 tests are only in the first.*s007.*--splits"):
        compared(without(predictions, pa.array(keep)))


def test_labels_that_differ_are_refused() -> None:
    predictions = four_folds()
    task = task_of([1, 0, *LABELS[2:]])
    other = predictions_of(task, folds_of(task), [(Method(name="third"), 1.0)])
    with pytest.raises(SettingsError, match="differ in y_true of slide 's000'"):
        compared(predictions, other)


def test_two_predictions_under_one_name_are_refused_and_equal_ones_counted_once() -> None:
    (table,) = compared(four_folds(), four_folds()).tables
    assert [row.method for row in table.rows] == ["vectors · logistic", "abmil"]
    with pytest.raises(SettingsError, match=r"two different predictions .*NAME=FILE"):
        compared(four_folds(), four_folds(seed=1))


def test_unknown_references_and_mixed_kinds_are_refused() -> None:
    with pytest.raises(SettingsError, match="unknown reference 'abmli'; did you mean 'abmil'"):
        compared(four_folds(), reference="abmli")
    with pytest.raises(SettingsError, match="one kind of task; got classification, survival"):
        compared(four_folds(), replace(four_folds(), kind="survival"))
    with pytest.raises(SettingsError, match="got no tables"):
        compared()


def test_a_fold_of_one_class_is_counted_not_dropped_silently() -> None:
    # patient k is in fold k // 2 % 4: every patient of fold 0 has the same class
    task = task_of([0 if i // 2 % 4 == 0 else i % 2 for i in range(40)])
    comparison = compared(predictions_of(task, folds_of(task), TWO))
    score = comparison.tables[0].rows[0].scores["auc"]
    assert np.isnan(score.folds[0])
    assert np.isfinite(score.mean)
    assert any("not defined in" in note and "of 4 folds" in note for note in comparison.notes)


def test_order_of_rows_and_files_changes_no_number() -> None:
    one = four_folds()
    rng = np.random.default_rng(0)
    mixed = replace(one, data=one.data.take(pa.array(rng.permutation(len(one)))))
    scores = [
        {row.method: (row.scores["auc"].mean, row.scores["auc"].low) for row in c.tables[0].rows}
        for c in (compared(one), compared(mixed))
    ]
    assert scores[0] == scores[1]


def test_intervals_are_those_of_the_patients_not_of_the_slides() -> None:
    # each patient four times: the same information as once
    once = task_of(LABELS)
    predictions = predictions_of(once, holdout_of(once), TWO[:1])
    copies = [
        predictions.data.set_column(
            predictions.data.column_names.index("slide_id"),
            "slide_id",
            pa.array([f"{s}-{k}" for s in predictions.data["slide_id"].to_pylist()]),
        )
        for k in range(4)
    ]
    fourfold = joined("classification", copies, provenance={})
    (one,), (four,) = compared(predictions).tables, compared(fourfold).tables
    a, b = one.rows[0].scores["auc"], four.rows[0].scores["auc"]
    assert a.mean == pytest.approx(b.mean, abs=1e-12)
    assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=1e-3)
    assert four.block.n_slides == 4 * one.block.n_slides


def test_share_of_test_slides_seen_in_pretraining_is_told() -> None:
    task = task_of(LABELS)
    methods = [(Method(name="v", seen=frozenset(task.slide_ids[:30])), 1.0)]
    comparison = compared(predictions_of(task, folds_of(task), methods))
    assert comparison.tables[0].rows[0].seen == 0.5
    assert any("pretrained, without labels, on 50%" in note for note in comparison.notes)
