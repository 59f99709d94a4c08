"""Forecasts: what intervals of a few rates hold, and predicted against actual of a run."""

import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from gigassl.errors import SettingsError
from gigassl.pipeline import forecast as forecast_module
from gigassl.pipeline.forecast import (
    Forecast,
    ForetellingProgress,
    mean_rate,
    read_expected,
    said,
)
from gigassl.pipeline.progress import Silent


def test_the_interval_is_that_of_the_textbook() -> None:
    rates = [0.2, 0.3, 0.25]
    found = mean_rate(rates)
    logs = np.log(rates)
    low, high = stats.t.interval(0.95, 2, loc=0.0, scale=stats.sem(logs))
    assert found.value == pytest.approx(0.25)
    assert found.low == pytest.approx(0.25 * math.exp(low))
    assert found.high == pytest.approx(0.25 * math.exp(high))
    single = mean_rate(rates, shares=[1.0])
    scale = logs.std(ddof=1) * math.sqrt(1 / 3 + 1)
    assert single.high == pytest.approx(0.25 * math.exp(stats.t.ppf(0.975, 2) * scale))


def test_larger_slides_weigh_more_in_the_mean_only() -> None:
    plain, weighed = mean_rate([0.2, 0.4]), mean_rate([0.2, 0.4], weights=[3.0, 1.0])
    assert weighed.value == pytest.approx(0.25)
    assert weighed.high is not None
    assert plain.high is not None
    assert weighed.high / weighed.value == pytest.approx(plain.high / plain.value)


def test_one_rate_gives_no_interval() -> None:
    alone = mean_rate([0.2])
    assert (alone.low, alone.high, alone.holds(0.2)) == (None, None, None)
    assert said(alone) == "about 0:00:00 (one slide gives no interval)"
    assert mean_rate([0.0, 1.0]).low is None


@pytest.mark.parametrize("n_slides", [4, 40, 400])
def test_totals_of_slides_to_come_lie_inside_as_often_as_promised(n_slides: int) -> None:
    chance = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        tiles = chance.lognormal(5, 0.7, size=n_slides)
        rates = chance.lognormal(-4, 0.25, size=n_slides)
        timed = chance.lognormal(-4, 0.25, size=3).tolist()
        predicted = mean_rate(timed, shares=(tiles / tiles.sum()).tolist())
        total = Forecast(value=tiles.sum(), low=tiles.sum(), high=tiles.sum()).times(predicted)
        inside += bool(total.holds(float((tiles * rates).sum())))
    assert 0.92 <= inside / 400 <= 0.99


def test_products_reach_from_both_lows_to_both_highs() -> None:
    product = Forecast(value=2, low=1, high=3).times(Forecast(value=10, low=5, high=20))
    assert product == Forecast(value=20, low=5, high=60)
    assert product.times(Forecast(value=1)).low is None


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def _run(
    clock: _Clock, seconds: list[float], *, sizes: dict[str, float], failed: tuple[int, ...] = ()
) -> ForetellingProgress:
    watched = ForetellingProgress(Silent(), sizes=sizes)
    watched.started(len(seconds))
    for k, each in enumerate(seconds):
        clock.now += each
        watched.tiles_done(1)
        watched.slide_done(f"s{k}", failed=k in failed)
    return watched


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    found = _Clock()
    monkeypatch.setattr(forecast_module, "time", found)
    return found


def test_predicted_and_actual_stand_in_the_log(
    clock: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="gigassl")
    sizes = {f"s{k}": 10.0 for k in range(10)}
    timing = _run(
        clock, [60.0, 0.1, 20.0, 22.0, 18.0, *[20.0] * 5], sizes=sizes, failed=(1,)
    ).ended()
    assert timing is not None
    elapsed = 60.0 + 0.1 + 20.0 + 22.0 + 18.0
    assert timing.predicted.value == pytest.approx(elapsed + 5 * 20.0)
    assert timing.seconds == pytest.approx(elapsed + 100)
    assert timing.summary()["inside_interval"] is True
    assert [record.getMessage()[:8] for record in caplog.records] == ["foretold", "it took "]
    assert "it took 0:03:40, inside; the first slides foretold about 0:03:40" in caplog.text


def test_a_run_that_slows_down_is_said_to_lie_outside(clock: _Clock) -> None:
    sizes = {f"s{k}": 10.0 for k in range(10)}
    timing = _run(clock, [20.0, 20.0, 20.1, 20.2, *[200.0] * 6], sizes=sizes).ended()
    assert timing is not None
    assert ", outside; the first slides foretold" in timing.sentence()


def test_a_dry_run_counts_instead_of_the_first_slides(clock: _Clock, tmp_path: Path) -> None:
    saved = tmp_path / "preflight.json"
    foretold = {"value": 100.0, "low": 90.0, "high": 110.0}
    tiles = {"value": 1000.0, "low": 1000.0, "high": 1000.0}
    saved.write_text(json.dumps({"n_slides": 3, "n_tiles": tiles, "seconds": foretold}))
    expected = read_expected(saved)
    watched = ForetellingProgress(Silent(), sizes={}, expected=expected)
    watched.started(3)
    for name in ("a", "b", "c"):
        clock.now += 35.0
        watched.tiles_done(300)
        watched.slide_done(name, failed=False)
    timing = watched.ended()
    assert timing is not None
    assert timing.sentence() == (
        "it took 0:01:45, inside; the dry run foretold about 0:01:40 (95% interval 0:01:30 to "
        "0:01:50), for 3 slides of 1,000 tiles (done: 3 of 900)"
    )
    assert timing.summary()["expected"]["n_slides"] == 3


@pytest.mark.parametrize("text", [None, "no JSON", "[]", "{}", '{"seconds": null, "n_slides": 1}'])
def test_what_no_dry_run_wrote_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "p.json").write_text(text)
    with pytest.raises(SettingsError, match=r"--expected .*p\.json"):
        read_expected(tmp_path / "p.json")


def test_short_runs_and_unknown_sizes_are_not_foretold(clock: _Clock) -> None:
    assert _run(clock, [1.0] * 7, sizes={f"s{k}": 1.0 for k in range(7)}).ended() is None
    assert _run(clock, [1.0] * 50, sizes={}).ended() is None
