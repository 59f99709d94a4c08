from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gigassl.errors import GigasslError, SettingsError
from gigassl.evaluate.predictions import (
    Method,
    Predictions,
    joined,
    open_predictions,
    rows_of_split,
    save_predictions,
)
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Kind
from tests.evaluate.examples import small_task

SPLIT = Split(scheme="holdout", fold=2, train=np.arange(8), test=np.array([9, 8, 11]))


def _predictions(kind: Kind = "classification") -> Predictions:
    task = small_task(kind)
    output = np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]])[:, : len(task.classes) or 1]
    method = Method(name="scm", seen=frozenset({"slide-09"}))
    return joined(kind, [rows_of_split(task, SPLIT, output, method=method)], provenance={"seed": 0})


@pytest.mark.parametrize("kind", ["classification", "regression", "survival"])
def test_a_table_comes_back_as_it_was_written(kind: Kind, tmp_path: Path) -> None:
    ours = _predictions(kind)
    save_predictions(ours, tmp_path / "p.parquet")
    back = open_predictions(tmp_path / "p.parquet")
    assert back == ours
    save_predictions(back, tmp_path / "q.parquet")
    assert (tmp_path / "p.parquet").read_bytes() == (tmp_path / "q.parquet").read_bytes()


def test_rows_say_who_was_predicted_by_whom() -> None:
    first, *_, last = _predictions().data.to_pylist()
    assert first == {
        "task": "grade", "method": "scm", "control": "", "control_of": "", "split": "holdout",
        "train_size": "full", "draw": 0, "fold": 2, "level": "slide", "slide_id": "slide-09",
        "patient_id": "patient-04", "seen": True, "y_true": "benign", "p_benign": 0.25,
        "p_malignant": 0.75, "n_train": 8,
    }  # fmt: skip
    assert last["slide_id"] == "slide-11"
    assert last["seen"] is False


def test_survival_rows_hold_time_event_and_risk() -> None:
    row = _predictions("survival").data.to_pylist()[0]
    assert (row["time"], row["event"], row["risk"]) == (10.0, False, 0.25)


def test_tasks_of_other_classes_share_a_table() -> None:
    other = small_task(classes=("x", "y"))
    rows = rows_of_split(other, SPLIT, np.full((3, 2), 0.5), method=Method(name="scm"))
    both = joined("classification", [_predictions().data, rows], provenance={})
    assert len(both) == 6
    assert both.data["p_x"].to_pylist()[:3] == [None] * 3
    assert both.data["seen"].to_pylist()[3:] == [None] * 3


@pytest.mark.parametrize(
    "output", [np.full((3, 3), 0.5), np.full((2, 2), 0.5), np.full((3, 2), np.nan)]
)
def test_predictions_of_another_shape_or_not_finite_are_refused(output: np.ndarray) -> None:
    with pytest.raises(SettingsError, match=r"scm gave .* expected \(3, 2\)"):
        rows_of_split(small_task(), SPLIT, output, method=Method(name="scm"))


def test_no_predictions_make_no_table() -> None:
    with pytest.raises(SettingsError, match="not one prediction"):
        joined("regression", [], provenance={})


def test_what_is_no_table_of_predictions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    with pytest.raises(GigasslError, match="no such file"):
        open_predictions(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(GigasslError, match="not a table of predictions"):
        open_predictions(path)
    save_predictions(_predictions(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GigasslError, match="truncated or damaged Parquet"):
        open_predictions(path)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    table = _predictions().data
    metadata = {"format": "gigassl-predictions", "version": "99", "kind": "classification"}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(GigasslError, match="version 99"):
        open_predictions(path)
