"""One contender, once: its process is started, watched and asked what it found."""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.peers.job import Job

ROOT = Path(__file__).parents[2]
LOOK_EVERY_S = 0.1
# asking for shared pages walks all of a process's memory, so it is done less often
LOOKS_A_SHARE = 5


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one process did.

    Attributes:
        whole_s, work_s: from its start to its end; without imports and loading the network.
        work_cpu_s: of all cores, in the work; says more than the clock on a busy machine.
        tiles: by slide.
        rss_mb, pss_mb: peak of the process and its children together; in the second, memory that
            several of them share counts once.
        packages: versions and licences of what it ran.
    """

    whole_s: float
    work_s: float
    work_cpu_s: float
    tiles: Mapping[str, int]
    rss_mb: float
    pss_mb: float
    packages: Mapping[str, str]

    @property
    def n_tiles(self) -> int:
        return sum(self.tiles.values())

    @property
    def rate(self) -> float:
        """Tiles/s of the work."""
        return self.n_tiles / self.work_s

    @property
    def cpu_ms(self) -> float:
        """Of the work, a tile."""
        return 1e3 * self.work_cpu_s / self.n_tiles


class RunFailedError(RuntimeError):
    """A contender ended without an answer; says what it printed last."""


def run_contender(python: Path, module: str, *, job: Job, cores: int) -> Run:
    """Starts ``module`` on a job and waits for it.

    Raises:
        RunFailedError: it ended with an error, or said nothing that can be read.
    """
    out = Path(job.out)
    begin = time.perf_counter()
    with (out / "said.txt").open("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            [str(python), "-m", f"benchmarks.peers.{module}", job.as_json()],
            cwd=ROOT, stdout=said, stderr=subprocess.STDOUT, env=environment(cores),
        )  # fmt: skip
        rss, pss = peaks(process)
        whole = time.perf_counter() - begin
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise RunFailedError(f"{module} ended with {process.returncode}: {text[-2000:]}")
    told = last_json(text)
    return Run(
        whole_s=whole, rss_mb=rss / 1e6, pss_mb=pss / 1e6, **told,
    )  # fmt: skip


def limits(python: Path, *, job: Job, cores: int) -> Mapping[str, float]:
    """Tiles/s of our reader alone and of the network alone."""
    done = subprocess.run(
        [str(python), "-m", "benchmarks.peers.limits", job.as_json()],
        cwd=ROOT, capture_output=True, text=True, check=True, env=environment(cores),
    )  # fmt: skip
    told: Mapping[str, float] = last_json(done.stdout)
    return told


def environment(cores: int) -> dict[str, str]:
    """Ours, without what would look up a hub, and as many threads as cores."""
    wanted = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "OMP_NUM_THREADS": str(cores)}
    return {**os.environ, **wanted}


def last_json(text: str) -> Any:
    """The last line of what was printed that is a JSON object; progress may stand around it.

    Raises:
        RunFailedError: there is none.
    """
    for said in reversed(text.splitlines()):
        if said.startswith("{"):
            try:
                return json.loads(said)
            except json.JSONDecodeError:
                continue
    raise RunFailedError(f"no answer in: {text[-2000:]}")


def peaks(process: "subprocess.Popen[Any]") -> tuple[int, int]:
    """Waits for the process; the most bytes that it and its children held, twice (see ``Run``)."""
    root, rss, pss, looks = psutil.Process(process.pid), 0, 0, 0
    while process.poll() is None:
        family = family_of(root)
        rss = max(rss, held(family, "rss"))
        if looks % LOOKS_A_SHARE == 0:
            pss = max(pss, held(family, "pss"))
        looks += 1
        time.sleep(LOOK_EVERY_S)
    return rss, pss


def family_of(root: psutil.Process) -> Sequence[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def held(family: Sequence[psutil.Process], kind: str) -> int:
    """Bytes of all of them; one that ended meanwhile holds nothing."""
    n_bytes = 0
    for one in family:
        try:
            facts = one.memory_full_info() if kind == "pss" else one.memory_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        n_bytes += getattr(facts, kind)
    return n_bytes
