"""Fuzzing: mutated files through the readers, in children with limits; each input has a number.

    python -m tests.faults.fuzzing --inputs 5000
    python -m tests.faults.fuzzing --format slide --only 1234    # one input again, with traceback

An input is its format and number, nothing else decides it. A child forks from a process that has
made the slow imports; it tells each number before it reads. What it does not come back from is a
crash or a hang of that number.
"""

import os

if __name__ == "__main__":
    # the threads of OpenMP do not survive a fork: a child would wait for them for ever
    os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import random
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gigassl.errors import GigasslError
from tests.faults.targets import TARGETS, Sample

MOST_SECONDS = 10.0
MOST_MEMORY = 2 << 30
"""Address space of a child beyond what it starts with."""
_MOST_WORDS = 2100
_PER_CHILD = 50


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of one input: "read", "refused", or a defect."""

    format: str
    number: int
    outcome: str
    said: str = ""


@dataclass(kw_only=True)
class Fuzzed:
    """What a run of many inputs showed."""

    counts: Counter[str] = field(default_factory=Counter)
    defects: list[Finding] = field(default_factory=list)
    slowest_s: float = 0.0
    most_grown_mb: float = 0.0

    def kinds(self) -> list[str]:
        """Defects of one kind and place once, with the number of the first."""
        first: dict[tuple[str, str, str], Finding] = {}
        for each in self.defects:
            first.setdefault((each.format, each.outcome, each.said.partition(":")[0]), each)
        return [f"{d.format} {d.number}: {d.outcome}: {d.said}" for d in first.values()]

    def summary(self) -> dict[str, Any]:
        """The figures in plain values."""
        return {
            "inputs": self.counts.total(), "outcomes": dict(sorted(self.counts.items())),
            "slowest, s": round(self.slowest_s, 2),
            "memory beyond the start of a child, MB": round(self.most_grown_mb),
            "defects": self.kinds(),
        }  # fmt: skip


def mutated(samples: Sequence[Sample], number: int) -> tuple[Sample, bytes]:
    """The input of that number: always the same; -1, -2, … are the samples as they are."""
    if number < 0:
        return samples[-number - 1], samples[-number - 1].data
    chance = random.Random(number)
    sample = samples[number % len(samples)]
    return sample, sample.mutate(sample.data, chance)


def put(folder: Path, samples: Sequence[Sample], number: int) -> Path:
    """Writes an input into an empty folder; the file to read."""
    folder.mkdir()
    sample, data = mutated(samples, number)
    for name, other in sample.around.items():
        (folder / name).write_bytes(other)
    (folder / sample.name).write_bytes(data)
    return folder / sample.name


def judged(name: str, path: Path) -> tuple[str, str]:
    """Reads an input: what came of it, and what was said."""
    try:
        TARGETS[name].read(path)
    except GigasslError as error:
        said = str(error)
        clear = said and "\n" not in said and "Traceback" not in said and len(said) < _MOST_WORDS
        return ("refused", "") if clear else ("unclear words", said[:300])
    except Exception as error:  # noqa: BLE001 # a defect, whatever it is
        at = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(f.filename).name}:{f.lineno}" for f in at if "gigassl" in f.filename]
        return f"{type(error).__name__}", f"{' '.join(ours[-3:])}: {str(error)[:150]}"
    return "read", ""


def fuzz(name: str, numbers: Sequence[int], *, folder: Path, found: Fuzzed) -> None:
    """Reads inputs of a format, in children one after another."""
    (folder / "samples").mkdir()
    samples = TARGETS[name].samples(folder / "samples")
    # what is valid must be read, or its mutations say nothing
    left = [*range(-len(samples), 0), *numbers]
    while left:
        results = _in_child(name, samples, left[:_PER_CHILD], folder=folder)
        for number, outcome, said, seconds, grown_mb in results:
            left.remove(number)
            found.slowest_s = max(found.slowest_s, seconds)
            found.most_grown_mb = max(found.most_grown_mb, grown_mb)
            if number >= 0:
                found.counts[f"{name}: {outcome}"] += 1
            if outcome not in ({"read", "refused"} if number >= 0 else {"read"}):
                finding = Finding(format=name, number=number, outcome=outcome, said=said)
                found.defects.append(finding)
                print(finding, file=sys.stderr, flush=True)


Result = tuple[int, str, str, float, float]


def _in_child(
    name: str, samples: Sequence[Sample], numbers: Sequence[int], *, folder: Path
) -> Iterator[Result]:
    """Results of a child, up to the one that it did not survive."""
    inbox, outbox = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inbox)
        _work(name, samples, numbers, folder=folder, outbox=outbox)
    os.close(outbox)
    current, begin, hung = None, time.monotonic(), False
    for message in _messages(inbox):
        hung = message is None
        if message is None:
            os.kill(child, signal.SIGKILL)
        elif "begun" in message:
            current, begin = message["begun"], time.monotonic()
        else:
            yield tuple(message["done"])
            current = None
    os.close(inbox)
    _, status = os.waitpid(child, 0)
    if current is not None:
        seconds = time.monotonic() - begin
        how = f"hang over {MOST_SECONDS:g} s" if hung else "crash"
        yield current, how, f"child ended with {os.waitstatus_to_exitcode(status)}", seconds, 0.0


def _messages(inbox: int) -> Iterator[dict[str, Any] | None]:
    """What a child says, line by line; None, and the end, when it is silent for too long."""
    rest = b""
    while True:
        ready, _, _ = select.select([inbox], [], [], MOST_SECONDS)
        if not ready:
            yield None
            return
        data = os.read(inbox, 65_536)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from map(json.loads, lines)


def _work(
    name: str, samples: Sequence[Sample], numbers: Sequence[int], *, folder: Path, outbox: int
) -> None:
    """The child's side; never returns."""
    code = 1
    try:
        _limit()
        warnings.simplefilter("ignore")
        # what C libraries say about damaged files is not for people
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        start_mb = _peak_mb()
        for number in numbers:
            path = put(folder / f"in{number}", samples, number)
            _tell(outbox, {"begun": number})
            begin = time.monotonic()
            outcome, said = judged(name, path)
            result = (number, outcome, said, time.monotonic() - begin, _peak_mb() - start_mb)
            _tell(outbox, {"done": result})
        code = 0
    finally:
        os._exit(code)


def _limit() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _tell(outbox: int, message: object) -> None:
    os.write(outbox, json.dumps(message).encode() + b"\n")


def fuzz_all(formats: Sequence[str], *, inputs: int, start: int = 0) -> Fuzzed:
    """So many inputs, the same number of each format."""
    found = Fuzzed()
    each = -(-inputs // len(formats))
    for name in formats:
        with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
            fuzz(name, range(start, start + each), folder=Path(folder), found=found)
    return found


def again(name: str, number: int) -> None:
    """Reads one input in this process."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        (Path(folder) / "samples").mkdir()
        samples = TARGETS[name].samples(Path(folder) / "samples")
        print(TARGETS[name].read(put(Path(folder) / "in", samples, number)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--inputs", type=int, default=5000)
    options.add_argument("--start", type=int, default=0)
    options.add_argument("--format", choices=TARGETS)
    options.add_argument("--only", type=int)
    chosen = options.parse_args()
    if chosen.only is not None:
        again(chosen.format, chosen.only)
        return
    formats = [chosen.format] if chosen.format else list(TARGETS)
    found = fuzz_all(formats, inputs=chosen.inputs, start=chosen.start)
    print(json.dumps(found.summary(), indent=1))
    sys.exit(1 if found.defects else 0)


if __name__ == "__main__":
    main()
