"""Pre-flight: the failures, tiles, time and room that a run then has; nothing is written."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import gigassl
from gigassl.errors import SlideError
from gigassl.pipeline.embed import EmbedSettings, embed
from gigassl.pipeline.forecast import Forecast
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.preflight import estimate_embed
from gigassl.pipeline.preflight_result import DiskNeed, EmbedEstimate
from gigassl.pipeline.preflight_survey import Survey, survey
from gigassl.pipeline.preflight_timing import TimedSlide, pick
from gigassl.pipeline.progress import Silent
from gigassl.slides.cohort import CohortSlide, read_cohort
from gigassl.slides.slide_files import save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.engine import TileEncoder

QUICK = "nic:mean-rgb"


@pytest.fixture(scope="module")
def encoder() -> TileEncoder:
    return load_encoder(QUICK)


@pytest.fixture(scope="module")
def mixed(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good slides among those that cannot be used, each for another reason."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copytree(slides, folder, dirs_exist_ok=True)
    (folder / "empty.svs").write_bytes(b"")
    (folder / "cut.svs").write_bytes((slides / "beta.svs").read_bytes()[:3000])
    (folder / "text.tiff").write_text("no slide")
    blank = paint_slide(SyntheticSettings(width_px=1120, height_px=1120, blank=True))
    save_image(blank.image, folder / "blank.svs", mpp=0.5)
    small = paint_slide(SyntheticSettings(width_px=1120, height_px=1120, seed=3)).image[:150, :150]
    save_image(np.ascontiguousarray(small), folder / "small.svs", mpp=0.5)
    coarse = paint_slide(SyntheticSettings(width_px=1120, height_px=1120, seed=4))
    save_image(coarse.image, folder / "coarse.svs", mpp=4.0)
    (folder / "cohort.csv").write_text(
        "slide_id,path\n"
        + "".join(f"{path.stem},{path.name}\n" for path in sorted(folder.iterdir()))
        + "absent,absent.svs\n"
    )
    return folder / "cohort.csv"


def test_it_lists_the_failures_that_the_run_has_and_counts_its_tiles(
    mixed: Path, tmp_path: Path, encoder: TileEncoder
) -> None:
    out = tmp_path / "v.parquet"
    foretold = gigassl.estimate_embed(mixed, out, encoder=encoder)
    assert list(tmp_path.iterdir()) == [], "nothing is written"
    done = embed(mixed, out, encoder=encoder)
    assert list(foretold.failures) == sorted(done.failures, key=lambda f: f.slide_id)
    assert {failure.stage for failure in foretold.failures} == {"open", "grid", "tissue"}
    assert len(foretold.failures) == 7
    assert done.table is not None
    n_tiles = sum(row.n_tiles or 0 for row in done.table.rows())
    assert foretold.n_tiles == Forecast(value=n_tiles, low=n_tiles, high=n_tiles)
    assert (foretold.n_slides, foretold.n_reused) == (9, 0)

    again = estimate_embed(mixed, out, encoder=encoder)
    assert (again.n_slides, again.n_reused) == (6, 3)
    assert (again.seconds, again.disk, again.n_tiles.value) == (None, None, 0)
    assert "unknown, since no slide could be timed" in again.sentence()


def test_room_on_the_disk_is_that_of_what_is_then_written(
    slides: Path, tmp_path: Path, encoder: TileEncoder
) -> None:
    options = RunOptions(keep_bags=tmp_path / "bags")
    found = estimate_embed(slides, tmp_path / "v.parquet", encoder=encoder, options=options)
    assert not (tmp_path / "bags").exists()
    embed(slides, tmp_path / "v.parquet", encoder=encoder, options=options)
    bags = sum(path.stat().st_size for path in (tmp_path / "bags").glob("*.h5"))
    assert found.disk is not None
    assert found.disk.bags is not None
    assert bags <= found.disk.bags <= 1.5 * bags
    assert found.disk.table == 3 * (4 * 3 + 200)
    assert found.disk.free is not None
    assert found.disk.cache is None


def test_parts_of_a_job_array_and_other_slide_encodings(
    slides: Path, tmp_path: Path, encoder: TileEncoder
) -> None:
    out = tmp_path / "v.parquet"
    whole = estimate_embed(slides, out, encoder=encoder)
    parts = [
        estimate_embed(slides, out, encoder=encoder, options=RunOptions(shard=(k, 2)))
        for k in (1, 2)
    ]
    assert sum(part.n_slides for part in parts) == whole.n_slides == 3
    assert sum(part.n_tiles.value for part in parts) == whole.n_tiles.value
    wide = estimate_embed(
        slides, out, encoder=encoder, settings=EmbedSettings(slide_encoder="mean+std")
    )
    assert wide.disk is not None
    assert wide.disk.table == 3 * (4 * 6 + 200)


def test_bags_are_counted_by_their_headers(
    slides: Path, tmp_path: Path, encoder: TileEncoder
) -> None:
    bags, out = tmp_path / "bags", tmp_path / "v.parquet"
    embed(slides, out, encoder=encoder, options=RunOptions(keep_bags=bags))
    n_tiles = sum(row.n_tiles or 0 for row in gigassl.open_table(out).rows())
    (bags / "text.h5").write_text("no bag")
    shutil.copy(bags / "beta.h5", bags / "other.h5")
    with h5py.File(bags / "other.h5", "r+") as file:
        file.attrs["settings_digest"] = "another"
    found = estimate_embed(bags, tmp_path / "b.parquet")
    done = embed(bags, tmp_path / "b.parquet")
    assert list(found.failures) == sorted(done.failures, key=lambda f: f.slide_id)
    assert [failure.slide_id for failure in found.failures] == ["other", "text"]
    assert found.n_tiles.value == n_tiles
    assert found.device == ""
    assert found.summary()["gpu_hours"] is None


def test_three_slides_stand_for_a_third_of_all_tiles_each() -> None:
    assert pick({}) == []
    assert pick({"a": 5}) == ["a"]
    even = {f"s{k:02d}": 10 for k in range(30)}
    assert pick(even) == ["s04", "s14", "s24"]
    chance = np.random.default_rng(1)
    tiles = {f"s{k}": int(n) for k, n in enumerate(chance.integers(1, 1000, size=200))}
    names = sorted(tiles, key=lambda name: tiles[name])
    total = sum(tiles.values())
    for at, name in zip((1 / 6, 1 / 2, 5 / 6), pick(tiles), strict=True):
        below = sum(tiles[other] for other in names[: names.index(name)])
        assert below <= at * total <= below + tiles[name]


def _source(name: str) -> CohortSlide:
    return CohortSlide(slide_id=name, path=Path(name), patient_id=name, patient_rule="slide_id")


def _surveyed(tiles: Mapping[str, int], sizes: Mapping[str, float], *, look_at: int) -> Survey:
    def count(source: CohortSlide) -> float:
        if tiles[source.slide_id] == 0:
            raise SlideError("no tissue found", stage="tissue")
        return tiles[source.slide_id]

    return survey(
        [_source(name) for name in tiles],
        size=lambda source: sizes[source.slide_id],
        count=count,
        look_at=look_at,
        workers=2,
        progress=Silent(),
    )


def test_tiles_of_a_sample_tell_those_of_all() -> None:
    inside = 0
    for seed in range(100):
        chance = np.random.default_rng(seed)
        room = chance.integers(100, 4000, size=150)
        share = chance.beta(3, 4, size=150) * (chance.random(150) > 0.05)
        tiles = {f"s{k}": int(n) for k, n in enumerate(room * share)}
        sizes = {f"s{k}": float(n) for k, n in enumerate(room)}
        found = _surveyed(tiles, sizes, look_at=40)
        assert len(found.tiles) + len(found.failures) == 40
        inside += bool(found.n_tiles.holds(sum(tiles.values())))
    assert 88 <= inside <= 100


def test_all_are_counted_where_they_are_few() -> None:
    found = _surveyed({"a": 3, "b": 0, "c": 9}, {"a": 4.0, "b": 5.0, "c": 10.0}, look_at=3)
    assert found.counted_all
    assert found.n_tiles == Forecast(value=12, low=12, high=12)
    assert [failure.slide_id for failure in found.failures] == ["b"]
    single = _surveyed({"a": 3, "b": 4, "c": 9}, {"a": 4.0, "b": 5.0, "c": 10.0}, look_at=1)
    assert single.n_tiles.low is None


def test_what_it_says() -> None:
    timed = TimedSlide(
        slide_id="a", n_tiles=300, seconds=10.0, cpu_seconds=15.0, row_bytes=9000, bag_bytes=1
    )
    disk = DiskNeed(table=5_000_000, running=6_000_000, bags=7_000_000, cache=8_000_000, free=100)
    seconds = Forecast(value=7200.0, low=3600.0, high=10_800.0)
    estimate = EmbedEstimate(
        n_slides=2000, n_reused=3, n_looked_at=1000, failures=(), seconds=seconds, cores=1.5,
        n_tiles=Forecast(value=2e6, low=1.9e6, high=2.1e6), device="cuda", timed=[timed], disk=disk,
    )  # fmt: skip
    said = estimate.sentence()
    assert "tiles: about 2,000,000 (95% interval 1,900,000 to 2,100,000), from 1000 slides" in said
    assert "about 2:00:00 (95% interval 1:00:00 to 3:00:00) on this machine" in said
    assert "3 CPU-hours, 2 GPU-hours; from up to 3 timed slides: a 30 tiles/s" in said
    assert "the disk has too little room" in said
    assert "up to 8.0 MB for copies of slides" in said
    summary = estimate.summary()
    assert (summary["cpu_hours"], summary["gpu_hours"]) == (3.0, 2.0)
    assert summary["disk"]["total"] == 18_000_000
    roomy = replace(estimate, disk=replace(disk, free=10**12), device="cpu")
    assert "too little room" not in roomy.sentence()
    assert roomy.summary()["gpu_hours"] is None


@pytest.mark.slow
def test_most_runs_take_what_was_foretold(tmp_path: Path, encoder: TileEncoder) -> None:
    chance = np.random.default_rng(0)
    inside = 0
    for number in range(10):
        folder = tmp_path / f"cohort-{number}"
        folder.mkdir()
        for k in range(8):
            width, height = (int(side) for side in chance.integers(900, 3600, size=2))
            settings = SyntheticSettings(width_px=width, height_px=height, seed=100 * number + k)
            save_image(paint_slide(settings).image, folder / f"s{k}.svs", mpp=0.5)
        cohort = read_cohort(folder)
        foretold = estimate_embed(cohort, tmp_path / "v.parquet", encoder=encoder)
        clock = _Stopwatch()
        embed(cohort, tmp_path / f"{number}.parquet", encoder=encoder, progress=clock)
        assert foretold.seconds is not None
        inside += bool(foretold.seconds.holds(clock.seconds))
    assert inside >= 6  # a busy machine may slow down between the two


class _Stopwatch(Silent):
    """Seconds from the start to the last slide."""

    def __init__(self) -> None:
        self.begin = self.seconds = 0.0

    def started(self, n_slides: int) -> None:
        import time

        self.begin = time.perf_counter()

    def slide_done(self, slide_id: str, *, failed: bool) -> None:
        import time

        self.seconds = time.perf_counter() - self.begin
