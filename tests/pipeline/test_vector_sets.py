"""Tables of vectors as probes take them: names, slides in common, streams, bad tables."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gigassl.errors import GigasslError, SettingsError
from gigassl.evaluate.vector_set import FIRST_BLOCK
from gigassl.pipeline.vector_sets import common_patients, open_vector_set, open_vector_sets
from gigassl.vectors.table import SlideTable, save_table, table_from_rows
from tests.vectors.test_table import PROVENANCE, make_row, make_table


def saved(folder: Path, name: str, table: SlideTable) -> Path:
    path = folder / f"{name}.parquet"
    path.parent.mkdir(exist_ok=True, parents=True)
    save_table(table, path)
    return path


def test_a_table_as_a_vector_set(tmp_path: Path) -> None:
    table = replace(make_table("b", "a"), provenance={**PROVENANCE, FIRST_BLOCK: 5})
    found, patients = open_vector_set(saved(tmp_path, "v", table))
    assert (found.name, found.slide_ids, found.first_block) == ("v", ("a", "b"), 5)
    assert found.digest == table.settings_digest
    assert patients == {"a": "a", "b": "b"}
    assert np.array_equal(found.vectors, table.embeddings)
    assert open_vector_set(tmp_path / "v.parquet", name="other")[0].name == "other"


def test_names_tell_tables_apart(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f, "v", make_table("a", "b")) for f in ("x", "y")]
    paths.append(saved(tmp_path, "w", make_table("a", "b")))
    assert [each.name for each in open_vector_sets(paths)] == ["x/v", "y/v", "w"]
    with pytest.raises(SettingsError, match=r"v\.parquet is given twice"):
        open_vector_sets([paths[0], paths[0]])
    with pytest.raises(SettingsError, match="at least one"):
        open_vector_sets([])


def test_methods_meet_on_common_slides_and_the_rest_is_counted(tmp_path: Path) -> None:
    paths = [
        saved(tmp_path, "one", make_table("a", "b", "c")),
        saved(tmp_path, "two", make_table("b", "c", "d")),
    ]
    patients, notes = common_patients(open_vector_sets(paths))
    assert list(patients) == ["b", "c"]
    assert notes == (
        "1 slides of 'one' are not in every table of vectors and are left out, first 'a'",
        "1 slides of 'two' are not in every table of vectors and are left out, first 'd'",
    )
    apart = [paths[0], saved(tmp_path, "three", make_table("x", "y"))]
    with pytest.raises(SettingsError, match="no slide in common"):
        common_patients(open_vector_sets(apart))


def test_a_slide_of_two_patients_is_refused(tmp_path: Path) -> None:
    other = table_from_rows([replace(make_row("a"), patient_id="q")], provenance=PROVENANCE)
    paths = [saved(tmp_path, "one", make_table("a")), saved(tmp_path, "two", other)]
    with pytest.raises(SettingsError, match="patient 'a' in 'one' and of 'q' in 'two'"):
        common_patients(open_vector_sets(paths))


def test_vectors_that_are_not_finite_are_one_sentence(tmp_path: Path) -> None:
    table = make_table("a", "b")
    place = table.data.column_names.index("embedding")
    values = np.stack([table.embeddings[0], np.full(8, np.nan, dtype=np.float32)])
    kind = table.data.schema.field("embedding").type
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=kind)
    damaged = table.data.set_column(place, table.data.schema.field("embedding"), column)
    path = saved(tmp_path, "v", replace(table, data=damaged))
    with pytest.raises(SettingsError, match="1 of 2 vectors hold NaN or infinite"):
        open_vector_set(path)


def test_a_slide_twice_with_different_vectors_is_one_sentence(tmp_path: Path) -> None:
    table = make_table("a", "b")
    twice = pa.concat_tables([table.data, make_table("a").data])
    object.__setattr__(table, "data", twice)  # such a table cannot be made, but may be found
    save_table(table, tmp_path / "v.parquet")
    with pytest.raises(GigasslError, match="more than once in the table"):
        open_vector_set(tmp_path / "v.parquet")
