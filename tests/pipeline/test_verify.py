"""Rows made again: an honest table is certified, whatever was changed is caught and named."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import gigassl
from gigassl.bags.prepare import TileSettings
from gigassl.digests import digest_of_settings, plain
from gigassl.errors import SettingsError
from gigassl.pipeline.embed import EmbedSettings
from gigassl.pipeline.embed import embed as embed_slides
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.verify_result import VerifiedRow, VerifyResult
from gigassl.pipeline.verify_settings import VerifyOptions, other_versions, tile_settings_of
from gigassl.slides.cohort import Cohort, read_cohort
from gigassl.slides.grid import GridSettings
from gigassl.slides.slide_files import save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.tiles.encoder_files import save_encoder
from gigassl.tiles.encoders import encoder_record, plain_network
from gigassl.vectors.ensemble import EnsembleSettings
from gigassl.vectors.row import SlideRow
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.slide_model import SlideEncoderRecord, SlideModel
from gigassl.vectors.table import open_table, save_table, table_from_rows

QUICK = "nic:mean-rgb"
NETWORK = "random:resnet18@layer1"


def embed(
    source: Path | Cohort, out: Path, *, encoder: str = QUICK,
    settings: EmbedSettings | None = None, options: RunOptions | None = None,
) -> Path:  # fmt: skip
    """The table that ``embed`` writes."""
    embed_slides(source, out, encoder=encoder, settings=settings, options=options)
    return out


@pytest.fixture(scope="module")
def made(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table by the quickest encoder, and one by a network."""
    folder = tmp_path_factory.mktemp("made")
    for name, encoder in (("quick", QUICK), ("network", NETWORK)):
        embed(slides, folder / f"{name}.parquet", encoder=encoder)
    return folder


@pytest.fixture
def table(made: Path, tmp_path: Path) -> Path:
    """Rows of alpha, beta and gamma by the quickest encoder; the test's own."""
    return Path(shutil.copy(made / "quick.parquet", tmp_path / "v.parquet"))


def _edited(path: Path, change: Callable[[SlideRow], SlideRow], *, settings: object = None) -> None:
    """The table with other rows, and where wanted with other settings that fit their digest."""
    table = open_table(path)
    rows, provenance = [change(row) for row in table.rows()], dict(table.provenance)
    if settings is not None:
        provenance["settings"] = settings
        digest = digest_of_settings(settings)
        rows = [replace(row, settings_digest=digest) for row in rows]
    save_table(table_from_rows(rows, provenance=provenance), path)


def _verdicts(result: VerifyResult) -> dict[str, str]:
    return {row.slide_id: row.verdict for row in result.rows}


def test_an_honest_table_is_certified_to_the_last_bit(table: Path, slides: Path) -> None:
    result = gigassl.verify(table, slides)
    assert result.certified
    assert [row.difference for row in result.rows] == [0.0, 0.0, 0.0]
    assert (result.changed, result.versions, result.most_differing) == ({}, {}, 0.0)
    assert "certified: every sampled row re-embedded has cosine ≥ 0.9999" in result.sentence()


def test_the_seed_draws_the_sample(table: Path, slides: Path) -> None:
    drawn = {
        gigassl.verify(table, slides, options=VerifyOptions(sample=1, seed=seed)).rows[0].slide_id
        for seed in (0, 1, 11)
    }
    assert drawn == {"alpha", "beta", "gamma"}


def test_two_rows_swapped_are_caught(table: Path, slides: Path) -> None:
    vectors = {row.slide_id: row.embedding for row in open_table(table).rows()}
    other = {"alpha": "beta", "beta": "alpha", "gamma": "gamma"}
    _edited(table, lambda row: replace(row, embedding=vectors[other[row.slide_id]]))
    result = gigassl.verify(table, slides)
    assert _verdicts(result) == {"alpha": "differs", "beta": "differs", "gamma": "same"}
    assert "settings and versions are the table's, so rows or slides changed" in result.sentence()


@pytest.mark.parametrize(("cosine", "verdict"), [(0.9998, "differs"), (0.99995, "same")])
def test_the_limit_lies_where_it_is_said_to(
    slides: Path, made: Path, tmp_path: Path, cosine: float, verdict: str
) -> None:
    table = Path(shutil.copy(made / "network.parquet", tmp_path / "v.parquet"))

    def turned(row: SlideRow) -> SlideRow:
        if row.slide_id != "beta":
            return row
        vector = row.embedding.astype(np.float64)
        aside = np.random.default_rng(0).normal(size=len(vector))
        aside -= aside @ vector * vector / (vector @ vector)
        aside /= np.linalg.norm(aside)
        moved = cosine * vector + np.sqrt(1 - cosine**2) * aside
        return replace(row, embedding=moved.astype(np.float32))

    _edited(table, turned)
    result = gigassl.verify(table, slides)
    assert _verdicts(result) == {"alpha": "same", "beta": verdict, "gamma": "same"}
    assert result.rows[1].cosine == pytest.approx(cosine, abs=1e-6)


def test_another_target_mpp_is_caught_and_named(table: Path, slides: Path) -> None:
    settings = plain(open_table(table).provenance["settings"])
    settings["tiles"]["grid"]["target_mpp"] = 1.0
    _edited(table, lambda row: row, settings=settings)
    result = gigassl.verify(table, slides)
    assert set(_verdicts(result).values()) == {"differs"}
    assert all("effective_mpp 0.5 → 1.0" in row.reason for row in result.rows)


def test_settings_that_are_not_those_of_the_rows_are_named(table: Path, slides: Path) -> None:
    known = open_table(table)
    settings = plain(known.provenance["settings"])
    settings["tiles"]["grid"]["min_tissue"] = 0.49
    forged = {**known.provenance, "settings": settings}
    save_table(replace(known, provenance=forged), table)
    result = gigassl.verify(table, slides)
    assert not result.certified
    assert list(result.changed) == ["settings_digest of the rows"]


def test_other_weights_are_caught_and_named(slides: Path, tmp_path: Path) -> None:
    file, twin = tmp_path / "mine.safetensors", tmp_path / "twin.safetensors"
    record = replace(encoder_record(NETWORK), name="mine")
    save_encoder(file, record=record, network=plain_network(NETWORK))
    save_encoder(twin, record=record, network=plain_network(f"{NETWORK}?seed=1"))
    table = embed(slides, tmp_path / "v.parquet", encoder=str(file))
    with pytest.raises(SettingsError, match=r"encoded by 'mine'.*--tile-encoder FILE"):
        gigassl.verify(table, slides)
    assert gigassl.verify(table, slides, encoder=str(file)).certified
    result = gigassl.verify(table, slides, encoder=str(twin))
    assert list(result.changed) == ["tile_encoder.weights"]
    assert set(_verdicts(result).values()) == {"differs"}
    assert "changed: tile_encoder.weights: " in result.sentence()


def test_a_slide_replaced_by_another_file_is_caught(
    table: Path, slides: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(slides, own)
    painted = paint_slide(SyntheticSettings(width_px=1344, height_px=1120, seed=77))
    save_image(painted.image, own / "beta.svs", mpp=0.5)
    result = gigassl.verify(table, own)
    assert _verdicts(result) == {"alpha": "same", "beta": "other file", "gamma": "same"}
    assert "slide file (size, quickhash): digest" in result.rows[1].reason


def test_truncated_and_missing_slides_are_told_apart(
    table: Path, slides: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(slides, own)
    whole = (own / "beta.svs").read_bytes()
    (own / "beta.svs").write_bytes(whole[: len(whole) // 2])
    (own / "gamma.svs").unlink()
    result = gigassl.verify(table, own)
    assert _verdicts(result) == {"alpha": "same", "beta": "unreadable", "gamma": "missing"}
    assert "truncated" in result.rows[1].reason
    assert result.rows[2].reason == "no file of that slide_id (it was gamma.svs)"
    nothing = gigassl.verify(table, Cohort(slides=()))
    assert set(_verdicts(nothing).values()) == {"missing"}
    assert "since their slides are not there" in nothing.sentence()


def test_mpp_of_the_cohort_counts_as_it_was(slides: Path, tmp_path: Path) -> None:
    known = read_cohort(slides)
    coarse = Cohort(slides=tuple(replace(slide, mpp=0.25) for slide in known.slides))
    table = embed(coarse, tmp_path / "v.parquet", encoder=QUICK)
    assert gigassl.verify(table, slides).certified, "the row says it, also without the table"
    table = embed(slides, tmp_path / "w.parquet", encoder=QUICK)
    assert gigassl.verify(table, coarse).certified, "what the cohort says today does not count"


def test_masks_are_asked_for_and_a_changed_one_is_named(slides: Path, tmp_path: Path) -> None:
    import cv2

    masks = tmp_path / "masks"
    masks.mkdir()
    whole = np.full((112, 134), 255, dtype=np.uint8)
    for name in ("alpha", "beta", "gamma"):
        cv2.imwrite(str(masks / f"{name}.png"), whole)
    options = RunOptions(masks=masks)
    table = embed(slides, tmp_path / "v.parquet", encoder=QUICK, options=options)
    with pytest.raises(SettingsError, match="made with tissue masks; give their folder"):
        gigassl.verify(table, slides)
    assert gigassl.verify(table, slides, options=VerifyOptions(masks=masks)).certified
    whole[0, 0] = 0
    cv2.imwrite(str(masks / "beta.png"), whole)
    result = gigassl.verify(table, slides, options=VerifyOptions(masks=masks))
    assert _verdicts(result) == {"alpha": "same", "beta": "differs", "gamma": "same"}
    assert "tissue mask" in result.rows[1].reason


def test_slide_encoders_are_asked_for_and_told_apart(slides: Path, tmp_path: Path) -> None:
    def model(seed: int) -> SlideModel:
        record = SlideEncoderRecord(architecture="mlp", dim=64, width=32, cell=112.0)
        network = new_network("mlp", dim=64, cell=112.0, seed=seed, options={"width": 32})
        return SlideModel(record=replace(record, options={"width": 32}), network=network.eval())

    settings = EmbedSettings(
        slide_encoder=model(0), views=EnsembleSettings(views=3, tiles_per_view=4, seed=5)
    )
    table = embed(slides, tmp_path / "v.parquet", encoder=NETWORK, settings=settings)
    with pytest.raises(SettingsError, match="--slide-encoder FILE"):
        gigassl.verify(table, slides)
    assert gigassl.verify(table, slides, slide_encoder=model(0)).certified
    result = gigassl.verify(table, slides, slide_encoder=model(1))
    assert list(result.changed) == ["slide_encoder.digest"]
    assert set(_verdicts(result).values()) == {"differs"}


def test_bags_serve_in_place_of_slides_and_slides_in_place_of_bags(
    slides: Path, tmp_path: Path
) -> None:
    bags = tmp_path / "bags"
    options = RunOptions(keep_bags=bags)
    table = embed(slides, tmp_path / "v.parquet", encoder=QUICK, options=options)
    kept = gigassl.verify(table, bags)
    assert kept.certified
    assert "made again from the bags (no tile was encoded)" in kept.sentence()

    of_bags = embed(bags, tmp_path / "b.parquet")
    assert gigassl.verify(of_bags, bags).certified
    assert gigassl.verify(of_bags, slides).certified, "its provenance holds how bags were made"

    other = tmp_path / "other"
    coarse = EmbedSettings(tiles=TileSettings(grid=GridSettings(target_mpp=1.0)))
    embed(slides, tmp_path / "c.parquet", encoder=QUICK, settings=coarse,
          options=RunOptions(keep_bags=other))  # fmt: skip
    result = gigassl.verify(table, other)
    assert "bags.settings_digest" in result.changed
    assert set(_verdicts(result).values()) == {"differs"}

    with h5py.File(bags / "beta.h5", "r+") as file:
        file["features"][:] = np.flip(file["features"][:], axis=1) + np.float16(1)
    assert _verdicts(gigassl.verify(of_bags, bags))["beta"] == "differs"


def test_bags_of_other_tools_are_read_as_they_were(tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    chance = np.random.default_rng(0)
    for name in ("a", "b"):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["feats"] = chance.normal(size=(9, 16)).astype(np.float32)
            file["coords"] = np.arange(18.0).reshape(9, 2) * 112
            file.attrs["extractor"] = "theirs"
    cohort = Cohort(slides=tuple(replace(slide, mpp=0.5) for slide in read_cohort(folder).slides))
    options = RunOptions(coords_unit="um")
    table = embed(cohort, tmp_path / "v.parquet", options=options)
    assert gigassl.verify(table, folder).certified
    with pytest.raises(SettingsError, match="does not say how those were made"):
        gigassl.verify(table, read_cohort(_a_slide(tmp_path)))


def _a_slide(folder: Path) -> Path:
    painted = paint_slide(SyntheticSettings(width_px=1344, height_px=1120, seed=0))
    (folder / "one").mkdir()
    save_image(painted.image, folder / "one" / "a.svs", mpp=0.5)
    return folder / "one"


def test_tables_that_cannot_be_made_again_are_refused(table: Path, slides: Path) -> None:
    known = open_table(table)
    imported = {"settings": {"imported": {"from": "theirs"}}}
    save_table(replace(known, provenance=imported), table)
    with pytest.raises(SettingsError, match="vectors of another tool"):
        gigassl.verify(table, slides)
    save_table(replace(known, provenance={}), table)
    with pytest.raises(SettingsError, match="does not say with which settings"):
        gigassl.verify(table, slides)
    later = plain(known.provenance["settings"])
    later["tiles"]["unheard_of"] = 1
    save_table(replace(known, provenance={"settings": later}), table)
    with pytest.raises(
        SettingsError, match=r"settings that this gigassl does not know.*unheard_of"
    ):
        gigassl.verify(table, slides)
    with pytest.raises(SettingsError, match="--sample must be at least 1"):
        VerifyOptions(sample=0)


def test_settings_of_tiles_survive_their_record() -> None:
    settings = TileSettings(grid=GridSettings(tile_px=96), tissue=None, default_mpp=0.25)
    assert tile_settings_of(plain(settings)) == settings
    assert tile_settings_of(plain(TileSettings())) == TileSettings()


def test_a_table_of_another_version_is_told_apart(table: Path, slides: Path) -> None:
    known = open_table(table)
    made = {**known.provenance["versions"], "torch": "1.0.0"}
    vectors = np.roll(known.embeddings, 1, axis=0)
    rows = [replace(row, embedding=v) for row, v in zip(known.rows(), vectors, strict=True)]
    save_table(table_from_rows(rows, provenance={**known.provenance, "versions": made}), table)
    result = gigassl.verify(table, slides)
    assert list(result.versions) == ["torch"]
    assert "other versions than the table was made with: torch 1.0.0 → " in result.sentence()
    assert "install the versions above" in result.sentence()
    merged = {"variants": [known.provenance, {**known.provenance, "versions": made}]}
    assert other_versions(merged)["torch"][0].startswith("1.0.0 or ")


def test_the_whole_is_judged_by_the_sample() -> None:
    def result(n_bad: int, *, sample: int = 20, population: int = 11_642) -> VerifyResult:
        verdicts = ["differs"] * n_bad + ["same"] * (sample - n_bad)
        rows = [VerifiedRow(slide_id=f"s{k}", verdict=v) for k, v in enumerate(verdicts)]  # type: ignore[arg-type]
        return VerifyResult(
            table=Path("v.parquet"), population=population, seed=0, rows=rows, changed={},
            versions={}, from_bags=False,
        )  # fmt: skip

    assert (
        "with 20 of 11,642 rows sampled and none differing, at most 14 % of rows can differ, at "
        "95% confidence"
    ) in result(0).sentence()
    assert "with 20 of 11,642 rows sampled and 2 differing, at most 29 %" in result(2).sentence()
    assert (
        "all 20 rows were made again; 3 differ or lack a slide"
        in result(3, population=20).sentence()
    )
