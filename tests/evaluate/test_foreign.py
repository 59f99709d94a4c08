"""Other tools' predictions: what is read, and what is refused with what to do."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gigassl.errors import SettingsError
from gigassl.evaluate.comparison import CompareSettings, compare
from gigassl.evaluate.foreign import read_foreign
from gigassl.evaluate.predictions import Method, Predictions
from tests.evaluate.prediction_tables import folds_of, predictions_of, task_of

LABELS = [0, 1] * 16
Rows = list[dict[str, object]]


def ours(labels: Sequence[int] = LABELS, *, sizes: Sequence[str] = ("full",)) -> Predictions:
    task = task_of(labels)
    splits = [split for size in sizes for split in folds_of(task, size=size)]
    return predictions_of(task, splits, [(Method(name="ours"), 1.0)])


def written(path: Path, rows: Rows) -> Path:
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def theirs(predictions: Predictions, row: Callable[[dict[str, object]], dict[str, object]]) -> Rows:
    return [
        {"slide_id": f"{r['slide_id']}.svs", **row(r)}
        for r in reversed(predictions.data.to_pylist())
    ]


@pytest.mark.parametrize(
    "row",
    [
        lambda r: {"p_a": r["p_a"], "p_b": r["p_b"]},
        lambda r: {"a": r["p_a"], "b": r["p_b"]},
        lambda r: {"prob": r["p_b"]},
        lambda r: {"score": r["p_b"], "label": r["y_true"], "fold": r["fold"]},
        lambda r: {"p_a": r["p_a"]},
    ],
)
def test_every_way_of_writing_probabilities_gives_our_numbers(
    tmp_path: Path, row: Callable[[dict[str, object]], dict[str, object]]
) -> None:
    mine = ours()
    path = written(tmp_path / "titan.csv", theirs(mine, row))
    found = read_foreign(path, like=[mine])
    (table,) = compare([mine, found], settings=CompareSettings(draws=100)).tables
    assert [r.method for r in table.rows] == ["ours", "titan"]
    for name, score in table.rows[0].scores.items():
        assert table.rows[1].scores[name].mean == pytest.approx(score.mean, abs=1e-12)


def test_several_classes_and_training_sizes(tmp_path: Path) -> None:
    mine = ours([0, 1, 2, 1, 0, 2] * 8, sizes=("10", "full"))

    def row(r: dict[str, object]) -> dict[str, object]:
        return {"train_size": r["train_size"], **{c: r[f"p_{c}"] for c in "abc"}}

    found = read_foreign(written(tmp_path / "x.csv", theirs(mine, row)), like=[mine], name="x")
    assert len(compare([mine, found], settings=CompareSettings(draws=100)).tables) == 2


def test_a_file_with_labels_stands_by_itself(tmp_path: Path) -> None:
    path = written(
        tmp_path / "own.csv",
        theirs(ours(), lambda r: {"y_true": r["y_true"], "p_a": r["p_a"], "p_b": r["p_b"]}),
    )
    (table,) = compare([read_foreign(path, like=[])], settings=CompareSettings(draws=100)).tables
    assert (table.block.task, table.block.n_folds, table.block.n_patients) == ("own", 1, 32)


def test_survival_and_regression_stand_by_themselves(tmp_path: Path) -> None:
    survival: Rows = [
        {"slide_id": f"s{i}", "time": i + 1, "event": i % 2, "risk": -i} for i in range(12)
    ]
    values: Rows = [{"slide_id": f"s{i}", "label": i, "prediction": i * i} for i in range(12)]
    for name, rows, metric in (("s", survival, "c_index"), ("r", values, "spearman")):
        found = read_foreign(written(tmp_path / f"{name}.csv", rows), like=[])
        (table,) = compare([found], settings=CompareSettings(draws=100)).tables
        assert table.rows[0].scores[metric].mean == 1


def test_other_test_slides_are_refused(tmp_path: Path) -> None:
    mine = ours()
    rows = theirs(mine, lambda r: {"prob": r["p_b"]})
    rows[0]["slide_id"] = "stranger"
    with pytest.raises(SettingsError, match=r"1 tests lack \(s\d+\), 1 are too many \(stranger\)"):
        read_foreign(written(tmp_path / "x.csv", rows), like=[mine])


def test_tests_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    mine = ours(sizes=("10", "full"))
    path = written(tmp_path / "x.csv", theirs(mine, lambda r: {"prob": r["p_b"]}))
    with pytest.raises(SettingsError, match="add the columns train_size, draw, fold"):
        read_foreign(path, like=[mine])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prob": "high"}, "column 'prob' of 's.*' is 'high', not a finite number"),
        ({"prob": 0.5, "label": "z"}, "has the label 'z', the other predictions have '"),
        ({"odds": 0.5}, "no column of predictions; expected one of prob"),
        ({"prob": 0.5, "task": "grade"}, "of which task are its predictions.*subtype"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    mine = ours()
    path = written(tmp_path / "x.csv", theirs(mine, lambda _: change))
    with pytest.raises(SettingsError, match=message):
        read_foreign(path, like=[mine])


def test_a_file_without_labels_needs_others(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", theirs(ours(), lambda r: {"prob": r["p_b"]}))
    with pytest.raises(SettingsError, match="has no labels"):
        read_foreign(path, like=[])
