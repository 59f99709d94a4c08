"""``inspect``, ``doctor`` and ``demo`` through the command line."""

import json
from pathlib import Path

import pytest

from gigassl.slides.cohort import read_cohort
from tests.end_to_end.conftest import Run


def test_inspect_says_what_each_kind_of_file_is(run: Run, slides: Path, tmp_path: Path) -> None:
    out, bags = tmp_path / "v.parquet", tmp_path / "bags"
    run("embed", slides, "-o", out, "--keep-bags", bags)

    table = json.loads(run("inspect", out, "--json").out)
    assert (table["kind"], table["slides"], table["dim"]) == ("vectors table", 3, 1280)
    assert table["provenance"]["settings"]["tile_encoder"]["name"] == "efficientnet-lite0"
    assert table["provenance"]["versions"]["torch"]

    bag = json.loads(run("inspect", bags / "alpha.h5", "--json").out)
    assert bag["kind"] == "bag (gigassl layout)"
    assert bag["info"]["effective_mpp"] == 0.5

    slide = json.loads(run("inspect", slides / "alpha.svs", "--json").out)
    assert (slide["kind"], slide["width_l0"], slide["mpp"]) == ("slide", 1344, 0.5)
    text = run("inspect", slides / "alpha.svs").out
    assert "mpp_source: file:mpp" in text

    (tmp_path / "x.docx").write_text("x")
    refused = run("inspect", tmp_path / "x.docx")
    assert refused.code == 2
    assert "none of our kinds" in refused.err


def test_inspect_describes_a_slide_without_resolution(run: Run, tmp_path: Path) -> None:
    from gigassl.slides.slide_files import SlideFileSettings, save_image
    from gigassl.slides.synthetic import SyntheticSettings, paint_slide

    image = paint_slide(SyntheticSettings(width_px=512, height_px=512)).image
    save_image(image, tmp_path / "s.svs", mpp=0.5, settings=SlideFileSettings(with_mpp=False))
    slide = json.loads(run("inspect", tmp_path / "s.svs", "--json").out)
    assert slide["mpp"] is None
    assert "--slide-mpp" in slide["mpp_problem"]


def test_inspect_reads_a_model_card(run: Run, tmp_path: Path) -> None:
    import torch

    from gigassl.tiles.encoder_files import save_encoder
    from gigassl.tiles.encoders import load_encoder

    encoder = load_encoder("efficientnet-lite0")
    save_encoder(tmp_path / "m.safetensors", record=encoder.record, network=torch.nn.Linear(2, 2))
    card = json.loads(run("inspect", tmp_path / "m.safetensors", "--json").out)["card"]
    assert card["record"]["name"] == "efficientnet-lite0"


def test_doctor_finds_this_installation_sound(run: Run) -> None:
    checks = {c["name"]: c for c in json.loads(run("doctor", "--json").out)}
    assert checks["openslide"]["ok"]
    assert checks["tile encoder efficientnet-lite0"]["found"].startswith("bundled, 1280-d")
    text = run("doctor")
    assert text.code == 0
    assert "MISSING" not in text.out
    listed = run("doctor", "--encoders").out
    assert "uni" in listed
    assert "gated" in listed


def test_demo_paints_embeds_trains_and_says_where_to_look(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = run("demo", "-o", folder, "--slides", "4")
    assert done.code == 0, done.err
    assert len(list((folder / "overviews").glob("*.png"))) == 4
    assert (folder / "slide-encoder.log" / "curves.png").is_file()
    for vectors, dim in (("vectors-mean.parquet", 1280), ("vectors.parquet", 512)):
        table = json.loads(run("inspect", folder / vectors, "--json").out)
        assert (table["slides"], table["dim"]) == (4, dim)
    assert "overviews" in done.out
    assert "curves.png" in done.out
    assert f"open:      {folder / 'report.html'}" in done.out
    page = (folder / "report.html").read_text()
    for painted in read_cohort(folder / "slides" / "cohort.csv").slides:
        assert painted.slide_id in page
    assert "nearest slide has the same composition: mean of tiles" in done.out


@pytest.mark.slow
def test_a_demo_of_enough_slides_says_what_its_vectors_are_worth(run: Run, tmp_path: Path) -> None:
    done = run("demo", "-o", tmp_path, "--slides", "12")
    assert done.code == 0, done.err
    for method in (
        "vectors · giga-ssl",
        "vectors-mean · giga-ssl",
        "abmil",
        "shuffled-coordinates",
    ):
        assert method in done.out
    for name in ("predictions.parquet", "comparison.md", "learning_curve.png"):
        assert (tmp_path / "worth" / name).is_file()


@pytest.mark.parametrize("kind", ["truncated", "foreign"])
def test_inspect_of_a_bad_table_is_a_sentence(run: Run, tmp_path: Path, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "v.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:40])
    done = run("inspect", path)
    assert done.code == 2
    assert ("damaged" if kind == "truncated" else "not a table of slide vectors") in done.err
