"""Labels from tables of several tools, and what is refused."""

from pathlib import Path

import pytest

from gigassl.errors import SettingsError
from gigassl.evaluate.labels import labels_of, read_labels


def table(folder: Path, text: str, *, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_names_with_and_without_a_suffix_are_understood(tmp_path: Path) -> None:
    path = table(tmp_path, "case_id,slide_id,label\np1,a.svs,x\np2,b.h5,y\np3,c,\np4,d,NaN\n")
    assert read_labels(path, "label") == {"a": "x", "b": "y"}


def test_other_tools_columns_and_tabs_are_understood(tmp_path: Path) -> None:
    path = table(tmp_path, "ID\tlabel\tcase_id\na\tx\tp\n", name="labels.tsv")
    assert read_labels(path, "label") == {"a": "x"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slide_id,label\na,x\n", "no column 'grade'; it has: slide_id, label"),
        ("name,grade\na,x\n", "no column slide_id; it has: name, grade"),
        ("", "it is empty"),
        ("slide_id,grade\na,x\na.svs,y\n", "slide 'a' has two labels, 'x' and 'y'"),
    ],
)
def test_an_unusable_table_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_labels(table(tmp_path, text), "grade")


def test_labels_come_in_the_order_of_the_slides() -> None:
    labels = {"a": "x", "b": "y", "c": "x", "z": "y"}
    assert labels_of(["c", "q", "a", "b"], labels, where="here") == ["x", None, "x", "y"]


def test_labels_of_other_slides_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"here names none of the 2 slides.*'a' and so on"):
        labels_of(["a", "b"], {"x": "y"}, where="here")
