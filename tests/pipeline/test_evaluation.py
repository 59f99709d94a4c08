import re
from dataclasses import replace
from pathlib import Path

import pytest

from gigassl.cli.task_options import task_options
from gigassl.errors import SettingsError
from gigassl.evaluate.split_files import read_splits
from gigassl.evaluate.splits import SplitSettings
from gigassl.pipeline.evaluation import TaskOptions, question, splits_beside
from tests.shared_data import SHARED, needs_shared

SLIDES = {f"s{k:02}": f"p{k // 2:02}" for k in range(40)}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Forty labelled slides of twenty patients, and two that have no vector."""
    lines = [f"{s},{p},{'xy'[int(p[1:]) % 2]},{1 + int(p[1:])},{int(p[1:]) % 3}"
             for s, p in SLIDES.items()]  # fmt: skip
    path = tmp_path / "clinical.csv"
    path.write_text(
        "\n".join(["slide_id,case_id,grade,days,dead", *lines, "q0,q,x,1,1", "q1,q,y,1,1"])
    )
    path.write_text(path.read_text().replace(",2\n", ",1\n"))
    return path


def test_a_question_says_what_is_asked_and_what_is_left_out(labels: Path) -> None:
    asked = question(
        TaskOptions(labels=labels, target="grade"), available={**SLIDES, "z": "z"}
    )  # fmt: skip
    assert len(asked.task) == 40
    assert asked.slides is asked.task
    assert asked.notes == (
        "task 'grade': 40 slides of 20 patients; x 20, y 20",
        "2 labelled slides have no vector and are left out: 'q0', 'q1'",
        "1 slides with a vector have no label and are left out: 'z'",
    )
    assert {(e.slide_id, e.reason) for e in asked.left_out} == {
        ("q0", "no vector"), ("q1", "no vector"), ("z", "no label"),
    }  # fmt: skip
    assert "patient-kfold" in asked.as_text()


@pytest.mark.parametrize("patients", ["none", "vectors"])
def test_saved_splits_are_those_of_the_next_method(
    labels: Path, tmp_path: Path, patients: str
) -> None:
    split = SplitSettings(folds=4, repeats=2, train_sizes=("6", "full"), draws=3, validation=0.2)
    options = TaskOptions(labels=labels, target="grade", split=split, patients=patients)  # type: ignore[arg-type]
    asked = question(options, available=SLIDES)
    folder = splits_beside(tmp_path / "vectors.parquet")
    asked.save_splits(folder)
    assert folder.name == "vectors.parquet.splits"
    again = question(replace(options, splits=folder), available=SLIDES)
    assert len(again.splits) == 4 * 2 * (3 + 1)
    for a, b in zip(asked.splits, again.splits, strict=True):
        assert (a.title, a.train.tolist(), a.val.tolist(), a.test.tolist()) == (
            b.title, b.train.tolist(), b.val.tolist(), b.test.tolist()
        )  # fmt: skip
    assert len(read_splits(folder, asked.slides)) == len(asked.splits)
    assert (folder / "left_out.csv").read_text() == "slide_id,reason\nq0,no vector\nq1,no vector\n"


def test_with_vectors_made_one_a_row_is_a_patient(labels: Path) -> None:
    split = SplitSettings(folds=4, train_sizes=("6", "full"))
    asked = question(
        TaskOptions(labels=labels, target="grade", split=split, patients="vectors"),
        available=SLIDES,
    )
    assert asked.task.slide_ids == tuple(sorted(set(SLIDES.values())))
    assert len(asked.slides) == 40
    assert all(len(s.train) == 6 for s in asked.splits if s.train_size == "6")
    assert all(len(s.train) == 12 for s in asked.splits_of_slides() if s.train_size == "6")
    assert asked.notes[0] == "task 'grade': 40 slides of 20 patients, one row a patient; x 10, y 10"


def test_survival_and_values_are_summed_up(labels: Path) -> None:
    survival = question(
        TaskOptions(labels=labels, time="days", event="dead", name="OS"), available=SLIDES
    )
    assert survival.notes[0] == "task 'OS': 40 slides of 20 patients; 26 events"
    values = question(TaskOptions(labels=labels, target="days"), available=SLIDES)
    assert values.notes[0] == "task 'days': 40 slides of 20 patients; 1 to 20"


def test_classes_that_are_never_learned_are_refused(labels: Path) -> None:
    labels.write_text(
        "\n".join(["slide_id,case_id,grade,hospital",
                   *(f"{s},{p},{'xy'[p > 'p10']},{'AB'[p > 'p10']}" for s, p in SLIDES.items())])
    )  # fmt: skip
    options = TaskOptions(
        labels=labels, target="grade", site_column="hospital",
        split=SplitSettings(scheme="leave-site-out"),
    )  # fmt: skip
    with pytest.raises(SettingsError, match="class 'x' is missing on the training side of 1 of 2"):
        question(options, available=SLIDES)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("train,test\ns00,s02\ns00,\n", "split_0.csv names 1 slides twice: 's00'"),
        ("train,test\ns00,\ns02,\n", "split_0.csv has an empty test set"),
        ("train,test\ns00,q0\ns02,\n", "none of its 1 test slides, such as 'q0', has both a label"),
        ("train,test\ns00,s02\n", "class 'y' is missing on the training side of 1 of 1 splits"),
    ],
)
def test_unusable_splits_are_refused(labels: Path, rows: str, sentence: str) -> None:
    folder = labels.parent / "splits"
    folder.mkdir()
    (folder / "split_0.csv").write_text(rows)
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        question(TaskOptions(labels=labels, target="grade", splits=folder), available=SLIDES)


def test_leaking_splits_cannot_be_of_patients(labels: Path) -> None:
    split = SplitSettings(scheme="slide-kfold")
    slides = TaskOptions(labels=labels, target="grade", split=split)
    asked = question(slides, available=SLIDES)
    assert any("patients stand on both sides" in said for said in asked.leaks.warnings())
    folder = labels.parent / "leaking"
    asked.save_splits(folder)
    with pytest.raises(SettingsError, match="on two sides"):
        question(replace(slides, splits=folder, patients="vectors"), available=SLIDES)


def test_options_of_the_command_line_become_settings() -> None:
    found = task_options(
        Path("a.csv"), target="grade", patients="predictions", scheme="holdout", repeats=4,
        train_sizes="k=5, 25%,full", draws=3, validation=0.1, seed=7, test_fraction=0.3,
    )  # fmt: skip
    assert found == TaskOptions(
        labels=Path("a.csv"), target="grade", patients="predictions",
        split=SplitSettings(
            scheme="holdout", repeats=4, train_sizes=("k=5", "25%", "full"), draws=3,
            validation=0.1, seed=7, test_fraction=0.3,
        ),
    )  # fmt: skip


@needs_shared
@pytest.mark.parametrize("task", ["lung", "brca", "kidney", "mhrd", "thrd", "tnbc"])
def test_published_tasks_load_with_their_splits(task: str) -> None:
    root = SHARED / "data" / "labels" / "giga-ssl"
    lines = (root / "tables" / f"{task}.csv").read_text().splitlines()[1:]
    available = {line.split(",")[0]: line.split(",")[2] for line in lines}
    options = TaskOptions(labels=root / "tables" / f"{task}.csv", splits=root / "splitdirs" / task)
    asked = question(options, available=available)
    assert asked.task.name == task
    assert len(asked.task) == len(lines)
    assert len(asked.splits) == (50 if task == "tnbc" else 40)
    assert asked.left_out == ()
