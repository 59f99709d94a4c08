"""Places and outputs: what is written locally is safe in the store, and what lies there is read."""

import copy
import uuid
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

from gigassl.cli.main import app
from gigassl.errors import SettingsError
from gigassl.pipeline.failures import Failure, failures_path, save_failures
from gigassl.pipeline.merge import merge
from gigassl.pipeline.output import BusyError
from gigassl.pipeline.outputs import claimed_output, keep_failures, kept_bags
from gigassl.pipeline.parts import Parts
from gigassl.pipeline.places import brought
from gigassl.pipeline.staging import Staging
from gigassl.stores import StoreSettings
from gigassl.vectors.table import open_table
from tests.end_to_end.cohorts import save_vectors
from tests.pipeline.test_parts import row, source

MEMORY = fsspec.filesystem("memory")
LOST = Failure(slide_id="lost", path="s3://b/lost.svs", stage="fetch", reason="gone")


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


def names(url: str) -> list[str]:
    root = MEMORY._strip_protocol(url)
    return sorted(path.removeprefix(f"{root}/") for path in MEMORY.find(url))


def parts_of(out: str, settings: StoreSettings, *, commit: str = "", merged: bool = False) -> Parts:
    """What a run finds at a URL, after it has committed a row and merged them all, if wanted."""
    with claimed_output(out, settings) as output:
        parts = Parts(output.path, settings_digest="s1", provenance={}, place=output.place)
        if commit:
            parts.commit(row(commit))
        if merged:
            parts.merge()
        return parts


def test_rows_are_safe_one_by_one_and_found_by_the_next_run(url: str, tmp_path: Path) -> None:
    out, settings = f"{url}/v.parquet", StoreSettings(cache_dir=tmp_path)
    parts_of(out, settings, commit="a")
    assert len(names(out + ".parts")) == 1
    again = parts_of(out, settings, commit="bb")
    assert again.reusable([source("a"), source("bb")], {"a": "i1", "bb": "i1"}) == {"a", "bb"}
    assert len(names(out + ".parts")) == 2
    parts_of(out, settings, merged=True)
    assert names(url) == ["v.parquet"]
    assert parts_of(out, settings).reusable([source("a")], {"a": "i1"}) == {"a"}
    assert list(tmp_path.iterdir()) == [], "the local folder ends with the run"


def test_parts_in_a_store_are_packed(url: str, tmp_path: Path) -> None:
    out, settings = f"{url}/v.parquet", StoreSettings(cache_dir=tmp_path)
    with claimed_output(out, settings) as output:
        parts = Parts(
            output.path, settings_digest="s1", provenance={}, place=output.place, pack_size=2
        )
        for name in ("a", "bb", "ccc"):
            parts.commit(row(name))
    first, second = names(out + ".parts")
    assert "pack-00000000.parquet" in (first, second)
    parts_of(out, settings, merged=True)
    assert names(url) == ["v.parquet"]
    again = parts_of(out, settings)
    assert len(again.reusable([source("a"), source("ccc")], {"a": "i1", "ccc": "i1"})) == 2


def test_a_run_that_lost_its_lease_commits_nothing_more(url: str, tmp_path: Path) -> None:
    with claimed_output(f"{url}/v.parquet", StoreSettings(cache_dir=tmp_path)) as output:
        parts = Parts(output.path, settings_digest="s1", provenance={}, place=output.place)
        MEMORY.pipe_file(f"{url}/v.parquet.lease", b'{"token": "other", "beat": 1}')
        with pytest.raises(BusyError, match="another run has taken over"):
            parts.commit(row("a"))
    assert names(url) == ["v.parquet.lease"], "the lease of the other stays"


def test_failures_come_and_go_with_the_output(url: str, tmp_path: Path) -> None:
    for listed, expected in (([LOST], ["v.failures.csv"]), ([], [])):
        with claimed_output(f"{url}/v.parquet", StoreSettings(cache_dir=tmp_path)) as output:
            keep_failures(listed, output)
        assert names(url) == expected


def test_bags_are_handed_over_to_the_store(url: str, tmp_path: Path) -> None:
    settings = StoreSettings(cache_dir=tmp_path)
    with kept_bags(f"{url}/bags", settings, slide_ids=["a"]) as bags:
        assert bags is not None
        (bags.path / "a.h5").write_bytes(b"bag")
        bags.place.hand_over(bags.path / "a.h5")
        assert not (bags.path / "a.h5").exists()
    assert names(url) == ["bags/a.h5"]
    with kept_bags(tmp_path / "here", settings, slide_ids=["a"]) as bags:
        assert bags is not None
        (bags.path / "a.h5").write_bytes(b"bag")
        bags.place.hand_over(bags.path / "a.h5")
    assert (tmp_path / "here" / "a.h5").read_bytes() == b"bag"


def test_a_web_server_takes_no_files(tmp_path: Path) -> None:
    settings = StoreSettings(cache_dir=tmp_path)
    with (
        pytest.raises(SettingsError, match="a web server takes no files"),
        claimed_output("https://host/v.parquet?token=secret", settings),
    ):
        pass


def test_shards_in_a_store_are_merged_there(url: str, tmp_path: Path) -> None:
    local = [tmp_path / f"v.shard-{k}-of-2.parquet" for k in (1, 2)]
    for k, path in enumerate(local):
        save_vectors(path, 4, prefix="ab"[k], seed=k)
    save_failures([LOST], failures_path(local[1]))
    MEMORY.put_file(str(failures_path(local[1])), f"{url}/{failures_path(local[1]).name}")
    for path in local:
        MEMORY.put_file(str(path), f"{url}/{path.name}")
    whole = merge(local, tmp_path / "whole.parquet")
    merged = merge([f"{url}/v.shard-*-of-2.parquet"], f"{url}/v.parquet")
    assert MEMORY.cat(f"{url}/v.parquet") == (tmp_path / "whole.parquet").read_bytes()
    assert merged.failures == whole.failures == (LOST,)
    assert "v.failures.csv" in names(url)
    done = CliRunner().invoke(app, ["inspect", f"{url}/v.parquet", "--json"])
    assert done.exit_code == 0
    assert '"slides": 8' in done.stdout


def test_files_at_urls_are_brought_for_a_while(url: str, tmp_path: Path) -> None:
    here = tmp_path / "here.parquet"
    save_vectors(here, 2)
    MEMORY.put_file(str(here), f"{url}/a.parquet")
    with brought([here, f"{url}/*.parquet"], StoreSettings(cache_dir=tmp_path)) as found:
        assert [path.name for path in found] == ["here.parquet", "a.parquet"]
        assert len(open_table(found[1])) == 2
    assert not found[1].exists()
    assert here.exists()
    for missing in ("none.parquet", "*.csv"):
        with (
            pytest.raises(SettingsError, match="no such file: memory://"),
            brought([f"{url}/{missing}"], StoreSettings(cache_dir=tmp_path)),
        ):
            pass


def test_another_process_begins_a_staging_of_its_own() -> None:
    ours = Staging(StoreSettings(cache_gb=3, options={"anon": True}))
    theirs = copy.copy(ours)
    assert theirs.settings == ours.settings
    assert theirs.room is not ours.room
