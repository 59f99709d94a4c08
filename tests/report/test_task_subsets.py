"""Table and figure of task subsets, of the published rows."""

from pathlib import Path

from PIL import Image

from gigassl.evaluate.task_subsets import SubsetRun
from gigassl.report.tables import grid_as_markdown
from gigassl.report.task_subsets import save_subset_figure, subset_grids
from tests.evaluate.published_subsets import TABLE_B2


def test_the_tables_say_what_was_published() -> None:
    each, counts, merits = subset_grids(TABLE_B2, title="TUPAC16", score="Spearman")
    assert each.rows[0] == ("colorectal + lymph", "2", "0.613")
    assert len(each.rows) == 18
    assert [row[2] for row in counts.rows] == ["0.512", "0.566", "0.563", "0.588"]
    assert "+0.575" in counts.title
    assert ("colorectal", "+0.824") in merits.rows
    assert "| colorectal | +0.824 |" in " ".join(grid_as_markdown(merits).split())


def test_what_is_not_defined_is_a_dash() -> None:
    runs = [SubsetRun(tasks=frozenset({"one"}), score=0.5)]
    _, counts, merits = subset_grids(runs, title="x", score="AUC")
    assert counts.rows == (("1", "1", "0.500", "–"),)
    assert merits.rows == (("one", "–"),)


def test_equal_runs_give_equal_pictures(tmp_path: Path) -> None:
    drawn = [
        save_subset_figure(
            TABLE_B2, tmp_path / name, title="TUPAC16", score="Spearman",
            controls={"untrained": 0.49},
        )
        for name in ("a", "b")
    ]  # fmt: skip
    for first, second in zip(*drawn, strict=True):
        assert first.read_bytes() == second.read_bytes()
    with Image.open(drawn[0][0]) as picture:
        assert picture.size[0] > 1000
