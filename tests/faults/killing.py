"""Kill campaigns: ``kill -9`` again and again, until a run happens to end; then bytes are compared.

    python -m tests.faults.killing --work embed --kills 100 --slides 60 --seed 1

When a run is killed is decided by a seed and by what lies on disk; the program has no hooks for it.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.cohorts import FAST, contents, save_slides
from tests.faults.launcher import Launcher

_MOST_SECONDS = 120.0


def present(folder: Path, pattern: str) -> set[Path]:
    """Files of that pattern; a folder that vanishes meanwhile is empty."""
    with suppress(FileNotFoundError):
        return set(folder.glob(pattern))
    return set()


@dataclass(frozen=True, kw_only=True)
class Work:
    """A command under fire.

    Attributes:
        arguments: its command line for slides and a folder of its own for all results.
        committed: files that say that a slide is done, or lines in them (see ``done``).
        temporary: files that exist only while a slide is being written.
        ending: files that exist only while the end of the run is being written.
    """

    arguments: Callable[[Path, Path], Sequence[object]]
    committed: str
    temporary: str
    ending: str

    def done(self, folder: Path) -> int:
        """Slides that are done so far."""
        files = present(folder, self.committed)
        if self.committed.endswith(".jsonl"):
            return sum(path.read_bytes().count(b"\n") for path in files)
        return len(files)


BANK = ("--augmentations", 2, "--tiles", 3)
WORKS = {
    "embed": Work(
        arguments=lambda slides, folder: ("embed", slides, "-o", folder / "v.parquet", *FAST),
        committed="v.parquet.parts/[!.]*",
        temporary="v.parquet.parts/.*",
        ending=".v.*.part",
    ),
    "bags": Work(
        arguments=lambda slides, folder: ("encode", slides, "-o", folder / "bags", *FAST),
        committed="bags/[!.]*.h5",
        temporary="bags/.*.h5.*",
        ending="bags/.failures.csv.*.part",
    ),
    "bank": Work(
        arguments=lambda slides, folder: ("encode", slides, "-o", folder / "b", *FAST, *BANK),
        committed="b/journal.jsonl",
        temporary="b/.journal.jsonl.*",
        ending="b/.[sb]*.part",
    ),
}

Victim = Callable[[int], int | None]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Where the work is done, and which of its processes can be killed.

    Attributes:
        options: of the command line.
        victims: role → the process to kill, given the driver's; None while there is none.
    """

    options: Sequence[object]
    victims: dict[str, Victim]


@contextmanager
def local_engine() -> Iterator[Engine]:
    """Readers, encoder and writer are threads of one process: each dies with it."""
    yield Engine(options=(), victims={"driver": lambda driver: driver})


@contextmanager
def ray_engine() -> Iterator[Engine]:
    """A cluster of two nodes that outlives every driver; its workers are processes."""
    from tests.ray_clusters import DECODER, ENCODER, two_nodes, workers_of

    with two_nodes() as (folder, cluster, _):

        def one(title: str) -> int | None:
            return max(workers_of(folder, title=title), default=None)

        yield Engine(
            options=(
                "--engine", "ray", "--address", cluster.address, "--retries", 50,
                "--actors", 1, "--cpus-per-actor", 1,
            ),
            victims={
                "driver": lambda driver: driver, "encoder": lambda _: one(ENCODER),
                "decoder": lambda _: one(DECODER),
            },
        )  # fmt: skip


ENGINES = {"local": local_engine, "ray": ray_engine}


@dataclass(kw_only=True)
class Campaign:
    """What a campaign did.

    Attributes:
        kills: how many of each kind (victim and moment).
        rounds: runs that ended, each after kills of its own.
        differing: files of such rounds that differ from the undisturbed run, or are too many.
        most_lost: the most slides that a kill took back (0: what was committed stayed).
    """

    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    differing: list[str] = field(default_factory=list)
    most_lost: int = 0
    seconds: float = 0.0

    def summary(self) -> dict[str, Any]:
        """The figures in plain values."""
        return {
            "kills": sum(self.kills.values()), "by kind": dict(sorted(self.kills.items())),
            "rounds": self.rounds, "differing files": self.differing,
            "most slides lost by a kill": self.most_lost, "seconds": round(self.seconds, 1),
        }  # fmt: skip


class _Fire:
    """Starts a run, kills it at the moment drawn, over and over."""

    def __init__(self, launcher: Launcher, slides: Path, *, work: Work, engine: Engine) -> None:
        self.launcher, self.slides, self.work, self.engine = launcher, slides, work, engine

    def start(self, folder: Path) -> int:
        folder.mkdir(exist_ok=True)
        arguments = (*self.work.arguments(self.slides, folder), *self.engine.options)
        return self.launcher.start(arguments, log=folder.with_suffix(".log"))

    def until(self, pid: int, holds: Callable[[], object]) -> bool:
        """Waits until something holds; False where the run ended before."""
        limit = time.monotonic() + _MOST_SECONDS
        while not holds():
            if self.launcher.ended(pid):
                return False
            assert time.monotonic() < limit, "the run hangs"
        return True

    def reach(self, pid: int, moment: str, *, folder: Path, chance: random.Random) -> bool:
        """Waits for a moment of a run; False where the run ended before."""
        if moment == "start":
            end = time.monotonic() + chance.uniform(0, 0.5)
            return self.until(pid, lambda: time.monotonic() >= end)
        wanted = self.work.done(folder) + chance.randint(0, 5)
        if moment == "ending":
            return self.until(pid, lambda: present(folder, self.work.ending))
        if not self.until(pid, lambda: self.work.done(folder) >= wanted):
            return False
        if moment == "writing":
            old = present(folder, self.work.temporary)
            return self.until(pid, lambda: present(folder, self.work.temporary) - old)
        end = time.monotonic() + chance.uniform(0, 0.1)
        return self.until(pid, lambda: time.monotonic() >= end)


MOMENTS = ("start", "anywhen", "writing", "writing", "ending")
_TRIES_AT_THE_END = 3


def campaign(
    folder: Path, *, work: str = "embed", engine: str = "local", n_slides: int = 60,
    kills: int = 100, seed: int = 1,
) -> Campaign:  # fmt: skip
    """Rounds of one run each, killed until it ends, until there were so many kills."""
    found = Campaign()
    # the launcher second: it takes over the environment that a cluster needs
    with ENGINES[engine]() as chosen, Launcher() as launcher:
        fire = _Fire(launcher, folder / "slides", work=WORKS[work], engine=chosen)
        _fight(
            fire, folder, n_slides=n_slides, kills=kills, chance=random.Random(seed), found=found
        )
    return found


def _fight(
    fire: "_Fire", folder: Path, *, n_slides: int, kills: int, chance: random.Random,
    found: Campaign,
) -> None:  # fmt: skip
    begin = time.monotonic()
    slides = save_slides(folder / "slides", n_slides, n_bad=min(4, n_slides // 5))
    undisturbed = folder / "undisturbed"
    # the reference is always the local engine's: what other engines give has the same bytes
    with local_engine() as local:
        calm = _Fire(fire.launcher, slides, work=fire.work, engine=local)
    code = fire.launcher.wait(calm.start(undisturbed))
    expected = contents(undisturbed)
    while found.kills.total() < kills:
        disturbed = folder / f"round{found.rounds}"
        assert _round(fire, disturbed, found=found, chance=chance) == code
        found.rounds += 1
        print(f"{found.kills.total()} kills in {found.rounds} rounds", file=sys.stderr, flush=True)
        now = contents(disturbed)
        differing = {k for k in {*now, *expected} if now.get(k) != expected.get(k)}
        found.differing += [f"{disturbed.name}/{name}" for name in sorted(differing)]
        if not differing:
            shutil.rmtree(disturbed)
    found.seconds = time.monotonic() - begin


def _round(fire: _Fire, folder: Path, *, found: Campaign, chance: random.Random) -> int:
    """Kills a run, or processes of it, until it ends; returns its exit code."""
    at_the_end = 0
    pid: int | None = None
    while True:
        moment = chance.choice(MOMENTS)
        at_the_end += moment == "ending"
        role = chance.choice(sorted(fire.engine.victims))
        pid = pid or fire.start(folder)
        if at_the_end > _TRIES_AT_THE_END:
            return fire.launcher.wait(pid)
        if not fire.reach(pid, moment, folder=folder, chance=chance):
            return fire.launcher.wait(pid)
        victim = fire.engine.victims[role](pid)
        if victim is not None and victim != pid:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                found.kills[f"{role}, {moment}"] += 1
            continue
        code = _kill_driver(fire, pid, folder=folder, found=found, moment=moment)
        if code != -signal.SIGKILL:  # it had just ended
            return code
        pid = None


def _kill_driver(fire: _Fire, pid: int, *, folder: Path, found: Campaign, moment: str) -> int:
    """Kills the run itself; what its end was."""
    before = fire.work.done(folder)
    code = fire.launcher.kill(pid)
    if code == -signal.SIGKILL:
        found.kills[f"driver, {moment}"] += 1
        if moment != "ending":  # parts are cleared at the end, once they stand in the table
            found.most_lost = max(found.most_lost, before - fire.work.done(folder))
    return code


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--work", choices=WORKS, default="embed")
    options.add_argument("--engine", choices=ENGINES, default="local")
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--slides", type=int, default=60)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills") as folder:
        found = campaign(
            Path(folder), work=chosen.work, engine=chosen.engine, kills=chosen.kills,
            n_slides=chosen.slides, seed=chosen.seed,
        )  # fmt: skip
    print(json.dumps(found.summary(), indent=2))


if __name__ == "__main__":
    main()
