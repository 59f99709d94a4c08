"""The slide table: the same back, the same bytes, open to pandas and DuckDB, clear about damage."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import GigasslError, SettingsError
from gigassl.files import MachineError
from gigassl.vectors.merge import merge_tables
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.table import (
    SlideRow,
    SlideTable,
    one_row,
    open_table,
    save_table,
    table_from_rows,
)

PROVENANCE: dict[str, Any] = {
    "settings": {"grid": {"tile_px": 224, "target_mpp": 0.5}, "encoder": "e", "pooling": "mean"},
    "versions": {"gigassl": "0.1.0"},
    "patient_rule": "tcga-barcode",
}


def make_row(slide_id: str, dim: int = 8, **changes: Any) -> SlideRow:
    rng = np.random.default_rng(sum(map(ord, slide_id)))
    row = SlideRow(
        slide_id=slide_id,
        patient_id=slide_id[:1],
        file=f"{slide_id}.svs",
        embedding=l2_normalised(rng.standard_normal(dim)),
        n_tiles=1234,
        n_views=50,
        view_spread=0.25,
        mpp=0.2525,
        mpp_source="file",
        effective_mpp=0.505,
        width_l0=40_000,
        height_l0=30_000,
        slide_digest="aa",
        settings_digest="bb",
    )
    return replace(row, **changes)


def make_table(*slide_ids: str) -> SlideTable:
    return table_from_rows([make_row(name) for name in slide_ids], provenance=PROVENANCE)


def test_saving_and_opening_gives_the_same_table(tmp_path: Path) -> None:
    table = make_table("b", "a", "c")
    save_table(table, tmp_path / "v.parquet")
    opened = open_table(tmp_path / "v.parquet")
    assert opened.slide_ids == ["a", "b", "c"]
    assert opened.data.equals(table.data)
    assert opened.provenance == PROVENANCE
    assert np.array_equal(opened.vector("b"), make_row("b").embedding)
    assert (len(opened), opened.dim, opened.settings_digest) == (3, 8, "bb")
    assert opened.embeddings.dtype == np.float32


def test_every_fact_of_a_row_has_its_column() -> None:
    names = make_table("a").data.column_names
    assert sorted(names) == sorted(f.name for f in fields(SlideRow))
    assert (names[0], names[-1]) == ("slide_id", "embedding")
    row = make_row("a")
    held = make_table("a").data.to_pylist()[0]
    assert np.array_equal(held.pop("embedding"), row.embedding)
    assert held == {name: getattr(row, name) for name in held}


def test_rows_come_back_as_they_went_in() -> None:
    rows = [make_row("a", patient_rule="column", inputs_digest="dd"), make_row("b", n_views=None)]
    back = table_from_rows(rows, provenance={}).rows()
    for row, given_row in zip(back, rows, strict=True):
        assert np.array_equal(row.embedding, given_row.embedding)
        assert replace(row, embedding=given_row.embedding) == given_row


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    unknown: dict[str, Any] = {f.name: None for f in fields(SlideRow) if f.default is None}
    save_table(one_row(make_row("a", **unknown), provenance={}), tmp_path / "v.parquet")
    held = open_table(tmp_path / "v.parquet").data.to_pylist()[0]
    assert {name for name, value in held.items() if value is None} == set(unknown)
    assert "n_views" in unknown


@given(order=st.permutations(["a", "b", "c", "d", "Z", "é"]), cut=st.integers(1, 5))
def test_order_and_parts_do_not_change_a_byte(
    order: list[str], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    save_table(make_table("a", "b", "c", "d", "é", "Z"), folder / "whole.parquet")
    parts = [make_table(*order[:cut]), make_table(*order[cut:])]
    for number, part in enumerate(parts):
        save_table(part, folder / f"{number}.parquet")
    opened = [open_table(folder / "1.parquet"), open_table(folder / "0.parquet")]
    save_table(merge_tables(opened), folder / "merged.parquet")
    assert (folder / "merged.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()


def test_parquet_is_as_designed(tmp_path: Path) -> None:
    save_table(make_table("a", "b"), tmp_path / "v.parquet")
    metadata = pq.read_metadata(tmp_path / "v.parquet")
    schema = pq.read_schema(tmp_path / "v.parquet")
    column = metadata.row_group(0).column(metadata.num_columns - 1)
    assert column.path_in_schema == "embedding.list.element"
    assert "BYTE_STREAM_SPLIT" in column.encodings
    assert not any("DICTIONARY" in name for name in column.encodings)
    assert column.compression == "ZSTD"
    assert schema.field("embedding").type.list_size == 8
    assert schema.metadata[b"format"] == b"gigassl-vectors"
    assert (schema.metadata[b"version"], schema.metadata[b"normalised"]) == (b"1", b"true")
    assert str(tmp_path).encode() not in (tmp_path / "v.parquet").read_bytes()


def test_pandas_opens_it_without_us(tmp_path: Path) -> None:
    save_table(make_table("b", "a"), tmp_path / "v.parquet")
    frame = pd.read_parquet(tmp_path / "v.parquet")
    assert frame["slide_id"].tolist() == ["a", "b"]
    assert np.array_equal(np.stack(list(frame["embedding"]))[1], make_row("b").embedding)
    assert open_table(tmp_path / "v.parquet").to_pandas()["n_tiles"].tolist() == [1234, 1234]


def test_duckdb_opens_it_without_us(tmp_path: Path) -> None:
    save_table(make_table("b", "a"), tmp_path / "v.parquet")
    found = duckdb.sql(
        f"select slide_id, len(embedding), embedding[1] from '{tmp_path}/v.parquet' where mpp < 1"
    )
    assert found is not None
    assert found.fetchall() == [
        (name, 8, float(make_row(name).embedding[0])) for name in ("a", "b")
    ]


def test_a_slide_twice_is_named() -> None:
    with pytest.raises(GigasslError, match="1 slide_ids stand more than once in the table: a;"):
        make_table("a", "b", "a")
    with pytest.raises(GigasslError, match="more than once in the table: b;"):
        merge_tables([make_table("a", "b"), make_table("b", "c")])


def test_rows_that_cannot_stand_in_a_table_are_refused() -> None:
    with pytest.raises(GigasslError, match="length 2, not 1; pass it through l2_normalised"):
        make_row("a", embedding=2 * make_row("a").embedding)
    with pytest.raises(GigasslError, match="length nan"):
        make_row("a", embedding=np.full(8, np.nan, np.float32))
    with pytest.raises(GigasslError, match=r"without its folder; got '/data/a.svs'"):
        make_row("a", file="/data/a.svs")
    with pytest.raises(GigasslError, match="different widths: 8, 9"):
        table_from_rows([make_row("a"), make_row("b", dim=9)], provenance={})
    with pytest.raises(GigasslError, match=r"different settings \(digests bb, cc\)"):
        table_from_rows([make_row("a"), make_row("b", settings_digest="cc")], provenance={})
    with pytest.raises(GigasslError, match="no slide was embedded"):
        table_from_rows([], provenance={})


def test_an_unknown_slide_is_guessed() -> None:
    with pytest.raises(SettingsError, match="unknown slide 'slide-q'; did you mean 'slide-1'"):
        make_table("slide-1", "other").vector("slide-q")


def test_merging_other_settings_names_the_field() -> None:
    other = one_row(
        make_row("z", settings_digest="cc"),
        provenance={
            **PROVENANCE,
            "settings": {**PROVENANCE["settings"], "grid": {"tile_px": 256, "target_mpp": 0.5}},
        },
    )
    with pytest.raises(
        GigasslError, match=r"'a' and 'z' .*different settings: grid.tile_px \(224 and 256\);"
    ):
        merge_tables([make_table("a"), other])
    unnamed = one_row(make_row("z", settings_digest="cc"), provenance=PROVENANCE)
    with pytest.raises(GigasslError, match=r"different settings digests \(bb and cc\)"):
        merge_tables([make_table("a"), unnamed])
    wide = one_row(make_row("z", dim=9), provenance=PROVENANCE)
    with pytest.raises(GigasslError, match="different width: 8 and 9"):
        merge_tables([make_table("a"), wide])
    with pytest.raises(GigasslError, match="no tables"):
        merge_tables([])


def test_merging_keeps_what_else_differed_in_any_order() -> None:
    updated = {**PROVENANCE, "versions": {"gigassl": "0.2.0"}}
    parts = [make_table("a"), one_row(make_row("b"), provenance=updated), make_table("c")]
    merged = merge_tables(parts)
    assert merged.provenance == {**PROVENANCE, "variants": [PROVENANCE, updated]}
    again = merge_tables([parts[2], merge_tables([parts[1], parts[0]])])
    assert again.provenance == merged.provenance
    assert again.data.equals(merged.data)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_a_truncated_table_is_said(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "v.parquet"
    save_table(make_table("a", "b"), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(GigasslError, match="truncated or damaged Parquet file"):
        open_table(path)


def test_flipped_bytes_never_pass_as_data(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    table = make_table("a", "b")
    save_table(table, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 100):
        damaged = bytearray(whole)
        damaged[place] ^= 16
        path.write_bytes(damaged)
        opened = opened_or_none(path)
        assert opened is None or np.array_equal(opened.embeddings, table.embeddings)
    path.write_bytes(whole[:-4] + b"PAR2")
    assert opened_or_none(path) is None


def opened_or_none(path: Path) -> SlideTable | None:
    try:
        return open_table(path)
    except GigasslError:
        return None


def test_what_is_no_table_of_ours_is_said(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    with pytest.raises(GigasslError, match="no such file"):
        open_table(path)
    with pytest.raises(GigasslError, match="is a folder"):
        open_table(tmp_path)
    for text in ("slide_id,label\n", ""):
        path.write_text(text)
        with pytest.raises(GigasslError, match="is not a Parquet file"):
            open_table(path)
    pq.write_table(pa.table({"id": ["a"], "x": [1.0]}), path)
    with pytest.raises(GigasslError, match=r"not a table of slide vectors.*it holds: id, x$"):
        open_table(path)


def test_a_newer_version_or_a_lost_column_is_said(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    save_table(make_table("a"), path)
    data = pq.read_table(path)
    pq.write_table(data.drop_columns(["n_tiles"]), path)
    with pytest.raises(GigasslError, match="lacks the columns n_tiles"):
        open_table(path)
    pq.write_table(data.replace_schema_metadata({**data.schema.metadata, b"version": b"2"}), path)
    with pytest.raises(GigasslError, match="version 2, this gigassl reads up to 1"):
        open_table(path)


def test_a_missing_folder_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot write"):
        save_table(make_table("a"), tmp_path / "none" / "v.parquet")
    assert list(tmp_path.iterdir()) == []
