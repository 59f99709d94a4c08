import re

import numpy as np
import pytest

from gigassl.evaluate.labels import read_label_table
from gigassl.evaluate.leaks import LeakTable, leak_table
from gigassl.evaluate.split import Split
from gigassl.evaluate.split_files import SplitList, read_split_lists, splits_of
from gigassl.evaluate.targets import LeftOut, TargetSettings, labelled_slides
from tests.evaluate.examples import small_task
from tests.shared_data import SHARED, needs_shared

SPECIFICATION = SHARED / "spec" / "giga-ssl.md"
LABELS = SHARED / "data" / "labels" / "giga-ssl"


def published_leaks(task: str) -> LeakTable:
    table = read_label_table(LABELS / "tables" / f"{task}.csv")
    available = dict(zip(table.slide_ids or (), table.patient_ids, strict=True))
    labelled = labelled_slides(table, TargetSettings(), available=available)
    lists = read_split_lists(LABELS / "splitdirs" / task)
    return leak_table(labelled.task, splits_of(lists, labelled.task), lists=lists)


def printed_leaks(task: str) -> dict[str, tuple[str, str]]:
    """Size → mean and maximum as section 7.2 prints them."""
    rows = [
        re.split(r"\s*\|\s*", line.strip(" |")) for line in SPECIFICATION.read_text().splitlines()
    ]
    start = next(k for k, row in enumerate(rows) if row == ["50", "100", "25p", "full"])
    row = next(row for row in rows[start:] if row[0] == task)
    cells = [re.findall(r"[\d.]+", cell) for cell in row[1:]]
    sizes = ("50", "100", "25%", "full")
    return {
        size: (cell[0], cell[1] if len(cell) > 1 else cell[0])
        for size, cell in zip(sizes, cells, strict=True)
    }


@needs_shared
@pytest.mark.parametrize("task", ["lung", "brca", "kidney", "mhrd", "thrd", "tnbc"])
def test_leaks_of_the_published_splits_equal_the_specification(task: str) -> None:
    printed, found = printed_leaks(task), published_leaks(task)
    ours = {row.train_size: row.patients for row in found.rows}
    for size, (mean, most) in printed.items():
        assert all(
            f"{value:.{1 if '.' in said else 0}f}" == said
            for value, said in zip(ours[size], (mean, most), strict=True)
        )
    assert all(row.n_splits == 10 for row in found.rows)
    assert any("patients stand on both sides" in each for each in found.warnings()) == (
        task != "tnbc"
    )


@needs_shared
def test_kidney_slides_without_a_label_are_named() -> None:
    rows = {row.train_size: row for row in published_leaks("kidney").rows}
    assert len(rows["full"].without_label) == 7
    assert rows["full"].train == (835, 838)
    assert rows["full"].test == (86, 89)
    assert rows["50"].without_label == ()


def split(train: list[int], test: list[int], **facts: int) -> Split:
    return Split(scheme="s", train=np.array(train), test=np.array(test), **facts)  # type: ignore[arg-type]


def test_shares_are_counted_as_one_would_by_hand() -> None:
    # two slides a patient; sites A B in turn by patient
    splits = [split([0, 2, 4], [1, 6, 8, 10]), split([0, 2], [4, 8], fold=1)]
    (row,) = leak_table(small_task(), splits).rows
    assert row.patients == (12.5, 25.0)
    # patients 0, 2 and 4 are of site A, 1, 3 and 5 of site B
    assert row.sites == (100.0, 100.0)
    assert (row.train, row.test) == ((2, 3), (2, 4))


def test_missing_classes_and_events_are_said() -> None:
    one_class = leak_table(small_task(), [split([0, 1], [2, 4]), split([0, 2], [4, 5], fold=1)])
    assert one_class.rows[0].small == (
        "class 'malignant' is missing on the training side of 1 of 2 splits",
        "class 'malignant' is missing on the test side of 1 of 2 splits",
    )
    assert "on the training side" in one_class.missing_in_training()
    survival = leak_table(small_task("survival"), [split([1, 2], [0, 3])])
    assert survival.rows[0].small == ("an event is missing on the test side of 1 of 1 splits",)
    assert survival.missing_in_training() == ""
    assert leak_table(small_task("regression"), [split([1], [2])]).rows[0].small == ()


def test_the_text_names_what_is_left_out_and_why() -> None:
    named = SplitList(
        where="f", scheme="s", fold=0, train=("slide-00", "x"), test=("slide-02", "y")
    )
    found = leak_table(
        small_task(), [split([0], [2])], lists=[named],
        left_out=[LeftOut(slide_id="y", reason="no vector")],
    )  # fmt: skip
    assert found.rows[0].without_label == ("x",)
    assert found.rows[0].without_vector == ("y",)
    assert "s: 1 slides have no label and are left out: 'x'" in found.as_text()
    assert "s: 1 slides have no vector and are left out: 'y'" in found.as_text()
    assert found.as_text().splitlines()[1].split()[:5] == ["splits", "size", "n", "train", "test"]
