"""The race against peers: what is asked, how answers are summed up, and two of the drivers."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.embed_vs_peers import Race, save
from benchmarks.peers import gigassl as ours
from benchmarks.peers import plain
from benchmarks.peers.cases import CASES, OURS, Case, Entry, save_checkpoint, save_first
from benchmarks.peers.drawing import draw
from benchmarks.peers.install import INSTALLED, REQUIREMENTS, pythons
from benchmarks.peers.job import THUMBNAIL, Found, Job
from benchmarks.peers.measure import Run, RunFailedError, last_json, run_contender
from benchmarks.peers.reference import agreement, cosines
from benchmarks.peers.summary import as_markdown, missed, of_the_encoder, row_of

MB = 1_000_000
CASE = Case(name="encoding", mpp=0.5, network=THUMBNAIL, tile_px=224)
MINE, THEIRS = Entry(module=OURS), Entry(module="plain")


def a_run(*, rate: float, mb: float = 900.0, whole_s: float = 9.0) -> Run:
    return Run(
        whole_s=whole_s, work_s=200 / rate, work_cpu_s=1.0, tiles={"a": 150, "b": 50}, rss_mb=mb,
        pss_mb=mb, packages={},
    )  # fmt: skip


RUNS = {
    MINE: [a_run(rate=100), a_run(rate=60), a_run(rate=80)],
    THEIRS: [a_run(rate=50, mb=800), a_run(rate=20, mb=800), a_run(rate=80, mb=800)],
}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """One small slide at 0.5 µm/px, read at 1.0, for which it has no level."""
    folder = tmp_path_factory.mktemp("race")
    (folder / "slides").mkdir()
    (folder / "out").mkdir()
    slide = folder / "slides" / "s.svs"
    save_first(slide)
    save_checkpoint(THUMBNAIL, folder / "w.safetensors")
    return Job(
        slides={"s": str(slide)}, first=str(slide), tile_px=224, mpp=1.0, network=THUMBNAIL,
        checkpoint=str(folder / "w.safetensors"), precision="fp32", workers=0,
        out=str(folder / "out"),
    )  # fmt: skip


def kept(job: Job, found: Found) -> None:
    np.savez(Path(job.out) / "s.npz", coords=found.coords, features=found.features)


@pytest.mark.parametrize("driver", ["plain", "gigassl"])
def test_a_driver_finds_tiles_whose_features_are_those_of_their_pixels(
    driver: str, job: Job
) -> None:
    work = plain.prepare(job) if driver == "plain" else ours.prepare(two_readers(job))
    found = work(job.slides, Path(job.out))
    assert 4 <= len(found["s"].coords) <= 16
    kept(job, found["s"])
    least, middle = agreement(job)
    assert 0.999 < least <= middle <= 1.00001
    # features of other tiles are noticed
    turned = found["s"].features[::-1]
    kept(job, Found(coords=found["s"].coords, features=turned))
    assert agreement(job)[0] < 0.999


def two_readers(job: Job) -> Job:
    return Job(**{**vars(job), "workers": 2})


def test_the_last_object_printed_is_the_answer() -> None:
    said = 'loading\n{"old": 1}\n 50%|###  |\n\n{"tiles": {"a": 3}}\n{half a line\nbye\n'
    assert last_json(said) == {"tiles": {"a": 3}}
    with pytest.raises(RunFailedError, match="no answer in: only words"):
        last_json("only words\n[1]\n")


def test_ratios_are_of_the_same_round() -> None:
    row = row_of(CASE, THEIRS, runs=RUNS, cosine=(0.9, 0.99))
    assert row.rate == pytest.approx((20, 50, 80))
    assert row.ours == pytest.approx((1.0, 2.0, 3.0))
    assert (row.n_tiles, row.cpu_ms, row.pss_mb) == (200, 5.0, 800)
    assert "| 50 (20–80) | 2.00 × (1.00–3.00) | 5.00 |" in as_markdown([row])
    assert row_of(CASE, MINE, runs=RUNS).ours == (1, 1, 1)


def test_what_falls_short_is_said() -> None:
    rows = [row_of(CASE, entry, runs=RUNS) for entry in RUNS]
    limits = {"encoding": [{"encoder alone": 90.0}, {"encoder alone": 110.0}]}
    assert of_the_encoder(rows, limits) == {"encoding": pytest.approx(0.8)}
    assert missed(rows, limits=limits) == [
        "encoding: 900 MB (RSS), plain 800",
        "encoding: 900 MB (PSS), plain 800",
        "encoding: 0.80 of the encoder alone, wanted 0.9",
    ]
    even = {
        Entry(module=OURS): [a_run(rate=70)],
        Entry(module="plain"): [a_run(rate=50, mb=1000)],
    }
    reading = [row_of(CASES["reading"], entry, runs=even) for entry in even]
    # limits of reading are printed, but no target hangs on the encoder there
    assert missed(reading, limits={"reading": [{"encoder alone": 1e4}]}) == [
        "reading: 1.40 × plain, wanted 1.5"
    ]


def test_a_contender_that_cannot_run_says_why(job: Job) -> None:
    with pytest.raises(RunFailedError, match=r"No module named .*nobody"):
        run_contender(Path(sys.executable), "nobody", job=job, cores=1)


@pytest.mark.slow
def test_a_contender_in_a_process_of_its_own(job: Job) -> None:
    run = run_contender(Path(sys.executable), "plain", job=two_readers(job), cores=1)
    assert run.n_tiles > 3
    assert 0 < run.work_s < run.whole_s
    assert 100 < run.pss_mb < run.rss_mb
    assert run.packages["openslide-python"]


def test_a_race_leaves_a_contender_out_that_fails(job: Job, tmp_path: Path) -> None:
    case = Case(name="real", mpp=0.5, network=THUMBNAIL, entries=(Entry(module="nobody"),))
    race = Race(case=case, work=tmp_path, slides=job.slides, first=tmp_path)
    race.run_entry(case.entries[0], python=Path(sys.executable), cores=1)
    assert "No module named" in race.failed[case.entries[0]]
    save([race], [], tmp_path)
    assert "real, nobody" in (tmp_path / "peers.json").read_text(encoding="utf-8")


def test_picture(tmp_path: Path) -> None:
    rows = [row_of(case, entry, runs=RUNS) for case in CASES.values() for entry in RUNS]
    draw(rows, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")


def test_environments_are_pinned_and_asked_for(tmp_path: Path) -> None:
    for module in INSTALLED:
        lines = (REQUIREMENTS / f"{module}.txt").read_text(encoding="utf-8").splitlines()
        wanted = [said for said in lines if not said.startswith("#")]
        assert any(said.startswith(f"{module}==") for said in wanted)
        assert all(said.count("==") == 1 and "/" not in said for said in wanted)
    with pytest.raises(SystemExit, match=r"no environment of lazyslide, slide2vec.*--install"):
        pythons(tmp_path, here=Path(sys.executable))


def test_cosines() -> None:
    found = cosines(np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[6.0, 8.0], [0.0, 2.0]]))
    assert found == pytest.approx([1.0, 0.0])
