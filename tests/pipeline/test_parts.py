"""Parts: commits survive, damaged ones are redone, only rows that still hold are reused."""

from pathlib import Path

import numpy as np
import pytest

from gigassl.errors import SettingsError
from gigassl.pipeline.parts import Parts
from gigassl.slides.cohort import CohortSlide
from gigassl.vectors.table import SlideRow, open_table


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
