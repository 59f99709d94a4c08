"""``gigassl search`` through the command line: hits, conditions, new slides, sheets, metrics."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gigassl.slides.slide_files import SlideFileSettings, save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.vectors.search import nearest
from gigassl.vectors.table import open_table
from tests.end_to_end.cohorts import save_labels, save_vectors
from tests.end_to_end.conftest import Run

N = 60


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Sixty slides of thirty patients; their classes stand in the vectors, stage in some rows."""
    save_vectors(tmp_path / "v.parquet", N)
    save_labels(
        tmp_path / "labels.csv",
        {
            "project": ["LUAD" if k % 3 else "LUSC" for k in range(N)],
            "stage": ["" if k % 5 == 0 else str(k % 4) for k in range(N)],
        },
    )
    return tmp_path


def ids(out: str) -> list[str]:
    return [hit["slide_id"] for hit in json.loads(out)["hits"]]


def test_hits_are_the_nearest_and_conditions_hold_before_they_are_counted(
    cohort: Path, run: Run
) -> None:
    table = open_table(cohort / "v.parquet")
    common = ("search", cohort / "v.parquet", "s0007", "--labels", cohort / "labels.csv")
    done = run(*common, "-k", 5, "--json")
    assert done.code == 0, done.err
    assert ids(done.out) == [one.slide_id for one in nearest(table, "s0007", k=5)]
    for index in ("exact", "ivf", "hnsw"):
        done = run(
            *common, "-k", 12, "--where", "project == 'LUSC' and stage > 1", "--exclude-patient",
            "--index", index, "--json",
        )  # fmt: skip
        said = json.loads(done.out)
        assert said["index"] == index
        assert len(said["hits"]) == min(12, said["searched"])
        wanted = [k for k in range(N) if k % 3 == 0 and k % 5 and k % 4 > 1 and k // 2 != 3]
        assert {hit["slide_id"] for hit in said["hits"]} <= {f"s{k:04}" for k in wanted}
        assert said["searched"] == len(wanted)
        assert all(hit["cells"]["project"] == "LUSC" for hit in said["hits"])
    plain = run(*common, "--where", "stage is null", "-k", 50)
    assert "nearest to s0007 (stage 3, project LUAD) among 12 slides" in plain.out
    assert "12 of 50 hits: there are no more such slides" in plain.out
    assert "12 of 60 slides satisfy: stage == null" in plain.out


def test_hits_are_written_as_they_are(cohort: Path, run: Run) -> None:
    for name in ("hits.csv", "hits.parquet"):
        done = run("search", cohort / "v.parquet", "s0000", "-k", 3, "-o", cohort / name, "--show",
                   "n_tiles,mpp")  # fmt: skip
        assert done.code == 0, done.err
    with (cohort / "hits.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert [row["slide_id"] for row in rows] == pq.read_table(cohort / "hits.parquet")[
        "slide_id"
    ].to_pylist()
    assert (rows[0]["n_tiles"], rows[0]["mpp"], rows[0]["query"]) == ("5", "", "s0000")


def test_vectors_and_rows_of_other_tables(cohort: Path, run: Run) -> None:
    table = open_table(cohort / "v.parquet")
    np.save(cohort / "one.npy", 2 * table.vector("s0003"))
    save_vectors(cohort / "other.parquet", 4, seed=0)
    first = run("search", cohort / "v.parquet", cohort / "one.npy", "--json")
    assert ids(first.out)[0] == "s0003", "a bare vector is of no slide"
    again = run("search", cohort / "v.parquet", f"{cohort / 'other.parquet'}#s0003", "--json")
    by_name = run("search", cohort / "v.parquet", "s0003", "--json")
    assert ids(again.out) == ids(by_name.out), "the query slide is no hit, however it is given"
    save_vectors(cohort / "foreign.parquet", 4, encoder="f")
    done = run("search", cohort / "v.parquet", f"{cohort / 'foreign.parquet'}#s0003")
    assert done.code == 2
    assert "are of other encoders (tile_encoder: e → f)" in done.err


def test_a_new_slide_is_embedded_as_the_table_was(slides: Path, tmp_path: Path, run: Run) -> None:
    """Without µm/px in its file, too; on the sheet it comes first, and labels are no markup."""
    table, new = tmp_path / "v.parquet", tmp_path / "new.svs"
    assert run("embed", slides, "-o", table, "--tile-encoder", "nic:mean-rgb").code == 0
    painted = paint_slide(SyntheticSettings(width_px=1344, height_px=1120, seed=1))
    save_image(painted.image, new, mpp=0.5, settings=SlideFileSettings(with_mpp=False))
    labels = tmp_path / "labels.csv"
    labels.write_text("slide_id,note\nalpha,<script>alert(1)</script>\nbeta,b & c\n")
    common = ("search", table, new, "--slides", slides, "--labels", labels)
    done = run(*common, "--slide-mpp", 0.5, "--sheet", tmp_path / "near.html", "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["hits"][0]["slide_id"] == "beta", "painted with the same seed"
    assert said["hits"][0]["similarity"] > 0.9999
    assert "tiles, 0.5 µm/px (--slide-mpp)" in said["notes"][0]
    page = (tmp_path / "near.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 4
    assert "&lt;script&gt;alert(1)" in page
    assert "b &amp; c" in page
    assert "<script" not in page
    assert not re.search(r"https?://", page)
    (slides_copy := tmp_path / "some").mkdir()
    (slides_copy / "alpha.svs").symlink_to(slides / "alpha.svs")
    done = run("search", table, "beta", "--slides", slides_copy, "--sheet", tmp_path / "near.png")
    assert done.code == 1, "slides without a picture are named"
    assert "gamma: no picture on the sheet: no file of that name in the slides" in done.out
    with Image.open(tmp_path / "near.png") as picture:
        assert picture.size[0] > 900
    other = ("--tile-encoder", "efficientnet-lite0")
    done = run("search", table, slides / "beta.svs", *other)
    assert done.code == 2
    assert "beta.svs cannot be embedded as the table's slides were (tile_encoder" in done.err
    done = run("search", table, slides / "beta.svs")
    assert "'beta' stands in the table too and is left out" in done.out
    done = run("search", table, "beta", "--exclude-patient")
    assert "no patients are known, so each slide is its own" in done.out


def test_metrics_of_classes_that_are_in_the_vectors(cohort: Path, run: Run) -> None:
    out = cohort / "scores.csv"
    common = ("search", cohort / "v.parquet", "--metrics", "--labels", cohort / "labels.csv",
              "--target", "project", "--draws", 200)  # fmt: skip
    done = run(*common, "--json", "-o", out, "--at", "1,5,100")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["classes"] == {"LUAD": 40, "LUSC": 20}
    assert said["left_out_k"] == [100]
    first = said["scores"][0]
    assert (first["measure"], first["k"], first["of"]) == ("precision", 1, "")
    assert first["low"] < first["value"] < first["high"]
    assert len(out.read_text().splitlines()) == len(said["scores"]) + 1 == 2 * 13 + 1
    plain = run(*common, "--where", "stage is not null")
    for words in ("mMV, balanced", "each searched for among the others'", "by class, at 5",
                  "Chance: random rankings", "48 of 60 slides satisfy"):  # fmt: skip
        assert words in plain.out, words


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("t0007",), "unknown slide 't0007'; did you mean 's0007'"),
        (("s0007", "--where", "project == LUAD"), "or a text in quotes ('LUAD'); got 'LUAD'"),
        (("s0007", "--where", "projekt == 'LUAD'"), "unknown column 'projekt'; did you mean"),
        (("s0007", "--where", "slide_id > 3"), "column 'slide_id' holds texts, such as 's0000'"),
        (("s0007", "--show", "stge"), "unknown column 'stge'; did you mean 'stage'"),
        (("s0007", "--sheet", "x.png"), "needs the slides for its pictures: --slides FOLDER"),
        (("s0007", "--sheet", "x.pdf"), "ends in .png or .html; got x.pdf"),
        (("s0007", "-o", "x.txt"), "ends in .csv or .parquet; got x.txt"),
        (("s0007", "--target", "project"), "--target belongs to --metrics"),
        (("absent.npy",), "no such file: absent.npy"),
        (("absent.parquet#a",), "absent.parquet: no such file"),
        ((), "give a QUERY to search for, or --metrics"),
        (("s0007", "--metrics"), "--metrics searches for every slide"),
        (("--metrics", "--at", "1,x"), "--at is a list of whole numbers such as 1,3,5,10"),
        (("--metrics", "--at", "70", "--target", "project"), "k must lie between 1 and 58"),
        (("--metrics", "--target", "stages"), "has no column 'stages'"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    cohort: Path, run: Run, arguments: tuple[str, ...], sentence: str
) -> None:
    done = run("search", cohort / "v.parquet", *arguments, "--labels", cohort / "labels.csv")
    assert done.code == 2
    assert sentence in done.err


def test_bad_vectors_and_files_are_refused(cohort: Path, run: Run) -> None:
    bad = {
        "wide.npy": (np.ones(5), "has the shape [5]; the table's vectors are 12 wide"),
        "zero.npy": (np.zeros(12), "holds NaN, infinite numbers, or only zeros"),
        "text.npy": (np.array(["a"]), "holds no numbers"),
        "code.npy": (np.array([{}], dtype=object), "is no .npy file of numbers"),
    }
    for name, (content, sentence) in bad.items():
        np.save(cohort / name, content, allow_pickle=True)
        done = run("search", cohort / "v.parquet", cohort / name)
        assert (done.code, sentence in done.err) == (2, True), done.err
    np.save(cohort / "good.npy", np.ones(12))
    done = run("search", cohort / "v.parquet", cohort / "good.npy", "--exclude-patient")
    assert "says nothing of its patient" in done.err
    done = run("search", cohort / "v.parquet", cohort)
    assert "is a folder; give one slide file, or a slide_id" in done.err
    (cohort / "scan.svs").write_bytes(b"no slide")
    done = run("search", cohort / "v.parquet", cohort / "scan.svs")
    assert "the table does not say with which settings its rows were made" in done.err
