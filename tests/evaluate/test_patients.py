from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from gigassl.errors import SettingsError
from gigassl.evaluate.patients import (
    patient_level,
    patient_predictions,
    patient_task,
    splits_of_patients,
    splits_of_slides,
)
from gigassl.evaluate.predictions import Method, joined, rows_of_split
from gigassl.evaluate.splits import SplitSettings, make_splits
from gigassl.evaluate.task import Kind, Task
from gigassl.evaluate.vector_set import VectorSet
from tests.evaluate.examples import small_task


def by_patient(kind: Kind = "classification") -> Task:
    """Twelve slides of six patients; slides of a patient share their label."""
    task = small_task(kind)
    even = np.arange(12) // 2 * 2
    return replace(
        task, target=task.target[even], event=None if task.event is None else task.event[even]
    )


@pytest.mark.parametrize("kind", ["classification", "regression", "survival"])
def test_a_task_of_patients_has_one_row_each(kind: Kind) -> None:
    task = by_patient(kind)
    found = patient_task(task.rows(np.random.default_rng(0).permutation(12)))
    assert found.slide_ids == found.patient_ids == tuple(sorted(set(task.patient_ids)))
    assert found.target.tolist() == task.target[::2].tolist()
    assert (found.event is None) == (kind != "survival")


def test_vectors_of_a_patient_become_their_mean() -> None:
    task = by_patient()
    vectors = np.arange(24.0).reshape(12, 2)
    order = np.random.default_rng(1).permutation(12)
    given = VectorSet(
        name="v", slide_ids=tuple(task.slide_ids[i] for i in order), vectors=vectors[order],
        seen=frozenset({"slide-01", "slide-06"}),
    )  # fmt: skip
    patients, found = patient_level(task, given)
    assert found.slide_ids == patients.slide_ids
    assert found.vectors.tolist() == vectors.reshape(6, 2, 2).mean(axis=1).tolist()
    assert found.seen == {"patient-00", "patient-03"}
    with pytest.raises(SettingsError, match="'v' has no vector of slide 'slide-00'"):
        patient_level(task, replace(given, slide_ids=tuple(f"x{k}" for k in range(12))))


def test_patients_with_two_labels_cannot_be_one_row() -> None:
    with pytest.raises(SettingsError, match="patient 'patient-00' has slides with different label"):
        patient_task(small_task("regression"))


def test_splits_of_patients_and_of_slides_are_each_others_inverse() -> None:
    task = by_patient()
    patients = patient_task(task)
    made = make_splits(patients, SplitSettings(folds=3, train_sizes=("2", "full"), validation=0.5))
    slides = splits_of_slides(made, slides=task, patients=patients)
    assert all(len(s.test) == 2 * len(p.test) for s, p in zip(slides, made, strict=True))
    back = splits_of_patients(slides, slides=task, patients=patients)
    for a, b in zip(back, made, strict=True):
        assert (a.title, a.train.tolist(), a.val.tolist()) == (
            b.title, b.train.tolist(), b.val.tolist()
        )  # fmt: skip
    leaking = make_splits(task, SplitSettings(scheme="slide-kfold", folds=3))
    with pytest.raises(SettingsError, match="on two sides"):
        splits_of_patients(leaking, slides=task, patients=patients)


@pytest.mark.parametrize("kind", ["classification", "survival"])
def test_predictions_of_a_patient_become_their_mean(kind: Kind) -> None:
    task = by_patient(kind)
    splits = make_splits(task, SplitSettings(folds=2))
    rng = np.random.default_rng(0)
    tables = []
    for name in ("a", "b"):
        for split in splits:
            output = rng.random((len(split.test), len(task.classes) or 1))
            method = Method(name=name, seen=frozenset({"slide-00"}))
            tables.append(rows_of_split(task, split, output, method=method))
    slides = joined(kind, tables, provenance={"a": 1})
    found = patient_predictions(slides)
    assert found.data.schema.names == slides.data.schema.names
    assert found.data.schema.types == slides.data.schema.types
    assert len(found) == len(slides) / 2
    assert set(found.data["level"].to_pylist()) == {"patient"}
    column = "risk" if kind == "survival" else "p_benign"
    for row in found.data.to_pylist():
        mine = [
            other for other in slides.data.to_pylist()
            if all(other[key] == row[key] for key in ("method", "fold", "patient_id"))
        ]  # fmt: skip
        assert row["slide_id"] == row["patient_id"]
        assert row[column] == pytest.approx(np.mean([other[column] for other in mine]))
        assert row["seen"] == any(other["seen"] for other in mine)


def test_columns_of_other_tasks_stay_empty() -> None:
    task = by_patient()
    (split, _) = make_splits(task, SplitSettings(folds=2))
    rows = rows_of_split(
        task, split, np.full((len(split.test), 2), 0.5), method=Method(name="a")
    )  # fmt: skip
    other = rows.append_column("p_other", pa.nulls(len(rows), pa.float64()))
    found = patient_predictions(joined("classification", [other], provenance={}))
    assert found.data["p_other"].to_pylist() == [None] * len(found)
    assert found.data["seen"].to_pylist() == [None] * len(found)


def test_predictions_of_slides_with_two_labels_are_refused() -> None:
    task = small_task("regression")
    split = make_splits(task, SplitSettings(folds=2))[0]
    rows = rows_of_split(task, split, np.zeros((len(split.test), 1)), method=Method(name="a"))
    with pytest.raises(SettingsError, match="slides with different labels"):
        patient_predictions(joined("regression", [rows], provenance={}))
