"""Killed again and again, runs end with the bytes of an undisturbed one, and leave nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.killing import WORKS, campaign
from tests.faults.launcher import Launcher


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher() as found:
        yield found


def test_a_few_kills_change_nothing(launcher: Launcher, tmp_path: Path) -> None:
    found = campaign(launcher, tmp_path, n_slides=8, kills=3, seed=3)
    assert found.differing == []
    assert found.most_lost == 0
    assert found.kills.total() >= 3


@pytest.mark.slow
@pytest.mark.parametrize("work", WORKS)
def test_a_hundred_kills_change_nothing(work: str, launcher: Launcher, tmp_path: Path) -> None:
    kills = 100 if work == "embed" else 30
    found = campaign(launcher, tmp_path, work=work, kills=kills)
    assert found.differing == []
    assert found.most_lost == 0
    assert found.kills.total() >= kills
