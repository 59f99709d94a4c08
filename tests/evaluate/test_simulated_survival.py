"""Simulated survival: the censored share, the hazard that Cox finds again, what is refused."""

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index

from gigassl.errors import SettingsError
from gigassl.evaluate.simulated_survival import simulate_survival

COVARIATE = np.random.default_rng(0).normal(3.0, 0.1, 4000)


@pytest.mark.parametrize("censored", [0.1, 0.26, 0.6])
def test_share_of_censored_is_the_wanted_one(censored: float) -> None:
    times = simulate_survival(COVARIATE, seed=1, censored=censored)
    assert 1 - times.event.mean() == pytest.approx(censored, abs=0.025)
    assert (times.time > 0).all()


def test_nobody_is_censored_at_zero() -> None:
    assert simulate_survival(COVARIATE, seed=1, censored=0.0).event.all()


def test_cox_finds_the_hazard_again() -> None:
    times = simulate_survival(COVARIATE, seed=2, log_hazard=0.5)
    table = pd.DataFrame(
        {
            "z": (COVARIATE - COVARIATE.mean()) / COVARIATE.std(),
            "time": times.time,
            "event": times.event,
        }
    )
    found = CoxPHFitter().fit(table, "time", "event").params_["z"]
    assert found == pytest.approx(0.5, abs=0.05)
    assert concordance_index(times.time, -times.log_hazard, times.event) == pytest.approx(
        0.64, abs=0.02
    )


def test_a_seed_decides_the_times() -> None:
    a, b, c = (simulate_survival(COVARIATE, seed=seed).time for seed in (3, 3, 4))
    assert (a == b).all()
    assert (a != c).any()


def test_a_constant_covariate_and_a_wrong_share_are_refused() -> None:
    with pytest.raises(SettingsError, match="two values or more"):
        simulate_survival(np.ones(5), seed=0)
    with pytest.raises(SettingsError, match="got 1"):
        simulate_survival(COVARIATE, seed=0, censored=1.0)
