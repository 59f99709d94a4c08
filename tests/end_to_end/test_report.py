"""``gigassl report`` as a user runs it; tests/pages has what its page does in a browser."""

import json
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Run
from tests.pages.cohorts import N, cohort_on_disk, table_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort_on_disk(tmp_path_factory.mktemp("report"))


def test_a_page_of_everything_repeats_itself_on_other_threads(
    folder: Path, tmp_path: Path, run: Run
) -> None:
    predictions = tmp_path / "p.parquet"
    probed = run("probe", folder / "vectors.parquet", "--labels", folder / "labels.csv", "--target",
                 "hospital", "--folds", 3, "-o", predictions)  # fmt: skip
    assert probed.code == 0, probed.err
    given = ("report", folder / "vectors.parquet", "--labels", folder / "labels.csv", "--slides",
             folder / "slides.csv", "--predictions", predictions, "--target", "subtype",
             "--site-column", "hospital", "--no-umap")  # fmt: skip
    done = run(*given, "-o", tmp_path / "a.html", "--json", "--workers", 1)
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["slides"] == said["thumbnails"] == N
    assert said["sections"][:2] == ["cohort", "map"]
    assert {"outliers", "batches", "failures", "provenance"} < set(said["sections"])
    assert any(name.startswith("evaluation") for name in said["sections"])
    assert said["bytes"] == (tmp_path / "a.html").stat().st_size
    assert run(*given, "-o", tmp_path / "b.html", "--workers", 3).code == 0
    page = (tmp_path / "a.html").read_bytes()
    assert page == (tmp_path / "b.html").read_bytes()
    assert str(tmp_path).encode() not in page
    assert str(folder).encode() not in page


def test_failures_are_listed_without_their_folders(folder: Path, tmp_path: Path, run: Run) -> None:
    from gigassl.vectors.table import save_table

    vectors = tmp_path / "v.parquet"
    save_table(table_of(folder), vectors)
    (tmp_path / "v.failures.csv").write_text(
        "slide_id,path,stage,reason,detail\nlost,/secret/lost.svs,open,its header is damaged,\n"
    )
    (tmp_path / "slides.csv").write_text(f"slide_id,path\nslide 001,{folder}/slides/1.svs\n")
    done = run("report", vectors, "-o", tmp_path / "r.html", "--no-umap", "--slides",
               tmp_path / "slides.csv")  # fmt: skip
    assert done.code == 1
    assert "no thumbnail of slide 002: no file of it in slides.csv" in done.out
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "its header is damaged" in text
    assert "/secret" not in text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--target", "subtpye"), "did you mean 'subtype'?"),
        (("--site-column", "ward"), "unknown column 'ward'"),
        (("--predictions", "none.parquet"), "none.parquet"),
        (("--slides", "nowhere"), "no such file or folder: nowhere"),
        (("--explanations", "nowhere"), "nowhere"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    folder: Path, tmp_path: Path, run: Run, options: tuple[str, ...], sentence: str
) -> None:
    done = run("report", folder / "vectors.parquet", "--labels", folder / "labels.csv", "--no-umap",
               "-o", tmp_path / "r.html", *options)  # fmt: skip
    assert done.code == 2
    assert sentence in done.err
    assert not (tmp_path / "r.html").exists()


def test_labels_of_other_slides_and_other_endings_are_refused(
    folder: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "other.csv").write_text("slide_id,grade\nx,1\n")
    done = run("report", folder / "vectors.parquet", "--labels", tmp_path / "other.csv", "-o",
               tmp_path / "r.html", "--no-umap")  # fmt: skip
    assert done.code == 2
    assert "says nothing of the slides of the vectors: it names 'x'" in done.err
    done = run("report", folder / "vectors.parquet", "-o", tmp_path / "r.pdf")
    assert "end its name in .html" in done.err
