"""``kill -9`` at random moments, over and over, ends with the bytes of an undisturbed run."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gigassl.slides.slide_files import save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.vectors.table import open_table

KILLS = 10
N_SLIDES = 36


@pytest.fixture(scope="module")
def many_slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for seed in range(N_SLIDES):
        painted = paint_slide(SyntheticSettings(width_px=2240, height_px=2240, seed=seed))
        save_image(painted.image, folder / f"s{seed:02d}.svs", mpp=0.5)
    return folder


def start(slides: Path, out: Path) -> subprocess.Popen[bytes]:
    code = "from gigassl.cli.main import run; run()"
    arguments = ["embed", str(slides), "-o", str(out)]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def committed(out: Path) -> set[str]:
    return {path.name for path in Path(f"{out}.parts").glob("[!.]*.parquet")}


@pytest.mark.slow
def test_killed_ten_times_it_ends_with_the_same_bytes(many_slides: Path, tmp_path: Path) -> None:
    out, undisturbed = tmp_path / "v.parquet", tmp_path / "undisturbed.parquet"
    moment = random.Random(5)
    done: set[str] = set()
    for _ in range(KILLS):
        process = start(many_slides, out)
        while len(committed(out) - done) < 1:  # work is in flight from the first new commit on
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.005)
        time.sleep(moment.uniform(0, 0.6))
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        now = committed(out)
        assert now > done, "what was committed before the kill is still there, and more"
        assert len(now) < N_SLIDES, "slides were left to do when it was killed"
        assert not out.exists()
        for path in Path(f"{out}.parts").glob("[!.]*.parquet"):
            assert len(open_table(path)) == 1, "no commit is ever half there"
        done = now

    last = start(many_slides, out)
    _, said = last.communicate()
    assert last.returncode == 0, said
    assert f"{len(done)} of {N_SLIDES} slides are done already".encode() in said
    whole = start(many_slides, undisturbed)
    whole.communicate()
    assert whole.returncode == 0
    assert out.read_bytes() == undisturbed.read_bytes()
    assert not Path(f"{out}.parts").exists()


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_done_in_a_valid_table(many_slides: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.parquet"
    process = start(many_slides, out)
    while len(committed(out)) < 2:
        assert process.poll() is None, "the run ended before it could be interrupted"
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert b"Traceback" not in said
    n_done = len(open_table(out))
    assert 2 <= n_done < N_SLIDES
    assert not Path(f"{out}.parts").exists()
    again = start(many_slides, out)
    _, said = again.communicate()
    assert again.returncode == 0
    assert f"{n_done} of {N_SLIDES} slides are done already".encode() in said
    assert len(open_table(out)) == N_SLIDES
