"""Screening: the batch says what scikit-learn says of each target and fold alone."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from gigassl.errors import SettingsError
from gigassl.evaluate.clinical import clinical_columns
from gigassl.evaluate.screening import Inputs, ScreenSettings, screen_tasks
from gigassl.evaluate.task import Task

IDS = tuple(f"s{k:03d}" for k in range(90))
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(90, 6)) * np.array([1, 2, 3, 1, 1, 5]) + 1
FOLD = RNG.integers(0, 3, 90)
STRENGTHS = np.array([0.1, 0.1, 0.1, 0.1, 2.0, 2.0])


def task(kind: str, n_classes: int, rows: np.ndarray) -> Task:
    rng = np.random.default_rng(len(rows))
    ids = tuple(IDS[row] for row in rows)
    values = rng.integers(0, n_classes, len(rows)) if n_classes else rng.normal(size=len(rows))
    return Task(
        name=f"{kind}{n_classes}", kind=kind, slide_ids=ids, patient_ids=ids,  # type: ignore[arg-type]
        sites=("",) * len(ids), classes=tuple(map(str, range(n_classes))),
        target=np.asarray(values, np.float64),
    )  # fmt: skip


def said_alone(task: Task, rows: np.ndarray) -> np.ndarray:
    output = np.empty((len(rows), max(1, len(task.classes))))
    for number in range(3):
        train, held = rows[FOLD[rows] != number], FOLD[rows] == number
        # a column with a strength of its own is a column multiplied with the root of it
        scale = np.sqrt(STRENGTHS) / ROWS[train].std(axis=0)
        target = task.target[~held]
        if task.kind == "classification":
            model = LogisticRegression(C=1.0, class_weight="balanced", tol=1e-10, max_iter=10_000)
            said = model.fit(ROWS[train] * scale, target).predict_proba(ROWS[rows[held]] * scale)
        else:
            said = Ridge(alpha=1.0).fit(ROWS[train] * scale, target).predict(
                ROWS[rows[held]] * scale
            )[:, None]  # fmt: skip
        output[held] = said
    return output


def test_every_target_is_predicted_as_alone() -> None:
    everyone, some = np.arange(90), np.arange(0, 90, 2)
    asked = [("classification", 2, everyone), ("classification", 2, some), ("regression", 0, some),
             ("classification", 3, everyone), ("regression", 0, everyone)]  # fmt: skip
    tasks = [task(*each) for each in asked]
    inputs = Inputs(slide_ids=IDS, rows=ROWS, strengths=STRENGTHS)
    found = {each.number: each.output for each in screen_tasks(inputs, tasks, FOLD)}
    assert sorted(found) == list(range(5))
    for number, (_, _, rows) in enumerate(asked):
        np.testing.assert_allclose(found[number], said_alone(tasks[number], rows), atol=1e-5)


def test_a_column_that_does_not_vary_in_training_does_nothing() -> None:
    rows = ROWS.copy()
    rows[:, 5] = FOLD == 0
    inputs = Inputs(slide_ids=IDS, rows=rows, strengths=STRENGTHS)
    without = Inputs(slide_ids=IDS, rows=rows[:, :5], strengths=STRENGTHS[:5])
    tasks = [task("classification", 2, np.arange(90))]
    one, other = (next(screen_tasks(each, tasks, FOLD)).output for each in (inputs, without))
    np.testing.assert_allclose(one[FOLD == 0], other[FOLD == 0], atol=1e-4)


def test_clinical_variables_become_columns() -> None:
    columns, notes = clinical_columns({"age": ["50", "", "70"], "stage": ["I", "II", "I"]})
    np.testing.assert_array_equal(
        columns, [[50, 0, 1, 0], [60, 1, 0, 1], [70, 0, 1, 0]]
    )  # age, age missing, I, II
    assert notes == ("'age' is not known of 1 of 3 slides",)
    with pytest.raises(SettingsError, match="'x' is empty"):
        clinical_columns({"x": ["", "nan"]})
    with pytest.raises(SettingsError, match="25 different texts"):
        clinical_columns({"x": [f"t{k}" for k in range(25)]})


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"folds": 1}, {"strength": 0.0}, {"min_patients": 1}):
        with pytest.raises(SettingsError):
            ScreenSettings(**wrong)
