"""The learning rate by schedule, and the plateau that it waits for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import SettingsError
from gigassl.tiles.pretrain.schedule import LOWEST_RATE, PATIENCE, Plateau, rate_at
from gigassl.tiles.pretrain.settings import TilePretrainSettings


def falls_slowly(values: list[float]) -> int:
    """The rule in words: so many rounds in a row without a new least value, then count anew."""
    falls = rounds = 0
    for k, value in enumerate(values):
        rounds = 0 if k == 0 or value < min(values[:k]) else rounds + 1
        if rounds == PATIENCE:
            falls, rounds = falls + 1, 0
    return falls


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0]), min_size=1, max_size=40))
def test_the_plateau_follows_the_rule(values: list[float]) -> None:
    plateau = Plateau()
    for value in values:
        plateau.note(value)
    assert plateau.falls == falls_slowly(values)
    assert plateau.lowest == min(values)


def test_the_rate_falls_to_a_tenth_but_not_below_the_published_floor() -> None:
    settings = TilePretrainSettings(schedule="plateau", validation=0.2, warmup=0.0)
    rates = [rate_at(5, settings=settings, peak=1e-3, steps=10, falls=n) for n in range(4)]
    assert rates == pytest.approx([1e-3, 1e-4, LOWEST_RATE, LOWEST_RATE])
    assert rate_at(5, settings=settings, peak=1e-6, steps=10, falls=3) == 1e-6


def test_a_constant_rate_is_constant_after_the_warm_up() -> None:
    settings = TilePretrainSettings(schedule="constant", warmup=0.4)
    rates = [rate_at(k, settings=settings, peak=1.0, steps=10) for k in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, *[1.0] * 7])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schedule": "plateau"}, "give validation a share"),
        ({"validation": 1.0}, "from 0 to below 1"),
    ],
)
def test_wrong_schedules_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        TilePretrainSettings(**changes)  # type: ignore[arg-type]
