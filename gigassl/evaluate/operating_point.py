"""Operating point: the threshold that decides between two classes, and how well it does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from gigassl.errors import SettingsError
from gigassl.evaluate.bootstrap import BootstrapSettings, patient_counts, score_interval

_PATIENTS_AT_ONCE = 1_000_000
YOUDEN = "youden"
_WANTED = ("sensitivity", "specificity")


def check_rule(rule: str) -> None:
    """Refuses a rule that is not known.

    Raises:
        SettingsError: neither "youden", nor "sensitivity=0.9", nor "specificity=0.9".
    """
    _wanted(rule)


def threshold_of(
    positive: Bool[np.ndarray, " row"], probability: Float64[np.ndarray, " row"], *, rule: str
) -> float:
    """The threshold that out-of-fold predictions choose; at or above it the class is decided for.

    Args:
        positive: which rows are of the second class.
        probability: of the second class.
        rule: "youden": sensitivity + specificity is highest; "sensitivity=0.95": the highest
            threshold that finds that share; "specificity=0.95": the lowest that keeps it.
    """
    name, wanted = _wanted(rule)
    places = np.unique(probability)
    # halfway between two values, so that rounding elsewhere does not turn a decision
    places = np.concatenate([[places[0]], (places[1:] + places[:-1]) / 2, [np.nextafter(1, 2)]])
    cases, controls = np.sort(probability[positive]), np.sort(probability[~positive])
    sensitivity = 1 - np.searchsorted(cases, places, side="left") / len(cases)
    specificity = np.searchsorted(controls, places, side="left") / len(controls)
    if name == YOUDEN:
        return float(places[np.argmax(sensitivity + specificity)])
    if name == "sensitivity":
        return float(places[np.flatnonzero(sensitivity >= wanted)[-1]])
    return float(places[np.flatnonzero(specificity >= wanted)[0]])


def _wanted(rule: str) -> tuple[str, float]:
    name, equals, text = rule.partition("=")
    try:
        share = float(text) if equals else 0.0
    except ValueError:
        share = -1.0
    if rule == YOUDEN or (name in _WANTED and 0 < share <= 1):
        return name, share
    raise SettingsError(
        f"the rule of the threshold is youden, sensitivity=0.95 or specificity=0.95; got '{rule}'"
    )


@dataclass(frozen=True, kw_only=True)
class Rate:
    """One share at an operating point, with the interval of a bootstrap over patients."""

    name: str
    value: float
    low: float
    high: float
    hits: int
    of: int


def rates(
    positive: Bool[np.ndarray, " row"], decided: Bool[np.ndarray, " row"],
    patients: Sequence[str], *, settings: BootstrapSettings | None = None,
) -> tuple[Rate, ...]:  # fmt: skip
    """Sensitivity, specificity, and the predictive values at this cohort's share of the class.

    Intervals are Wilson's with the variance of a bootstrap of patients, so that 4 of 4 is no
    certainty.
    """
    settings = settings or BootstrapSettings()
    names, owner = np.unique(np.array(patients, dtype=object), return_inverse=True)
    right = positive == decided
    made = []
    for name, rows in (
        ("sensitivity", positive), ("specificity", ~positive),
        ("positive predictive value", decided), ("negative predictive value", ~decided),
    ):  # fmt: skip
        hits = np.bincount(owner[rows & right], minlength=len(names)).astype(float)
        of = np.bincount(owner[rows], minlength=len(names)).astype(float)
        chunk = max(1, _PATIENTS_AT_ONCE // len(names))
        draws = []
        for counts in patient_counts(len(names), settings=settings, chunk=chunk):
            total = counts @ of
            draws.append(np.divide(counts @ hits, total, where=total > 0,
                                   out=np.full(len(total), np.nan)))  # fmt: skip
        value = float(hits.sum() / of.sum()) if of.sum() else float("nan")
        concerned = int((of > 0).sum())  # patients that have such slides at all
        low, high = score_interval(
            np.concatenate(draws), estimate=value, bounds=(0.0, 1.0), n_patients=concerned,
            perfect=concerned, alpha=settings.alpha,
        )  # fmt: skip
        made.append(
            Rate(name=name, value=value, low=low, high=high, hits=int(hits.sum()), of=int(of.sum()))
        )
    return tuple(made)
