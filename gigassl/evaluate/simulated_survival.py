"""Survival times with a known hazard, to see how much of it a method finds."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy.optimize import brentq

from gigassl.errors import SettingsError


@dataclass(frozen=True, kw_only=True, eq=False)
class SurvivalTimes:
    """Simulated follow-up of patients.

    Attributes:
        time: until the event or the end of follow-up, whichever came first.
        event: whether the event was seen.
        log_hazard: the truth behind the times, relative to the mean patient.
    """

    time: Float64[np.ndarray, " patient"]
    event: Bool[np.ndarray, " patient"]
    log_hazard: Float64[np.ndarray, " patient"]


def simulate_survival(
    covariate: Float64[np.ndarray, " patient"], *, seed: int, log_hazard: float = 0.5,
    censored: float = 0.26,
) -> SurvivalTimes:  # fmt: skip
    """Exponential times of proportional hazards, with exponential censoring.

    The usual scheme of Bender, Augustin and Blettner, Generating survival times to simulate Cox
    models, Statistics in Medicine 24 (2005). With the default hazard the covariate itself orders
    about 64 % of the comparable pairs.

    Args:
        covariate: what decides the hazard, of any scale.
        seed: of the times.
        log_hazard: by which a spread (standard deviation) of the covariate raises the log hazard.
        censored: expected share of patients without an event.

    Raises:
        SettingsError: a constant covariate, or a share that is not between 0 and 1.
    """
    if not 0.0 <= censored < 1.0:
        raise SettingsError(f"the censored share is from 0 to below 1; got {censored}")
    spread = covariate.std() if len(covariate) else 0.0
    if spread == 0:
        raise SettingsError("survival times need a covariate with two values or more")
    truth = log_hazard * (covariate - covariate.mean()) / spread
    generator = np.random.default_rng(seed)
    until_event = generator.exponential(size=len(truth)) / np.exp(truth)
    until_end = generator.exponential(size=len(truth))
    until_end = until_end / _rate(truth, censored) if censored else np.full(len(truth), np.inf)
    return SurvivalTimes(
        time=np.minimum(until_event, until_end), event=until_event <= until_end, log_hazard=truth
    )


def _rate(truth: Float64[np.ndarray, " patient"], censored: float) -> float:
    """Rate of censoring at which the expected share is ``censored``.

    Of two exponential times the one of rate c comes first with the chance c / (c + h).
    """

    def excess(log_rate: float) -> float:
        return float((1 / (1 + np.exp(truth - log_rate))).mean()) - censored

    most = float(np.abs(truth).max()) + 20.0
    return float(np.exp(brentq(excess, -most, most)))
