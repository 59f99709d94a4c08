"""``gigassl embed`` through the command line, on slides read by OpenSlide."""

import json
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from gigassl.bags.bag import open_bag
from gigassl.pipeline.failures import read_failures
from gigassl.slides.slide_files import save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.vectors.table import open_table
from tests.end_to_end.conftest import Run


@pytest.fixture
def table(run: Run, slides: Path, tmp_path: Path) -> Path:
    out = tmp_path / "vectors.parquet"
    done = run("embed", slides, "-o", out)
    assert done.code == 0, done.err
    assert "3 slides (3 new, 0 from before)" in done.out
    return out


def test_one_row_a_slide_that_pandas_and_duckdb_open(table: Path) -> None:
    frame = pd.read_parquet(table)
    assert frame["slide_id"].tolist() == ["alpha", "beta", "gamma"]
    assert (frame["n_tiles"] > 3).all()
    assert (frame["mpp"] == 0.5).all()
    assert set(frame["mpp_source"]) == {"file:mpp"}
    vectors = np.stack(frame["embedding"].to_list())
    assert vectors.shape == (3, 1280)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    found = (
        duckdb.connect()
        .execute(
            f"SELECT a.slide_id, list_inner_product(a.embedding, b.embedding) AS cosine "
            f"FROM '{table}' a, '{table}' b WHERE b.slide_id = 'beta' ORDER BY cosine DESC"
        )
        .fetchall()
    )
    assert found[0][0] == "beta"
    assert found[0][1] == pytest.approx(1, abs=1e-4)


def test_nothing_is_left_beside_the_table(table: Path) -> None:
    left = {path.name for path in table.parent.iterdir()}
    assert left == {"vectors.parquet", ".vectors.parquet.lock"}


def test_a_rerun_embeds_only_what_is_missing(
    run: Run, slides: Path, table: Path, tmp_path: Path
) -> None:
    before = table.read_bytes()
    again = run("embed", slides, "-o", table)
    assert "3 of 3 slides are done already; 0 to do" in again.err
    assert table.read_bytes() == before

    more = tmp_path / "more"
    shutil.copytree(slides, more)
    shutil.copy(slides / "alpha.svs", more / "delta.svs")
    grown = run("embed", more, "-o", table)
    assert "4 slides (1 new, 3 from before)" in grown.out
    rows = open_table(table)
    np.testing.assert_array_equal(rows.vector("alpha"), rows.vector("delta"))


def test_other_settings_embed_anew_and_say_which(run: Run, slides: Path, table: Path) -> None:
    before = open_table(table)
    done = run("embed", slides, "-o", table, "--target-mpp", "1.0")
    assert "3 slides in" in done.err
    assert "tiles.grid.target_mpp: 0.5 → 1.0" in done.err
    assert "expects tiles at 0.5 µm/px; they are read at 1" in done.err
    assert "(3 new, 0 from before)" in done.out
    assert open_table(table).settings_digest != before.settings_digest


def test_a_changed_slide_is_embedded_anew(run: Run, slides: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(slides, folder)
    out = tmp_path / "v.parquet"
    run("embed", folder, "-o", out)
    before = open_table(out).vector("beta").copy()
    painted = paint_slide(SyntheticSettings(width_px=1344, height_px=1120, seed=77))
    save_image(painted.image, folder / "beta.svs", mpp=0.5)
    done = run("embed", folder, "-o", out)
    assert "(1 new, 2 from before)" in done.out
    assert not np.array_equal(open_table(out).vector("beta"), before)


def test_slides_of_another_input_stay_or_stop_the_run(
    run: Run, slides: Path, table: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(slides / "alpha.svs", other / "delta.svs")
    done = run("embed", other, "-o", table)
    assert "3 slides in" in done.err
    assert "are not in this input; they stay" in done.err
    assert open_table(table).slide_ids == ["alpha", "beta", "delta", "gamma"]
    refused = run("embed", other, "-o", table, "--slide-encoder", "max")
    assert refused.code == 2
    assert "holds 3 slides that are not in this input, made with other settings" in refused.err
    assert open_table(table).slide_ids == ["alpha", "beta", "delta", "gamma"]


@pytest.mark.parametrize("workers", [1, 3])
def test_same_bytes_on_any_number_of_workers(
    run: Run, slides: Path, table: Path, tmp_path: Path, workers: int
) -> None:
    out = tmp_path / f"{workers}.parquet"
    run("embed", slides, "-o", out, "--workers", workers)
    assert out.read_bytes() == table.read_bytes()


def test_shards_merge_to_the_same_bytes(
    run: Run, slides: Path, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "array.parquet"
    for index in (1, 2):
        done = run("embed", slides, "-o", out, "--shard", f"{index}/2")
        assert done.code == 0, done.err
    parts = sorted(tmp_path.glob("array.shard-*.parquet"))
    assert [part.name for part in parts] == [
        "array.shard-1-of-2.parquet",
        "array.shard-2-of-2.parquet",
    ]
    done = run("merge", *parts, "-o", out)
    assert done.code == 0, done.err
    assert out.read_bytes() == table.read_bytes()


def test_merging_parts_of_other_settings_is_refused(
    run: Run, slides: Path, table: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.parquet"
    run("embed", slides, "-o", other, "--slide-encoder", "max")
    done = run("merge", table, other, "-o", tmp_path / "both.parquet")
    assert done.code == 2
    assert "slide_encoder" in done.err
    assert not (tmp_path / "both.parquet").exists()


def test_bags_on_the_way_give_the_same_vectors(
    run: Run, slides: Path, table: Path, tmp_path: Path
) -> None:
    bags = tmp_path / "bags"
    assert run("encode", slides, "-o", bags).code == 0
    again = run("encode", slides, "-o", bags)
    assert "bags of 3 slides (0 new, 3 from before)" in again.out
    out = tmp_path / "from-bags.parquet"
    done = run("embed", bags, "-o", out)
    assert done.code == 0, done.err
    np.testing.assert_array_equal(open_table(out).embeddings, open_table(table).embeddings)

    kept = tmp_path / "kept"
    run("embed", slides, "-o", tmp_path / "again.parquet", "--keep-bags", kept)
    for path in bags.glob("*.h5"):
        assert (kept / path.name).read_bytes() == path.read_bytes()
    bag = open_bag(bags / "alpha.h5")
    assert len(bag) == pd.read_parquet(table).set_index("slide_id").loc["alpha", "n_tiles"]


@pytest.mark.parametrize(
    ("slide_encoder", "formula"),
    [
        ("mean", lambda f: f.mean(axis=0)),
        ("max", lambda f: f.max(axis=0)),
        ("mean+std", lambda f: np.concatenate([f.mean(axis=0), f.std(axis=0)])),
    ],
)
def test_the_vector_is_the_pooled_bag(
    run: Run, slides: Path, tmp_path: Path, slide_encoder: str, formula: object
) -> None:
    out, bags = tmp_path / "v.parquet", tmp_path / "bags"
    run("embed", slides, "-o", out, "--keep-bags", bags, "--slide-encoder", slide_encoder)
    for slide_id in ("alpha", "gamma"):
        pooled = formula(open_bag(bags / f"{slide_id}.h5").features.astype(np.float64))  # type: ignore[operator]
        expected = pooled / np.linalg.norm(pooled)
        np.testing.assert_allclose(open_table(out).vector(slide_id), expected, atol=1e-6)


def test_overviews_are_drawn_also_for_a_slide_without_tissue(
    run: Run, slides: Path, tmp_path: Path
) -> None:
    folder, seen = tmp_path / "own", tmp_path / "seen"
    shutil.copytree(slides, folder)
    blank = paint_slide(SyntheticSettings(width_px=1120, height_px=1120, blank=True))
    save_image(blank.image, folder / "blank.svs", mpp=0.5)
    done = run("embed", folder, "-o", tmp_path / "v.parquet", "--overviews", seen)
    assert done.code == 1
    assert {path.name for path in seen.iterdir()} == {
        "alpha.png", "beta.png", "blank.png", "gamma.png", "tissue",
    }  # fmt: skip
    outlines = [path.name for path in sorted((seen / "tissue").iterdir())]
    assert outlines == ["alpha.geojson", "beta.geojson", "blank.geojson", "gamma.geojson"]
    # as they are, or corrected in QuPath, they serve as masks: here they lead to the same tiles
    again = run("embed", slides, "-o", tmp_path / "w.parquet", "--masks", seen / "tissue")
    assert again.code == 0
    for slide_id in ("alpha", "beta", "gamma"):
        kept = open_table(tmp_path / "v.parquet").vector(slide_id)
        np.testing.assert_allclose(open_table(tmp_path / "w.parquet").vector(slide_id), kept)


def test_cohort_table_with_mpp_patients_and_masks(run: Run, slides: Path, tmp_path: Path) -> None:
    import cv2

    cohort = tmp_path / "cohort.csv"
    rows = [f"{name},{slides / name}.svs,P1,1.0" for name in ("alpha", "beta")]
    cohort.write_text("slide_id,path,patient_id,mpp\n" + "\n".join(rows))
    masks = tmp_path / "masks"
    masks.mkdir()
    left_half = np.zeros((112, 134), dtype=np.uint8)
    left_half[:, :67] = 255
    cv2.imwrite(str(masks / "alpha.png"), left_half)
    out = tmp_path / "v.parquet"
    done = run("embed", cohort, "-o", out, "--masks", masks, "--target-mpp", "1.0", "--json")
    assert done.code == 1
    summary = json.loads(done.out)
    assert [(f["slide_id"], f["stage"]) for f in summary["failures"]] == [("beta", "tissue")]
    assert "no tissue mask" in summary["failures"][0]["reason"]
    (row,) = pd.read_parquet(out).to_dict("records")
    assert (row["patient_id"], row["mpp"], row["mpp_source"]) == ("P1", 1.0, "cohort")
    assert row["n_tiles"] == 3 * 5  # the left half of 6 × 5 tiles


def test_unknown_names_and_wrong_options_exit_2_with_one_sentence(
    run: Run, slides: Path, tmp_path: Path
) -> None:
    out = tmp_path / "v.parquet"
    cases: list[tuple[list[object], str]] = [
        (["--tile-encoder", "efficientnet-lite"], "did you mean 'efficientnet-lite0'"),
        (["--shard", "3/2"], "1 ≤ i ≤ n"),
        (["--shard", "two"], "--shard wants I/N"),
        (["--min-tissue", "7"], "min tissue is a fraction"),
        (["--masks", tmp_path / "absent"], "no such folder of tissue masks"),
    ]
    for arguments, sentence in cases:
        done = run("embed", slides, "-o", out, *arguments)
        assert done.code == 2, arguments
        assert sentence in done.err
        assert len(done.err.strip().splitlines()) == 1, done.err
        assert not out.exists()
    done = run("embed", slides, "-o", tmp_path / "vectors")
    assert done.code == 2
    assert "ends in .parquet" in done.err


def test_encoding_in_parts_into_a_folder_with_a_dot(run: Run, slides: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "bags.whole", tmp_path / "bags.v1"
    assert run("encode", slides, "-o", whole).code == 0
    for index in (1, 2):
        assert run("encode", slides, "-o", parts, "--shard", f"{index}/2").code == 0
    for path in whole.glob("*.h5"):
        assert (parts / path.name).read_bytes() == path.read_bytes()
    assert len(list(parts.glob("*.h5"))) == 3


def test_encode_lists_its_failures_in_the_folder(run: Run, slides: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(slides, folder)
    (folder / "empty.svs").write_bytes(b"")
    done = run("encode", folder, "-o", tmp_path / "bags")
    assert done.code == 1
    assert "bags of 3 slides (3 new" in done.out
    (failure,) = read_failures(tmp_path / "bags" / "failures.csv")
    assert (failure.slide_id, failure.reason) == ("empty", "the file is empty")
