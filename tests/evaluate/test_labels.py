"""Labels from tables of several tools, and what is refused."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gigassl.errors import GigasslError, SettingsError
from gigassl.evaluate.labels import labels_of, read_label_table, read_labels


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


def test_rows_of_a_table_are_slides_or_patients(tmp_path: Path) -> None:
    clam = read_label_table(table(tmp_path, "case_id,slide_id,label\np1,a.svs,x\np2,b.h5,y\n"))
    assert clam.slide_ids == ("a", "b")
    assert clam.patient_ids == ("p1", "p2")
    clinical = read_label_table(table(tmp_path, "PATIENT , isMSI\np1, yes\n", name="c.csv"))
    assert clinical.slide_ids is None
    assert clinical.patient_ids == ("p1",)
    assert clinical.column("isMSI") == ["yes"]


def test_patients_get_the_slides_of_a_slide_table(tmp_path: Path) -> None:
    clinical = table(tmp_path, "PATIENT,isMSI\np1,yes\np2,no\np3,no\n", name="clinical.csv")
    slides = table(tmp_path, "PATIENT,FILENAME\np1,a.h5\np1,b.h5\np2,c.h5\n", name="slides.csv")
    found = read_label_table(clinical, slide_table=slides)
    assert found.slide_ids == ("a", "b", "c")
    assert found.patient_ids == ("p1", "p1", "p2")
    assert found.column("isMSI") == ["yes", "yes", "no"]


def test_a_slide_table_of_other_patients_is_refused(tmp_path: Path) -> None:
    clinical = table(tmp_path, "PATIENT,isMSI\np1,yes\n", name="clinical.csv")
    slides = table(tmp_path, "PATIENT,FILENAME\nq1,a.h5\n", name="slides.csv")
    with pytest.raises(SettingsError, match=r"no patient of .*'q1'.* stands in .*'p1'"):
        read_label_table(clinical, slide_table=slides)
    twice = table(tmp_path, "PATIENT,isMSI\np1,yes\np1,no\n", name="twice.csv")
    with pytest.raises(SettingsError, match="names patient 'p1' more than once"):
        read_label_table(twice, slide_table=slides)
    with pytest.raises(SettingsError, match="must name slides and their patients"):
        read_label_table(clinical, slide_table=clinical)


def test_parquet_reads_as_its_csv_would(tmp_path: Path) -> None:
    columns = {"slide_id": ["a", "b"], "grade": [1.0, None], "vector": [[1.0], [2.0]]}
    pq.write_table(pa.table(columns), tmp_path / "labels.parquet")
    found = read_label_table(tmp_path / "labels.parquet")
    assert dict(found.cells) == {"slide_id": ["a", "b"], "grade": ["1", ""]}


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="save it as CSV, TSV or Parquet"):
        read_label_table(table(tmp_path, "x", name="labels.xlsx"))
    with pytest.raises(SettingsError, match="no such table of labels"):
        read_label_table(tmp_path / "none.csv")
    with pytest.raises(GigasslError, match="is not Parquet, or is damaged"):
        read_label_table(table(tmp_path, "x", name="labels.parquet"))
