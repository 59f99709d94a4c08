"""Kaplan–Meier: against lifelines, with ties, all censored, and nobody left."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter

from gigassl.evaluate.kaplan_meier import kaplan_meier


@given(
    patients=st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=25),
    alpha=st.sampled_from([0.05, 0.2]),
)
def test_it_is_lifelines(patients: list[tuple[int, bool]], alpha: float) -> None:
    time = np.array([each[0] for each in patients], dtype=np.float64)
    event = np.array([each[1] for each in patients], dtype=bool)
    found = kaplan_meier(time, event, alpha=alpha)
    fitter = KaplanMeierFitter(alpha=alpha).fit(time, event)
    assert found.share == pytest.approx(fitter.survival_function_at_times(found.time).to_numpy())
    bounds = fitter.confidence_interval_survival_function_.to_numpy()
    inner = (found.share > 0) & (found.share < 1)
    assert np.stack([found.low, found.high], axis=1)[inner] == pytest.approx(bounds[inner])
    assert np.isnan(found.low[found.share == 0]).all()
    assert (found.low[found.share == 1] == 1).all()


def test_the_share_between_steps_is_that_of_the_step_before() -> None:
    found = kaplan_meier(np.array([1.0, 2.0, 4.0]), np.array([True, False, True]))
    assert found.at(np.array([0.0, 0.5, 1.0, 3.9, 4.0])) == pytest.approx([1, 1, 2 / 3, 2 / 3, 0])
