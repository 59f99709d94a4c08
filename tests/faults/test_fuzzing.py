"""No mutated file crashes the interpreter, hangs, fills the memory or ends in a traceback."""

import random
import subprocess
import sys

import pytest

from tests.faults.launcher import REPO
from tests.faults.mutate import mutate_bytes, mutate_json, mutate_text


def fuzzed(*options: object) -> subprocess.CompletedProcess[str]:
    # in a process of its own: what forks must not have started threads
    command = [sys.executable, "-m", "tests.faults.fuzzing", *(str(o) for o in options)]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)


def test_some_hundred_mutated_files_are_read_or_refused() -> None:
    done = fuzzed("--inputs", 330)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"inputs": 330' in done.stdout


@pytest.mark.slow
def test_five_thousand_more() -> None:
    done = fuzzed("--inputs", 5500, "--start", 10_000)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("mutate", [mutate_bytes, mutate_text, mutate_json])
def test_a_number_is_always_the_same_input(mutate) -> None:  # type: ignore[no-untyped-def]
    data = b'{"a": [1, 2, {"b": "text"}], "c": null}'
    made = [mutate(data, random.Random(number)) for number in range(50)]
    assert made == [mutate(data, random.Random(number)) for number in range(50)]
    assert len(set(made)) > 25
