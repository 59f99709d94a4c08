"""Kaplan–Meier: how many are without the event as time goes on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy.stats import norm


@dataclass(frozen=True, kw_only=True, eq=False)
class Survival:
    """A step function that begins with 1 at time 0.

    Attributes:
        time: of the steps, rising; 0, then every time at which somebody had the event or left.
        share: without the event from that time on.
        low, high: of the share; NaN where it is 0, 1 at the beginning.
    """

    time: Float64[np.ndarray, " step"]
    share: Float64[np.ndarray, " step"]
    low: Float64[np.ndarray, " step"]
    high: Float64[np.ndarray, " step"]

    def at(self, time: Float64[np.ndarray, " when"]) -> Float64[np.ndarray, " when"]:
        """The share without the event at some times."""
        found: Float64[np.ndarray, " when"] = self.share[
            np.searchsorted(self.time, time, side="right") - 1
        ]
        return found


def kaplan_meier(
    time: Float64[np.ndarray, " patient"], event: Bool[np.ndarray, " patient"], *,
    alpha: float = 0.05,
) -> Survival:  # fmt: skip
    """The estimate of Kaplan & Meier (1958) with Greenwood's variance on the log-log scale.

    Args:
        time: under observation, above 0.
        event: whether it was seen at that time (False: censored).
        alpha: 1 - alpha is what the interval holds, at each time by itself.
    """
    steps, of = np.unique(time, return_inverse=True)
    died = np.bincount(of, weights=event, minlength=len(steps))
    left = np.bincount(of, minlength=len(steps))
    at_risk = len(time) - np.cumsum(left) + left
    share = np.cumprod(1 - died / at_risk)
    some, none = (share > 0) & (share < 1), share == 1
    low, high = np.where(none, 1.0, np.nan), np.where(none, 1.0, np.nan)
    alive = at_risk > died
    terms = np.divide(died, at_risk * (at_risk - died), out=np.zeros(len(steps)), where=alive)
    logs = np.log(share[some])
    reach = float(norm.isf(alpha / 2)) * np.sqrt(np.cumsum(terms)[some]) / logs
    low[some], high[some] = share[some] ** np.exp(-reach), share[some] ** np.exp(reach)
    begin = np.ones(1)
    return Survival(
        time=np.r_[0.0, steps],
        share=np.r_[begin, share],
        low=np.r_[begin, low],
        high=np.r_[begin, high],
    )
