"""A Ray run through lost nodes, spent memory, killed and interrupted drivers: the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from gigassl.bags.prepare import TileSettings
from gigassl.pipeline.embed import EmbedSettings, embed
from gigassl.pipeline.embed_result import EmbedResult
from gigassl.pipeline.failures import failures_path
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.ray_settings import RayEngine
from gigassl.slides.grid import GridSettings
from gigassl.slides.slide_files import save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.tiles.engine import EngineSettings, TileEncoder
from gigassl.tiles.records import EncoderRecord
from gigassl.vectors.table import open_table
from tests.faults.processes import below, command_of
from tests.ray_clusters import (
    DECODER,
    ENCODER,
    ENVIRONMENT,
    ray_here,
    short_folder,
    two_nodes,
    workers_of,
)

N_SLIDES = 24
WORK = ("--tile-encoder", "random:resnet18@layer3")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for seed in range(4):
        painted = paint_slide(SyntheticSettings(width_px=2240, height_px=2240, seed=seed))
        save_image(painted.image, folder / f"s{seed:02d}.svs", mpp=0.5)
    for number in range(4, N_SLIDES):
        shutil.copy(folder / f"s{number % 4:02d}.svs", folder / f"s{number:02d}.svs")
    return folder


def embedded(source: Path, out: Path, *, engine: RayEngine | None) -> EmbedResult:
    return embed(source, out, encoder=WORK[1], options=RunOptions(engine=engine))


@pytest.fixture(scope="module")
def undisturbed(many: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("undisturbed") / "v.parquet"
    embedded(many, out, engine=None)
    return out.read_bytes()


def until(true: Callable[[], object], *, seconds: float = 240.0) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)


def committed(out: Path) -> int:
    return len(list(Path(f"{out}.parts").glob("[!.]*.parquet")))


@pytest.mark.slow
def test_a_node_that_is_lost_at_work_changes_nothing(
    many: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "v.parquet"
    removed = threading.Event()
    with two_nodes() as (folder, cluster, second):

        def remove_when_both_work() -> None:
            until(lambda: len(workers_of(folder, title=f"{ENCODER}.encode")) == 2)
            cluster.remove_node(second, allow_graceful=False)
            removed.set()

        remover = threading.Thread(target=remove_when_both_work)
        remover.start()
        done = embedded(many, out, engine=RayEngine(address=cluster.address))
        remover.join()
    assert removed.is_set()
    assert not done.failures
    assert out.read_bytes() == undisturbed


class Greedy(torch.nn.Module):
    """Mean colours; blue tiles take the machine's memory, little by little, up to 8 GB."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.mean(dim=(2, 3))
        if (means[:, 2] > 0.9).any() and (means[:, 0] < 0.1).any():
            held = []
            for _ in range(64):
                held.append(torch.ones(1 << 25))
                time.sleep(0.02)
            time.sleep(60)
        return means


def greedy_encoder() -> TileEncoder:
    record = EncoderRecord(
        name="greedy", source="random", architecture="none", dim=3, input_px=56,
        mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
    )  # fmt: skip
    return TileEncoder(Greedy(), record=record, settings=EngineSettings(batch_size=8))


def memory_gb() -> tuple[float, float]:
    """Of the machine: all of it, and what is left."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, left = (int(lines[key].split()[0]) / 1e6 for key in ("MemTotal", "MemAvailable"))
    return total, left


@pytest.mark.slow
def test_a_slide_that_spends_all_memory_is_given_up_and_says_so(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total, left = memory_gb()
    if left < 12:
        pytest.skip(f"needs 12 GB of memory to spare; {left:.1f} GB are")
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{(total - left + 4) / total:.3f}")
    slides = tmp_path / "slides"
    slides.mkdir()
    for name in ("s00", "s01"):
        shutil.copy(many / f"{name}.svs", slides)
    blue = np.zeros((672, 672, 3), np.uint8)
    blue[..., 2] = 255
    save_image(blue, slides / "blue.svs", mpp=0.5)
    tiles = TileSettings(grid=GridSettings(tile_px=56), tissue=None)
    with ray_here():
        done = embed(
            slides, tmp_path / "v.parquet", encoder=greedy_encoder(),
            settings=EmbedSettings(tiles=tiles), options=RunOptions(engine=RayEngine(retries=1)),
        )  # fmt: skip
    (failure,) = done.failures
    assert (failure.slide_id, failure.stage) == ("blue", "encode")
    assert "lost 2 times" in failure.reason
    assert "ran out of memory" in failure.reason
    assert open_table(tmp_path / "v.parquet").slide_ids == ["s00", "s01"]


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as name:
        yield name


def start(slides: Path, out: Path, *, folder: Path) -> subprocess.Popen[bytes]:
    """``gigassl embed --engine ray`` with a cluster of its own."""
    code = "from gigassl.cli.main import run; run()"
    arguments = ["embed", str(slides), "-o", str(out), *WORK]
    arguments += ["--engine", "ray", "--address", "local"]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, env={**os.environ, **ENVIRONMENT, "RAY_TMPDIR": str(folder)},
    )  # fmt: skip


def at_work(processes: set[int]) -> list[int]:
    """Those that are still encoders or decoders; Ray's own helpers take minutes to end."""
    return [pid for pid in processes if command_of(pid).startswith((ENCODER, DECODER))]


@pytest.mark.slow
def test_a_killed_driver_leaves_nobody_at_work_and_the_next_goes_on(
    many: Path, undisturbed: bytes, tmp_path: Path, folder: Path
) -> None:
    out = tmp_path / "v.parquet"
    driver = start(many, out, folder=folder)
    until(lambda: committed(out) >= 3)
    cluster = below(driver.pid)
    driver.kill()
    driver.communicate()
    n_done = committed(out)
    assert 3 <= n_done < N_SLIDES
    until(lambda: not at_work(cluster), seconds=60)
    again = start(many, out, folder=folder)
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert f"{n_done} of {N_SLIDES} slides are done already".encode() in said
    assert out.read_bytes() == undisturbed
    assert not Path(f"{out}.parts").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_it_did_and_ends_its_cluster(
    many: Path, tmp_path: Path, folder: Path, number: signal.Signals
) -> None:
    out = tmp_path / "v.parquet"
    driver = start(many, out, folder=folder)
    until(lambda: committed(out) >= 2)
    cluster = below(driver.pid)
    driver.send_signal(number)
    _, said = driver.communicate(timeout=120)
    assert driver.returncode == 130, said
    assert b"Traceback" not in said
    assert 2 <= len(open_table(out)) < N_SLIDES
    assert not Path(f"{out}.parts").exists()
    assert not failures_path(out).exists()
    until(lambda: not at_work(cluster), seconds=60)
