"""``gigassl embed s3://… -o s3://…`` against an S3-compatible server on loopback."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gigassl.pipeline.failures import read_failures
from gigassl.slides.slide_files import save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.vectors.table import open_table
from tests.end_to_end.conftest import Run
from tests.ray_clusters import ray_here
from tests.store_servers import CREDENTIALS, Bucket, flaky, s3_bucket, web_server

N_MANY = 14


@pytest.fixture(scope="module")
def bucket(slides: Path) -> Iterator[Bucket]:
    with s3_bucket("collection") as bucket:
        bucket.upload(slides, "slides")
        yield bucket


@pytest.fixture(scope="module")
def local_bytes(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The table of the same slides, read and written locally."""
    from gigassl.pipeline.embed import embed

    out = tmp_path_factory.mktemp("local") / "v.parquet"
    embed(slides, out)
    return out.read_bytes()


def reaching(bucket: Bucket, cache: Path, endpoint: str | None = None) -> list[object]:
    options = json.dumps(bucket.options(endpoint))
    return ["--storage-options", options, "--cache-dir", cache]


def largest(folder: Path) -> int:
    return max(path.stat().st_size for path in folder.iterdir())


def test_a_bucket_into_a_bucket_gives_the_bytes_of_a_folder(
    run: Run, bucket: Bucket, slides: Path, local_bytes: bytes, tmp_path: Path
) -> None:
    # room for one slide at a time, over a line that breaks in the middle of each
    one_slide = largest(slides) * 1.2 / 1e9
    with flaky(bucket.host, bucket.port, after=30_000, drops=6) as (line, endpoint):
        where = reaching(bucket, tmp_path / "cache", endpoint)
        url = "s3://collection/out/v.parquet"
        done = run(
            "embed", "s3://collection/slides", "-o", url, "--cache-gb", one_slide, *where
        )  # fmt: skip
        assert done.code == 0, done.err
        assert f"{url}: 3 slides (3 new, 0 from before)" in done.out
        assert line.dropped == 6
        assert bucket.read("out/v.parquet") == local_bytes
        assert bucket.keys("out/") == ["out/v.parquet"]
        before = line.passed
        again = run("embed", "s3://collection/slides", "-o", url, *where)
        assert "3 of 3 slides are done already; 0 to do" in again.err
        fetched = line.passed - before
    assert fetched < len(local_bytes) * 1.2 + 20_000, "no slide is downloaded again"
    assert bucket.read("out/v.parquet") == local_bytes
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cluster_reads_and_writes_a_bucket_and_looks_ahead_in_it(
    run: Run, bucket: Bucket, local_bytes: bytes, tmp_path: Path
) -> None:
    url = "s3://collection/by-ray/v.parquet"
    where = [*reaching(bucket, tmp_path / "cache"), "--engine", "ray", "--actors", 1]
    with ray_here():
        ahead = run("embed", "s3://collection/slides", "-o", url, "--dry-run", *where)
        assert ahead.code == 0, ahead.err
        assert bucket.keys("by-ray/") == []
        done = run("embed", "s3://collection/slides", "-o", url, *where)
    assert done.code == 0, done.err
    assert bucket.read("by-ray/v.parquet") == local_bytes
    assert bucket.keys("by-ray/") == ["by-ray/v.parquet"]


def test_a_table_mixes_local_slides_urls_and_what_is_missing(
    run: Run, bucket: Bucket, slides: Path, local_bytes: bytes, tmp_path: Path
) -> None:
    table = tmp_path / "cohort.csv"
    with web_server(slides) as (host, port):
        rows = [
            ("alpha", slides / "alpha.svs"),
            ("beta", "s3://collection/slides/beta.svs"),
            ("gamma", f"http://{host}:{port}/gamma.svs?token=secret"),
            ("lost", "s3://collection/slides/lost.svs"),
            ("away", f"http://{host}:{port}/away.svs?token=secret"),
        ]
        with table.open("w", newline="") as handle:
            csv.writer(handle).writerows([("slide_id", "path"), *rows])
        out = tmp_path / "v.parquet"
        done = run("embed", table, "-o", out, *reaching(bucket, tmp_path / "cache"))
    assert done.code == 1, done.err
    assert "3 slides (3 new, 0 from before)" in done.out
    assert out.read_bytes() == local_bytes
    listed = [(f.slide_id, f.path, f.stage, f.reason) for f in read_failures(
        tmp_path / "v.failures.csv"
    )]  # fmt: skip
    away, lost = f"http://{host}:{port}/away.svs", "s3://collection/slides/lost.svs"
    assert listed == [
        ("away", away, "fetch", "there is no such file"),
        ("lost", lost, "fetch", "there is no such file"),
    ]
    assert "secret" not in done.out + done.err


def test_failures_are_listed_in_the_store_and_taken_back(
    run: Run, bucket: Bucket, slides: Path, tmp_path: Path
) -> None:
    bucket.put("some/broken.svs", b"not a slide at all")
    bucket.put("some/alpha.svs", (slides / "alpha.svs").read_bytes())
    where = reaching(bucket, tmp_path / "cache")
    url = "s3://collection/bad/v.parquet"
    done = run("embed", "s3://collection/some", "-o", url, *where)
    assert done.code == 1
    assert "the reasons are in s3://collection/bad/v.failures.csv" in done.out
    assert bucket.keys("bad/") == ["bad/v.failures.csv", "bad/v.parquet"]
    assert b"broken,s3://collection/some/broken.svs,open," in bucket.read("bad/v.failures.csv")
    bucket.put("some/broken.svs", (slides / "beta.svs").read_bytes())
    again = run("embed", "s3://collection/some", "-o", url, *where)
    assert again.code == 0
    assert "2 slides (1 new, 1 from before)" in again.out
    assert bucket.keys("bad/") == ["bad/v.parquet"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["https://host/slides/", "-o", "v.parquet"], "a web server does not list its files"),
        (["slides", "-o", "https://host/v.parquet"], "a web server takes no files"),
        (["s5://bucket/slides", "-o", "v.parquet"], "Protocol not known: s5"),
        (["s3://b/s", "-o", "v.parquet", "--storage-options", "no"], "options wants JSON"),
        (["s3://b/s", "-o", "v.parquet", "--storage-options", "[1]"], "wants a JSON object"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_before_anything_starts(
    run: Run, slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: Sequence[str], says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shutil.copytree(slides, tmp_path / "slides")
    done = run("embed", *arguments)
    assert done.code == 2
    assert says in done.err
    assert not (tmp_path / "v.parquet").exists()


def start(bucket: Bucket, out: str, cache: Path) -> subprocess.Popen[bytes]:
    """A run of its own process, which finds the store through the environment."""
    code = "from gigassl.cli.main import run; run()"
    arguments = ["embed", f"s3://{bucket.name}/many", "-o", out, "--cache-dir", str(cache)]
    environment = {**os.environ, **CREDENTIALS, "FSSPEC_S3_ENDPOINT_URL": bucket.endpoint}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.slow
def test_killed_over_and_over_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    folder, cache = tmp_path / "many", tmp_path / "cache"
    folder.mkdir()
    for seed in range(N_MANY):
        painted = paint_slide(SyntheticSettings(width_px=1792, height_px=1792, seed=seed))
        save_image(painted.image, folder / f"s{seed:02d}.svs", mpp=0.5)
    moment = random.Random(3)
    with s3_bucket("kills") as bucket:
        bucket.upload(folder, "many")
        parts = "out/v.parquet.parts/"
        done: set[str] = set()
        for _ in range(4):
            process = start(bucket, "s3://kills/out/v.parquet", cache)
            while len(set(bucket.keys(parts)) - done) < 1:
                assert process.poll() is None, "the run ended before it could be killed"
                time.sleep(0.02)
            time.sleep(moment.uniform(0, 0.6))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            now = set(bucket.keys(parts))
            assert done < now, "what was committed before the kill is still there, and more"
            assert len(now) < N_MANY, "slides were left to do when it was killed"
            done = now
        # another machine goes on: nothing of the killed runs is at hand but the store
        last = start(bucket, "s3://kills/out/v.parquet", tmp_path / "elsewhere")
        _, said = last.communicate()
        assert last.returncode == 0, said
        assert f"{len(done)} of {N_MANY} slides are done already".encode() in said
        whole = start(bucket, str(tmp_path / "whole.parquet"), cache)
        _, said = whole.communicate()
        assert whole.returncode == 0, said
        assert bucket.keys("out/") == ["out/v.parquet"]
        assert bucket.read("out/v.parquet") == (tmp_path / "whole.parquet").read_bytes()
    assert len(open_table(tmp_path / "whole.parquet")) == N_MANY
    assert list(cache.iterdir()) == [], "what killed runs left is cleared by the next one"
