import re
from dataclasses import replace

import numpy as np
import pytest

from gigassl.errors import SettingsError
from gigassl.evaluate.task import rows_of
from tests.evaluate.examples import small_task


def test_rows_of_a_task_keep_everything_that_belongs_to_a_slide() -> None:
    task = small_task("survival")
    part = task.rows(np.array([7, 2]))
    assert part.slide_ids == ("slide-07", "slide-02")
    assert part.patient_ids == ("patient-03", "patient-01")
    assert part.sites == ("B", "B")
    assert part.target.tolist() == [8, 3]
    assert part.event is not None
    assert part.event.tolist() == [True, True]


def test_classes_stay_numbered_as_they_were_in_a_part() -> None:
    task = small_task(classes=("a", "b", "c"))
    part = task.rows(np.flatnonzero(task.labels > 0))
    assert part.classes == ("a", "b", "c")
    assert set(part.labels) == {1, 2}


def test_unknown_slides_have_no_row() -> None:
    assert rows_of(["a", "b", "c"], ["c", "x", "a"]).tolist() == [2, -1, 0]


def test_a_regression_has_no_classes() -> None:
    with pytest.raises(SettingsError, match="is regression; it has no classes"):
        _ = small_task("regression").labels


@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        ("classification", {"slide_ids": ("a",) * 12}, "names slide 'a' more than once"),
        ("classification", {"patient_ids": ("a",)}, "12 slides, 1 patients"),
        ("classification", {"classes": ("benign",)}, "all 12 slides have the same label (benign)"),
        ("classification", {"target": np.eye(12)[0]}, "class 'malignant' has 1 patient;"),
        ("classification", {"target": np.full(12, np.nan)}, "slide 'slide-00' has no finite label"),
        ("regression", {"target": np.full(12, 0.5)}, "all 12 slides have the value 0.5"),
        ("survival", {"target": np.arange(12.0)}, "slide 'slide-00' has time 0; times"),
        ("survival", {"event": np.zeros(12, bool)}, "all 12 slides are censored"),
        ("survival", {"event": None}, "survival wants a time and an event"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_one_sentence(
    kind: str, change: dict[str, object], sentence: str
) -> None:
    task = small_task(kind)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        replace(task, **change)  # type: ignore[arg-type]
