"""A clock that runs backwards: results neither ask it nor depend on times of files.

The clock is a library put before the system's, which takes a minute off at every look. What the
kernel itself writes (times of files) goes forward, so those are turned back by hand.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.cohorts import FAST, contents, save_slides

BACKWARDS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

static long looks;

int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(which, now);
    if (which == CLOCK_REALTIME) now->tv_sec -= 60 * ++looks;
    return failed;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
"""

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler for the clock")


@pytest.fixture(scope="module")
def backwards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a process whose clock runs backwards."""
    folder = tmp_path_factory.mktemp("clock")
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(BACKWARDS)
    command = ["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}


@needs_cc
def test_the_clock_does_run_backwards(backwards: dict[str, str]) -> None:
    code = "import time; first = time.time(); print(time.time() - first < -50)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=backwards, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"


@needs_cc
def test_embedding_and_resuming_is_the_same(backwards: dict[str, str], tmp_path: Path) -> None:
    slides = save_slides(tmp_path / "slides", 5, n_bad=1)

    def embed(out: Path, env: dict[str, str] | None) -> None:
        code = "from gigassl.cli.main import run; run()"
        words = ["embed", slides, "-o", out / "v.parquet", "--keep-bags", out / "bags", *FAST]
        command = [sys.executable, "-c", code, *map(str, words)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr

    calm, disturbed = tmp_path / "calm", tmp_path / "disturbed"
    embed(calm, None)
    expected = contents(calm)
    embed(disturbed, backwards)
    assert contents(disturbed) == expected
    # inputs from tomorrow, results from 1970: a resume asks neither
    for path in slides.iterdir():
        os.utime(path, (4e9, 4e9))
    for path in disturbed.rglob("*"):
        os.utime(path, (0, 0))
    embed(disturbed, backwards)
    assert contents(disturbed) == expected
