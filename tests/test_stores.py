"""Stores: an S3-compatible server and a web server on loopback, over lines that break."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gigassl.errors import SettingsError
from gigassl.store_errors import Patience, StoreError
from gigassl.stores import RemoteFile, Stores, StoreSettings
from tests.store_servers import HOST, Bucket, flaky, s3_bucket, web_server

QUICK = Patience(first_pause_s=0.01)
CONTENT = np.random.default_rng(0).bytes(700_000)
BLOCK = 1 << 16


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_bucket("tests") as bucket:
        bucket.put("slides/a.svs", CONTENT)
        bucket.put("slides/deep/b.svs", b"bb")
        yield bucket


def reached(bucket: Bucket, endpoint: str | None = None) -> Stores:
    return Stores(StoreSettings(options=bucket.options(endpoint), patience=QUICK))


def whole(stores: Stores, remote: RemoteFile) -> bytes:
    return b"".join(stores.blocks(remote, block_bytes=BLOCK, stop=threading.Event()))


def test_a_bucket_is_listed_with_sizes_and_tags(bucket: Bucket) -> None:
    found = reached(bucket).listed("s3://tests/slides")
    assert [(f.url, f.n_bytes) for f in found] == [
        ("s3://tests/slides/a.svs", len(CONTENT)),
        ("s3://tests/slides/deep/b.svs", 2),
    ]
    assert all(f.tag for f in found)
    assert reached(bucket).described("s3://tests/slides/a.svs") == found[0]
    assert reached(bucket).listed("s3://tests/nothing-here") == []


@pytest.mark.parametrize("drops", [0, 4])
def test_s3_downloads_survive_dropped_connections(bucket: Bucket, drops: int) -> None:
    with flaky(bucket.host, bucket.port, after=40_000, drops=drops) as (line, endpoint):
        stores = reached(bucket, endpoint)
        assert whole(stores, stores.described("s3://tests/slides/a.svs")) == CONTENT
    assert line.dropped == drops
    assert line.passed < 1.6 * len(CONTENT) + 50_000, "it goes on where it was"


@pytest.mark.parametrize("drops", [0, 4])
def test_web_downloads_survive_dropped_connections(tmp_path: Path, drops: int) -> None:
    (tmp_path / "a b.svs").write_bytes(CONTENT)
    with (
        web_server(tmp_path) as (host, port),
        flaky(host, port, after=40_000, drops=drops) as (line, address),
    ):
        stores = Stores(StoreSettings(patience=QUICK))
        remote = stores.described(f"{address}/a%20b.svs")
        assert (remote.name, remote.n_bytes) == ("a b.svs", len(CONTENT))
        assert whole(stores, remote) == CONTENT
    assert line.dropped == drops
    assert line.passed < 1.6 * len(CONTENT) + 50_000, "it goes on where it was"


def test_a_web_server_that_gives_whole_files_only_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(CONTENT)
    with web_server(tmp_path, ranges=False) as (host, port):
        stores = Stores(StoreSettings(patience=QUICK))
        remote = stores.described(f"http://{host}:{port}/a.svs")
        with pytest.raises(StoreError, match="range requests"):
            whole(stores, remote)


def test_uploads_survive_dropped_connections(bucket: Bucket, tmp_path: Path) -> None:
    local = tmp_path / "up.bin"
    local.write_bytes(CONTENT)
    with flaky(bucket.host, bucket.port, after=1, drops=3) as (line, endpoint):
        reached(bucket, endpoint).put(local, "s3://tests/up/up.bin")
    assert line.dropped == 3
    assert bucket.read("up/up.bin") == CONTENT


def test_many_files_are_brought_and_removed(bucket: Bucket, tmp_path: Path) -> None:
    urls = [bucket.put(f"many/{k}", bytes([k])) for k in range(20)]
    stores = reached(bucket)
    stores.get({url: tmp_path / url.rpartition("/")[2] for url in [*urls, "s3://tests/many/none"]})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        str(k): bytes([k]) for k in range(20)
    }
    stores.remove([*urls, "s3://tests/many/none"])
    assert bucket.keys("many/") == []


def test_what_is_absent_is_not_asked_for_again(bucket: Bucket) -> None:
    stores = Stores(StoreSettings(options=bucket.options(), patience=Patience(first_pause_s=100)))
    with pytest.raises(StoreError, match=r"s3://tests/none\.svs: there is no such file") as caught:
        stores.described("s3://tests/none.svs")
    assert caught.value.absent
    found = stores.described_all(["s3://tests/none.svs", "s3://tests/slides/a.svs"])
    assert [(f.n_bytes, f.problem) for f in found] == [
        (None, "there is no such file"), (len(CONTENT), ""),
    ]  # fmt: skip


def test_a_store_out_of_reach_is_given_up_after_some_attempts() -> None:
    stores = Stores(StoreSettings(patience=Patience(attempts=2, first_pause_s=0.01)))
    with pytest.raises(StoreError, match="out of reach") as caught:
        stores.described(f"http://{HOST}:9/a.svs")
    assert not caught.value.lasting


def test_a_stopped_run_does_not_wait_for_the_next_attempt() -> None:
    stop = threading.Event()
    stop.set()
    asked = []

    def ask() -> None:
        asked.append(1)
        raise StoreError("s3://b/a", "out of reach")

    with pytest.raises(StoreError):
        Patience(first_pause_s=100).insisting(ask, stop=stop)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s4://bucket/a.svs", "s4:// cannot be used: Protocol not known"),
        ("gs://bucket/a.svs", r"a package that is not installed; pip install 'gigassl\[gs\]'"),
    ],
)
def test_a_protocol_that_cannot_be_used_says_what_to_do(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        Stores().described(url)


def test_a_web_server_cannot_be_listed() -> None:
    with pytest.raises(SettingsError, match="does not list its files; give the URL of one slide"):
        Stores().listed("https://host/slides?token=secret")


def test_options_hold_for_all_stores_or_one_by_name(bucket: Bucket) -> None:
    url = "s3://tests/slides/deep/b.svs"
    by_name = StoreSettings(options={"s3": bucket.options(), "http": {}})
    assert Stores(by_name).read(url) == b"bb"
    assert "nothing" not in repr(by_name)


def test_the_cache_needs_room() -> None:
    with pytest.raises(SettingsError, match="--cache-gb must be above 0; got -1"):
        StoreSettings(cache_gb=-1)


@pytest.mark.parametrize(
    ("status", "says", "absent"),
    [(404, "no such file", True), (403, "no permission", False), (503, "out of reach", False)],
)
def test_a_web_server_that_refuses_is_understood(
    tmp_path: Path, status: int, says: str, absent: bool
) -> None:
    with web_server(tmp_path, status=status) as (host, port):
        stores = Stores(StoreSettings(patience=Patience(attempts=2, first_pause_s=0.01)))
        with pytest.raises(StoreError, match=says) as caught:
            stores.described(f"http://{host}:{port}/a.svs")
    assert caught.value.absent == absent
    assert caught.value.lasting == (status < 500)
