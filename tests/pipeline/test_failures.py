"""The failures file: sorted, quoted, read back, gone when nothing fails."""

from pathlib import Path

from gigassl.errors import SlideError
from gigassl.pipeline.failures import Failure, failures_path, read_failures, save_failures
from gigassl.slides.cohort import CohortSlide


def failure(slide_id: str, reason: str = "no tissue, none; at all\nreally") -> Failure:
    slide = CohortSlide(
        slide_id=slide_id, path=Path("a, b.svs"), patient_id="p", patient_rule="column"
    )
    return Failure.of(slide, SlideError(reason, stage="tissue", detail='it "said" so'))


def test_rows_survive_commas_quotes_and_line_breaks_sorted(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    save_failures([failure("b"), failure("a")], path)
    assert path.read_text().startswith("slide_id,path,stage,reason,detail\n")
    assert read_failures(path) == [failure("a"), failure("b")]


def test_without_failures_an_older_file_goes(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    save_failures([failure("a")], path)
    save_failures([], path)
    assert not path.exists()
    assert read_failures(path) == []


def test_it_lies_beside_the_table() -> None:
    assert failures_path(Path("x/v.1.parquet")) == Path("x/v.1.failures.csv")
