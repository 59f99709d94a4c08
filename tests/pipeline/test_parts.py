"""Parts: commits survive, damaged ones are redone, only rows that still hold are reused."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gigassl.errors import SettingsError
from gigassl.pipeline.parts import Parts
from gigassl.slides.cohort import CohortSlide
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.table import SlideRow, open_table, save_table, table_from_rows


def row(slide_id: str, *, settings: str = "s1", inputs: str = "i1") -> SlideRow:
    vector = np.zeros(4, dtype=np.float32)
    vector[len(slide_id) % 4] = 1
    return SlideRow(
        slide_id=slide_id, patient_id="p", file="slide.svs", embedding=vector, n_tiles=3,
        settings_digest=settings, inputs_digest=inputs,
    )  # fmt: skip


def source(slide_id: str) -> CohortSlide:
    return CohortSlide(slide_id=slide_id, path=Path("x"), patient_id="p", patient_rule="column")


def parts(out: Path, settings: str = "s1") -> Parts:
    return Parts(out, settings_digest=settings, provenance={"settings": {"name": settings}})


def test_commits_are_found_again_by_the_next_run(tmp_path: Path) -> None:
    out = tmp_path / "v.parquet"
    parts(out).commit(row("a"))
    again = parts(out)
    wanted = {"a": "i1", "b": "i1"}
    assert again.reusable([source("a"), source("b")], wanted) == {"a"}
    assert again.reusable([source("a")], {"a": "changed"}) == set()
    assert parts(out, "s2").reusable([source("a")], wanted) == set()


def test_merging_sorts_keeps_earlier_rows_and_clears_up(tmp_path: Path) -> None:
    out = tmp_path / "v.parquet"
    first = parts(out)
    first.commit(row("b"))
    first.merge()
    second = parts(out)
    second.commit(row("a"))
    second.merge()
    assert open_table(out).slide_ids == ["a", "b"]
    assert not second.folder.exists()


def test_a_damaged_part_is_only_done_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "v.parquet"
    first = parts(out)
    first.commit(row("a"))
    first.commit(row("bb"))
    damaged = sorted(first.folder.glob("*.parquet"))[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert len(parts(out).reusable([source("a"), source("bb")], {"a": "i1", "bb": "i1"})) == 1
    assert "ignoring a damaged part" in caplog.text


def test_any_slide_id_can_be_committed(tmp_path: Path) -> None:
    out = tmp_path / "v.parquet"
    names = ["a/b", "ä ö.π", "x" * 300, "..", "A", "a"]
    first = parts(out)
    for name in names:
        first.commit(row(name))
    first.merge()
    assert set(open_table(out).slide_ids) == set(names)


def test_strangers_made_with_other_settings_would_be_lost(tmp_path: Path) -> None:
    out = tmp_path / "v.parquet"
    first = parts(out)
    first.commit(row("a"))
    first.merge()
    parts(out).check_strangers(known={"b"})
    with pytest.raises(SettingsError, match="holds 1 slides that are not in this input"):
        parts(out, "s2").check_strangers(known={"b"})


def test_nothing_done_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "v.parquet"
    assert parts(out).merge() is None
    assert not out.exists()


def many(n: int, *, inputs: str = "i1") -> list[SlideRow]:
    """Rows with vectors of their own, some facts unknown."""
    rng = np.random.default_rng(n)
    return [
        replace(
            row(f"s{k * 7919 % 1000:03d}", inputs=inputs), embedding=l2_normalised(vector),
            mpp=None if k % 3 else 0.25,
        )
        for k, vector in enumerate(rng.standard_normal((n, 4)))
    ]  # fmt: skip


def packing(out: Path, pack_size: int = 4, settings: str = "s1") -> Parts:
    return Parts(
        out, settings_digest=settings, provenance={"settings": {"name": "x"}}, pack_size=pack_size
    )


def test_parts_are_packed_and_the_table_is_the_same(tmp_path: Path) -> None:
    """Whatever the size of a pack, and however often the run was resumed."""
    rows = many(23)
    expected = tmp_path / "expected.parquet"
    save_table(table_from_rows(rows, provenance={"settings": {"name": "x"}}), expected)
    for pack_size in (1, 4, 5, 1000):
        out = tmp_path / f"v{pack_size}.parquet"
        for start in range(0, 23, 6):
            parts = packing(out, pack_size)
            for one in rows[start : start + 6]:
                parts.commit(one)
                assert len(list(parts.folder.iterdir())) <= 23 // pack_size + pack_size
        parts.merge()
        assert out.read_bytes() == expected.read_bytes()


def test_the_latest_row_of_a_slide_counts(tmp_path: Path) -> None:
    out = tmp_path / "v.parquet"
    for inputs in ("i1", "i2", "i3"):
        parts = packing(out)
        for one in many(6, inputs=inputs):
            parts.commit(one)
    names = [one.slide_id for one in many(6)]
    again = packing(out)
    assert again.reusable([source(name) for name in names], dict.fromkeys(names, "i3")) == set(
        names
    )
    again.merge()
    assert {one.inputs_digest for one in open_table(out).rows()} == {"i3"}


def test_killed_between_packing_and_clearing_up_nothing_stands_twice(tmp_path: Path) -> None:
    out, copies = tmp_path / "v.parquet", tmp_path / "copies"
    parts = packing(out)
    for one in many(3):
        parts.commit(one)
    shutil.copytree(parts.folder, copies)
    parts.commit(many(4)[3])
    assert [path.name for path in parts.folder.iterdir()] == ["pack-00000000.parquet"]
    shutil.copytree(copies, parts.folder, dirs_exist_ok=True)

    again = packing(out)
    again.commit(row("later"))
    assert len(list(again.folder.iterdir())) == 2
    again.merge()
    assert len(open_table(out)) == 5


def test_a_damaged_pack_is_only_done_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "v.parquet"
    parts = packing(out)
    for one in many(9):
        parts.commit(one)
    first = parts.folder / "pack-00000000.parquet"
    first.write_bytes(first.read_bytes()[:-20])
    names = [one.slide_id for one in many(9)]
    again = packing(out)
    found = again.reusable([source(name) for name in names], dict.fromkeys(names, "i1"))
    assert found == set(names[4:])
    assert "ignoring a damaged part" in caplog.text
    for one in many(9)[:4]:
        again.commit(one)
    assert not (again.folder / "pack-00000003.parquet").exists()
    assert (again.folder / "pack-00000002.parquet").exists(), "no pack is written over"
    again.merge()
    assert open_table(out).slide_ids == sorted(names)


def test_rows_of_other_settings_are_not_packed(tmp_path: Path) -> None:
    out = tmp_path / "v.parquet"
    parts = packing(out, settings="s2")
    parts.commit(row("other", settings="s2"))
    ours = packing(out)
    for one in many(5):
        ours.commit(one)
    assert packing(out, settings="s2").reusable([source("other")], {"other": "i1"}) == {"other"}
    ours.merge()
    assert "other" not in open_table(out).slide_ids


def test_a_row_that_no_longer_holds_is_not_packed(tmp_path: Path) -> None:
    out = tmp_path / "v.parquet"
    parts = packing(out)
    for one in many(4)[:3]:
        parts.commit(one)
    parts.drop([many(4)[0].slide_id])
    parts.commit(many(4)[3])
    parts.merge()
    assert len(open_table(out)) == 3
