"""Files of vectors as probes take them: names, patients, slides in common."""

from pathlib import Path

import pytest

from gigassl.errors import SettingsError
from gigassl.pipeline.vector_sets import common_patients, open_vector_sets
from gigassl.vectors.table import save_table, table_from_rows
from tests.vectors.test_table import PROVENANCE, make_row


def _saved(path: Path, rule: str, patients: dict[str, str]) -> Path:
    rows = [
        make_row(slide, patient_id=patient, patient_rule=rule)
        for slide, patient in patients.items()
    ]
    save_table(table_from_rows(rows, provenance=PROVENANCE), path)
    return path


def test_a_table_that_knows_patients_tells_one_that_only_knows_slides(tmp_path: Path) -> None:
    blind = _saved(tmp_path / "bags.parquet", "slide_id", {"a": "a", "b": "b", "c": "c"})
    told = _saved(tmp_path / "slides.parquet", "column", {"a": "p", "b": "p"})
    for paths in ([blind, told], [told, blind]):
        patients, notes = common_patients(open_vector_sets(paths))
        assert patients == {"a": "p", "b": "p"}
        assert [note.split(",")[0] for note in notes] == [
            "1 slides of 'bags' are not in every table of vectors and are left out"
        ]


def test_two_tables_that_differ_on_a_patient_are_refused(tmp_path: Path) -> None:
    ours = _saved(tmp_path / "ours.parquet", "column", {"a": "p"})
    theirs = _saved(tmp_path / "theirs.parquet", "tcga-barcode", {"a": "q"})
    with pytest.raises(
        SettingsError, match="'a' is of patient 'p' in 'ours' and of 'q' in 'theirs'"
    ):
        common_patients(open_vector_sets([ours, theirs]))


def test_tables_without_a_common_slide_are_refused(tmp_path: Path) -> None:
    paths = [_saved(tmp_path / f"{name}.parquet", "column", {name: "p"}) for name in "ab"]
    with pytest.raises(SettingsError, match="have no slide in common"):
        common_patients(open_vector_sets(paths))


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        _saved(tmp_path / name / "vectors.parquet", "column", {"a": "p"})
    opened = open_vector_sets([tmp_path / name / "vectors.parquet" for name in ("one", "two")])
    assert [each.name for each in opened] == ["one/vectors", "two/vectors"]
    with pytest.raises(SettingsError, match=r"vectors\.parquet is given twice"):
        open_vector_sets([tmp_path / "one" / "vectors.parquet"] * 2)
