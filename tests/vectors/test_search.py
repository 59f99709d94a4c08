"""Search against a plain sort of float64 cosines; indices, ties, patients and bad queries."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from gigassl.errors import GigasslError, SettingsError
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.search import (
    EXACT_QUERIES,
    EXACT_ROWS,
    INDICES,
    Searcher,
    all_nearest,
    nearest,
)
from gigassl.vectors.table import SlideRow, SlideTable, table_from_rows
from tests.vectors.large_tables import large_table


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


def clustered(n: int, *, dim: int = 32, n_groups: int = 30) -> SlideTable:
    """Vectors around common centres, spread about as far as the centres are apart."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((n_groups, dim))
    return make_table(centres[rng.integers(0, n_groups, n)] + rng.standard_normal((n, dim)))


@pytest.fixture(scope="module")
def large() -> SlideTable:
    return clustered(3000)


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_an_index_finds_nearly_all_neighbours(large: SlideTable, index: str) -> None:
    exact, quick = Searcher(large, index="exact"), Searcher(large, index=index)
    found = n_patient = 0
    queries = large.slide_ids[::60]
    for query in queries:
        wanted = {one.slide_id: one for one in exact.nearest(query, exclude_patient=True)}
        given = quick.nearest(query, exclude_patient=True)
        found += sum(wanted.get(one.slide_id) == one for one in given)
        similarities = [one.similarity for one in given]
        assert similarities == sorted(similarities, reverse=True)
        assert len(given) == 10
        n_patient += sum(one.patient_id == f"p{int(query[1:]) % 4}" for one in given)
    assert found / (10 * len(queries)) >= 0.95, "recall@10"
    assert n_patient == 0


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_an_index_built_again_gives_the_same_answers(large: SlideTable, index: str) -> None:
    """On any number of cores."""
    with threadpool_limits(limits=1):
        first = Searcher(large, index=index)
    again = Searcher(large, index=index)
    for query in large.slide_ids[::150]:
        assert first.nearest(query, k=30) == again.nearest(query, k=30)


@pytest.mark.parametrize("index", sorted(INDICES))
def test_all_that_are_asked_for_are_found(index: str) -> None:
    """Also where all but a few rows are of the query's patient, or of another group."""
    lonely = clustered(200, n_groups=3)
    found = nearest(lonely, "s007", k=200, index=index)
    assert [one.slide_id for one in found] == obvious(lonely, "s007", same_patient=True)
    patients = pa.array(["p"] * 195 + ["q"] * 5)
    place = lonely.data.column_names.index("patient_id")
    field = lonely.data.schema.field("patient_id")
    table = SlideTable(data=lonely.data.set_column(place, field, patients), provenance={})
    given = nearest(table, "s007", k=5, exclude_patient=True, index=index)
    assert {one.slide_id for one in given} == set(table.slide_ids[195:])
    twins = make_table(np.ones((90, 3)))
    same = nearest(twins, "s010", k=4, index=index)
    assert [one.slide_id for one in same] == ["s000", "s001", "s002", "s003"]


def test_large_tables_are_indexed_for_many_queries() -> None:
    assert Searcher(clustered(50)).index == "exact"
    vectors = np.tile(np.eye(2, dtype=np.float32), (EXACT_ROWS // 2 + 1, 1))
    large = large_table(vectors)
    assert Searcher(large, n_queries=EXACT_QUERIES).index == "exact"
    assert Searcher(large, n_queries=1, index="ivf").index == "ivf"
    assert Searcher(large).index == "ivf"


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


@given(
    seed=st.integers(0, 999), n=st.integers(2, 60), k=st.integers(1, 70),
    share=st.sampled_from([0.0, 0.03, 0.2, 0.7, 1.0]), exclude=st.booleans(),
)  # fmt: skip
def test_some_rows_agree_with_a_plain_sort(
    seed: int, n: int, k: int, share: float, exclude: bool
) -> None:
    rng = np.random.default_rng(seed)
    table, among = make_table(rng.standard_normal((n, 6))), rng.random(n) < share
    query, before = table.slide_ids[seed % n], among.copy()
    there = {name for name, kept in zip(table.slide_ids, among, strict=True) if kept}
    plain = obvious(table, query, same_patient=not exclude)
    expected = [name for name in plain if name in there][:k]
    found = nearest(table, query, k=k, exclude_patient=exclude, among=among)
    assert [one.slide_id for one in found] == expected
    assert np.array_equal(among, before), "the caller's rows stay as they are"


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
@pytest.mark.parametrize("share", [0.002, 0.05, 0.2, 0.9])
def test_an_index_finds_k_of_some_rows(large: SlideTable, index: str, share: float) -> None:
    """As many as there are, nearly all of them the nearest, none that may not be found."""
    exact, quick = Searcher(large, index="exact"), Searcher(large, index=index)
    among = np.random.default_rng(3).random(len(large)) < share
    there = {name for name, kept in zip(large.slide_ids, among, strict=True) if kept}
    right = wanted = 0
    for query in large.slide_ids[::300]:
        for k in (10, 2000):
            best = exact.nearest(query, k=k, exclude_patient=True, among=among)
            found = quick.nearest(query, k=k, exclude_patient=True, among=among)
            assert len(found) == len(best)
            assert {one.slide_id for one in found} <= there
            right, wanted = right + len(set(found) & set(best)), wanted + len(best)
    assert right >= 0.95 * wanted


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
        ("s001", {"index": "hsnw"}, "unknown index 'hsnw'; did you mean 'hnsw'"),
        (np.ones(4, np.float32), {}, "4 wide, the table's vectors 3"),
        (np.ones(3, np.float32), {"exclude_patient": True}, "needs a slide_id"),
        ("s001", {"among": np.ones(2, bool)}, "of 2 rows whether they may be found; the table has"),
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
