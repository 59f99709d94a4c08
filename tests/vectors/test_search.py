"""Exact search against a plain sort of float64 cosines; ties, patients and bad queries."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import GigasslError, SettingsError
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.search import all_nearest, nearest
from gigassl.vectors.table import SlideRow, SlideTable, table_from_rows


def make_table(vectors: Any) -> SlideTable:
    rows = [
        SlideRow(
            slide_id=f"s{i:03d}", patient_id=f"p{i % 4}", file=f"s{i:03d}.svs", n_tiles=1,
            embedding=l2_normalised(vector),
        )
        for i, vector in enumerate(vectors)
    ]  # fmt: skip
    return table_from_rows(rows, provenance={})


def obvious(table: SlideTable, query: str, *, same_patient: bool) -> list[str]:
    cosines = table.embeddings.astype(np.float64) @ table.vector(query).astype(np.float64)
    patient = dict(zip(table.slide_ids, table.patient_ids, strict=True))
    found = sorted(zip(-cosines.round(12), table.slide_ids, strict=True))
    return [
        name
        for _, name in found
        if name != query and (same_patient or patient[name] != patient[query])
    ]


@given(seed=st.integers(0, 999), n=st.integers(2, 60), k=st.integers(1, 70))
def test_agrees_with_a_plain_sort(seed: int, n: int, k: int) -> None:
    table = make_table(np.random.default_rng(seed).standard_normal((n, 6)))
    query = table.slide_ids[seed % n]
    for exclude in (False, True):
        found = nearest(table, query, k=k, exclude_patient=exclude)
        expected = obvious(table, query, same_patient=not exclude)[:k]
        assert [one.slide_id for one in found] == expected
        similarities = [one.similarity for one in found]
        assert similarities == sorted(similarities, reverse=True)


def test_ties_are_ordered_by_slide_id_even_where_k_cuts_them() -> None:
    rng = np.random.default_rng(0)
    distinct = rng.standard_normal((3, 33))
    table = make_table(distinct[rng.integers(0, 3, 90)])
    for query in table.slide_ids[::7]:
        found = [one.slide_id for one in nearest(table, query, k=11)]
        twins = [
            name
            for name in table.slide_ids
            if name != query and np.array_equal(table.vector(name), table.vector(query))
        ]
        assert len(twins) > 11
        assert found == twins[:11]


def test_all_nearest_is_nearest_for_each() -> None:
    table = make_table(np.random.default_rng(1).standard_normal((20, 5)))
    for exclude in (False, True):
        everything = all_nearest(table, k=3, exclude_patient=exclude)
        assert everything == {
            name: nearest(table, name, k=3, exclude_patient=exclude) for name in table.slide_ids
        }


def test_a_vector_of_any_length_finds_its_slide() -> None:
    table = make_table(np.random.default_rng(2).standard_normal((9, 5)))
    found = nearest(table, 3.7 * table.vector("s004"), k=2)
    assert (found[0].slide_id, found[0].patient_id) == ("s004", "p0")
    assert found[0].similarity == pytest.approx(1, abs=1e-6)


def test_a_table_of_one_slide_or_one_patient_has_no_neighbours() -> None:
    assert nearest(make_table(np.eye(3)[:1]), "s000") == []
    assert nearest(make_table(np.eye(5)), "s001", exclude_patient=True)[0].slide_id == "s000"
    assert nearest(make_table(np.eye(5)[[0, 1]]), "s001", k=5)[0].similarity == 0


@pytest.mark.parametrize(
    ("query", "wishes", "sentence"),
    [
        ("s0O1", {}, "unknown slide 's0O1'; did you mean 's001'"),
        ("s001", {"k": 0}, "at least 1; got 0"),
        (np.ones(4, np.float32), {}, "4 wide, the table's vectors 3"),
        (np.ones(3, np.float32), {"exclude_patient": True}, "needs a slide_id"),
    ],
)
def test_queries_that_cannot_be_answered(query: Any, wishes: Any, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        nearest(make_table(np.eye(3)), query, **wishes)


def test_vectors_that_are_not_normalised_are_refused() -> None:
    table = make_table(np.eye(3))
    doubled = pa.FixedSizeListArray.from_arrays(
        pa.array(2 * table.embeddings.ravel()), type=table.data.schema.field("embedding").type
    )
    place = table.data.column_names.index("embedding")
    field = table.data.schema.field("embedding")
    foreign = SlideTable(data=table.data.set_column(place, field, doubled), provenance={})
    with pytest.raises(GigasslError, match="'s000': its vector has length 2, not 1"):
        nearest(foreign, "s000")
