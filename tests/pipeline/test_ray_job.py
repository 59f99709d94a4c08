"""The Ray engine gives the bytes of the local one, whatever happens to its processes."""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gigassl.bags.bag import open_bag
from gigassl.bags.prepare import TileSettings
from gigassl.errors import SettingsError
from gigassl.pipeline.embed import EmbedSettings, embed
from gigassl.pipeline.embed_result import EmbedResult
from gigassl.pipeline.encode import encode
from gigassl.pipeline.failures import failures_path
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.progress import Progress
from gigassl.pipeline.ray_settings import RayEngine
from gigassl.slides.grid import GridSettings
from tests.ray_clusters import DECODER, ENCODER, ray_here, workers_of

ENCODER_NAME = "random:resnet18@layer2"
TILES = TileSettings(grid=GridSettings(tile_px=112))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    with ray_here() as folder:
        yield folder


@pytest.fixture(scope="module")
def mixed(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three slides and a file that is none."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copytree(slides, folder, dirs_exist_ok=True)
    (folder / "broken.svs").write_bytes(b"no slide at all")
    return folder


def embedded(
    source: Path, out: Path, *, engine: RayEngine | None, progress: Progress | None = None
) -> EmbedResult:
    return embed(
        source, out, encoder=ENCODER_NAME, settings=EmbedSettings(tiles=TILES),
        options=RunOptions(engine=engine, keep_bags=out.with_suffix(".bags")), progress=progress,
    )  # fmt: skip


@pytest.fixture(scope="module")
def local(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("local") / "v.parquet"
    embedded(mixed, out, engine=None)
    return out


def same_products(out: Path, other: Path) -> bool:
    bags = sorted(path.name for path in other.with_suffix(".bags").iterdir())
    return (
        out.read_bytes() == other.read_bytes()
        and failures_path(out).read_text() == failures_path(other).read_text()
        and bags == sorted(path.name for path in out.with_suffix(".bags").iterdir())
        and all(
            (out.with_suffix(".bags") / name).read_bytes()
            == (other.with_suffix(".bags") / name).read_bytes()
            for name in bags
        )
    )


@dataclass
class Counted:
    """Progress that a test can look at."""

    tiles: int = 0
    slides: dict[str, bool] = field(default_factory=dict)

    def started(self, n_slides: int) -> None:
        self.total = n_slides

    def tiles_done(self, n_tiles: int) -> None:
        self.tiles += n_tiles

    def slide_done(self, slide_id: str, *, failed: bool) -> None:
        self.slides[slide_id] = failed


def test_table_bags_and_failures_have_the_bytes_of_the_local_engine(
    cluster: Path, mixed: Path, local: Path, tmp_path: Path
) -> None:
    progress = Counted()
    done = embedded(mixed, tmp_path / "v.parquet", engine=RayEngine(), progress=progress)
    assert same_products(tmp_path / "v.parquet", local)
    assert [failure.stage for failure in done.failures] == ["open"]
    assert progress.total == 4
    assert progress.slides == {"alpha": False, "beta": False, "gamma": False, "broken": True}
    bags = [open_bag(path) for path in (tmp_path / "v.bags").iterdir()]
    assert progress.tiles == sum(len(bag.coords) for bag in bags)
    assert not workers_of(cluster, title=ENCODER), "encoders end with the run"


def test_a_decoder_and_an_encoder_killed_at_work_change_nothing(
    cluster: Path, mixed: Path, local: Path, tmp_path: Path
) -> None:
    to_kill = [DECODER, ENCODER]
    over = threading.Event()

    def kill_each_at_work() -> None:
        while to_kill and not over.is_set():
            if workers_of(cluster, title=DECODER):
                for pid in workers_of(cluster, title=to_kill[0])[:1]:
                    os.kill(pid, signal.SIGKILL)
                    to_kill.pop(0)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_each_at_work)
    killer.start()
    try:
        embedded(mixed, tmp_path / "v.parquet", engine=RayEngine())
    finally:
        over.set()
        killer.join()
    assert not to_kill
    assert same_products(tmp_path / "v.parquet", local)


@pytest.mark.slow
def test_encode_writes_the_same_bags(
    cluster: Path, mixed: Path, local: Path, tmp_path: Path
) -> None:
    options = RunOptions(engine=RayEngine())
    done = encode(mixed, tmp_path, encoder=ENCODER_NAME, tiles=TILES, options=options)
    assert (done.n_new, len(done.failures)) == (3, 1)
    for bag in local.with_suffix(".bags").iterdir():
        assert (tmp_path / bag.name).read_bytes() == bag.read_bytes()


def test_bags_are_read_without_a_cluster(local: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="leave --engine ray away"):
        embedded(local.with_suffix(".bags"), tmp_path / "v.parquet", engine=RayEngine())


def test_without_ray_the_engine_says_how_to_get_it(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"run `pip install 'gigassl\[ray\]'`"):
        embedded(slides, tmp_path / "v.parquet", engine=RayEngine())
