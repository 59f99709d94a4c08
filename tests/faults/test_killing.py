"""Killed again and again, runs end with the bytes of an undisturbed one, and leave nothing else."""

from pathlib import Path

import pytest

from tests.faults.killing import WORKS, campaign


def test_a_few_kills_change_nothing(tmp_path: Path) -> None:
    found = campaign(tmp_path, n_slides=8, kills=3, seed=3)
    assert found.differing == []
    assert found.most_lost == 0
    assert found.kills.total() >= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "engine"), [*((work, "local") for work in WORKS), ("embed", "ray")]
)
def test_a_hundred_kills_change_nothing(work: str, engine: str, tmp_path: Path) -> None:
    kills = 100 if work == "embed" else 30
    found = campaign(tmp_path, work=work, engine=engine, kills=kills)
    assert found.differing == []
    assert found.most_lost == 0
    assert found.kills.total() >= kills
