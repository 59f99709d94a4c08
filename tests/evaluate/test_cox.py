"""Cox's partial likelihood against its definition, and coefficients against lifelines."""

import numpy as np
import pandas as pd
import pytest
from jaxtyping import Bool, Float64
from lifelines import CoxPHFitter
from scipy.optimize import minimize

from gigassl.errors import GigasslError
from gigassl.evaluate import cox
from gigassl.evaluate.cox import cox_path, log_likelihood, risk_sets

Values = Float64[np.ndarray, " row"]
Seen = Bool[np.ndarray, " row"]


def cohort(n: int, dim: int, *, ties: bool, seed: int = 0) -> tuple[np.ndarray, Values, Seen]:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, dim))
    time = rng.exponential(np.exp(-rows[:, 0])) + 1e-3
    return rows, np.ceil(time * 4) if ties else time, rng.random(n) < 0.7


def slow_log_likelihood(scores: Values, time: Values, event: Seen) -> float:
    """Efron's formula, time by time and event by event."""
    total = 0.0
    for t in sorted(set(time[event])):
        dead = [i for i in range(len(time)) if time[i] == t and event[i]]
        risk = sum(np.exp(scores[i]) for i in range(len(time)) if time[i] >= t)
        tied = sum(np.exp(scores[i]) for i in dead)
        for rank, i in enumerate(dead):
            total += scores[i] - np.log(risk - rank / len(dead) * tied)
    return float(total)


@pytest.mark.parametrize("ties", [False, True])
def test_likelihood_is_efrons(ties: bool) -> None:
    rows, time, event = cohort(40, 3, ties=ties)
    scores = rows @ np.array([1.0, -2.0, 0.5]) * 3
    found = log_likelihood(scores, risk_sets(time, event))
    assert found == pytest.approx(slow_log_likelihood(scores, time, event), rel=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dim", [3, 50])
def test_ridge_coefficients_minimise_the_slow_formula(ties: bool, dim: int) -> None:
    rows, time, event = cohort(30, dim, ties=ties)
    strengths = (0.5, 5.0)
    found = cox_path(rows, risk_sets(time, event), strengths)
    for strength, coefficients in zip(strengths, found, strict=True):

        def loss(c: np.ndarray, strength: float = strength) -> float:
            return float(strength / 2 * c @ c - slow_log_likelihood(rows @ c, time, event))

        wanted = minimize(loss, np.zeros(dim), tol=1e-10)
        assert loss(coefficients) <= wanted.fun + 1e-8
        np.testing.assert_allclose(coefficients, wanted.x, atol=1e-4)


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
def test_coefficients_are_lifelines(l1_ratio: float) -> None:
    n = 120
    rows, time, event = cohort(n, 5, ties=True)
    rows = (rows - rows.mean(0)) / rows.std(0, ddof=1)  # as lifelines scales inside
    frame = pd.DataFrame({**{f"x{k}": rows[:, k] for k in range(5)}, "t": time, "e": event})
    model = CoxPHFitter(penalizer=0.1, l1_ratio=l1_ratio)
    model.fit(frame, "t", "e", fit_options={"precision": 1e-10})
    found = cox_path(rows, risk_sets(time, event), (0.1 * n,), l1_ratio=l1_ratio)[0]
    # lifelines smooths the absolute value
    np.testing.assert_allclose(found, model.params_.to_numpy(), atol=1e-4 if not l1_ratio else 5e-3)


def test_an_absolute_penalty_leaves_columns_out() -> None:
    rows, time, event = cohort(100, 20, ties=False)
    found = cox_path(rows, risk_sets(time, event), (15.0,), l1_ratio=1.0)[0]
    assert found[0] > 0.2
    assert (found == 0).sum() > 10


def test_equal_units_are_equal_models_whatever_the_order_of_slides() -> None:
    rows, time, event = cohort(60, 4, ties=True)
    order = np.random.default_rng(1).permutation(60)
    first = cox_path(rows, risk_sets(time, event), (1.0,))
    again = cox_path(rows[order], risk_sets(time[order], event[order]), (1.0,))
    np.testing.assert_allclose(first, again, atol=1e-10)


@pytest.mark.parametrize(("steps", "l1_ratio"), [("_NEWTON_STEPS", 0.0), ("_PROXIMAL_STEPS", 0.5)])
def test_what_does_not_converge_is_an_error(
    monkeypatch: pytest.MonkeyPatch, steps: str, l1_ratio: float
) -> None:
    rows, time, event = cohort(40, 3, ties=False)
    monkeypatch.setattr(cox, steps, 1)
    with pytest.raises(GigasslError, match=r"penalty 0\.01 did not converge"):
        cox_path(rows, risk_sets(time, event), (0.01,), l1_ratio=l1_ratio)
