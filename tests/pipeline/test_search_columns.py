"""Columns of a search: labels of slides and of patients, empty cells, and names in both tables."""

from pathlib import Path

import pytest

from gigassl.errors import SettingsError
from gigassl.pipeline.search_columns import MOST_SHOWN, search_columns
from tests.vectors.test_table import make_table

TABLE = make_table("a1", "a2", "b1", "c1")


def written(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text)
    return path


def test_labels_of_patients_are_those_of_all_their_slides(tmp_path: Path) -> None:
    labels = written(tmp_path, "PATIENT,stage\na,1\nb,2\n")
    found = search_columns(TABLE, labels, where="stage >= 1")
    assert found.kept.tolist() == [True, True, True, False]
    assert found.cells(0) == {"stage": "1"}
    assert found.cells(3) == {"stage": None}
    lacking, satisfied, empty = found.notes
    assert lacking == "1 of 4 slides do not stand in the labels, first 'c1'; their cells are empty"
    assert satisfied == "3 of 4 slides satisfy: stage >= 1"
    assert empty.startswith("1 of the others have nothing in 'stage', which satisfies no")


def test_the_labels_word_on_patients_counts(tmp_path: Path) -> None:
    labels = written(tmp_path, "slide_id,patient_id,x\na1,z,1\nb1,z,2\nc1,,3\na2,,4\n")
    found = search_columns(TABLE, labels)
    assert found.patients == ("z", "a", "z", "c")
    assert search_columns(TABLE).patients == ("a", "a", "b", "c")
    assert search_columns(TABLE).cells(0) == {}


def test_columns_of_the_vectors_count_before_those_of_the_labels(tmp_path: Path) -> None:
    labels = written(tmp_path, "slide_id,mpp,x\na1,9,1\na2,9,\nb1,9,3\nc1,9,y\n")
    found = search_columns(TABLE, labels, where="mpp < 1 and x != 'y'", show=["x", "mpp"])
    assert found.kept.tolist() == [True, False, True, False]
    assert found.cells(2) == {"x": "3", "mpp": 0.2525}
    assert found.notes[0] == "column 'mpp' stands in both tables; that of the vectors counts"


def test_only_columns_that_are_asked_for_are_read(tmp_path: Path) -> None:
    """A slide with two values in another column, as of its blocks, does no harm."""
    labels = written(tmp_path, "slide_id,x,block\na1,1,A\na1,1,B\na2,2,A\nb1,3,A\nc1,4,A\n")
    found = search_columns(TABLE, labels, where="x > 1", show=["n_tiles"])
    assert (found.kept.tolist(), found.cells(1)) == ([False, True, True, True], {"n_tiles": 1234})
    with pytest.raises(SettingsError, match="slide 'a1' has two labels, 'A' and 'B'"):
        search_columns(TABLE, labels)


def test_of_many_columns_the_first_are_shown(tmp_path: Path) -> None:
    names = [f"c{k}" for k in range(MOST_SHOWN + 3)]
    labels = written(tmp_path, f"slide_id,{','.join(names)}\na1{',v' * len(names)}\n")
    assert list(search_columns(TABLE, labels).cells(0)) == names[:MOST_SHOWN]


def test_labels_of_other_slides_are_refused(tmp_path: Path) -> None:
    for head, what in (("slide_id", "slides"), ("case_id", "patients")):
        labels = written(tmp_path, f"{head},x\nq,1\n")
        with pytest.raises(SettingsError, match=f"names none of the 4 {what}; those with vectors"):
            search_columns(TABLE, labels)
