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


def test_it_lies_beside_a_table_and_inside_a_folder() -> None:
    assert failures_path(Path("x/v.parquet")) == Path("x/v.failures.csv")
    assert failures_path(Path("x/bags")) == Path("x/bags/failures.csv")
