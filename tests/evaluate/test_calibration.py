"""Calibration: against scikit-learn, and what it does to known distortions."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from gigassl.evaluate.calibration import calibration_fit, fit_calibration


def cohort(
    n: int = 4000, *, distortion: float = 1.0, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities whose logits are (true logit - shift) × distortion."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=n) * 1.5
    labels = (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    said = 1 / (1 + np.exp(-(logits - shift) * distortion))
    return labels, np.stack([1 - said, said], axis=1)


def test_it_is_platts_scaling() -> None:
    labels, probabilities = cohort(distortion=3.0, shift=0.5)
    found = fit_calibration(labels, probabilities)
    logits = np.log(probabilities[:, 1] / probabilities[:, 0])
    # Platt's smoothed targets as weighted copies of every row, for an unpenalised regression
    n1, n0 = labels.sum(), (1 - labels).sum()
    target = np.where(labels == 1, (n1 + 1) / (n1 + 2), 1 / (n0 + 2))
    twice, weight = np.tile(logits, 2)[:, None], np.concatenate([target, 1 - target])
    model = LogisticRegression(C=1e10, tol=1e-10, max_iter=10_000)
    model.fit(twice, np.repeat([1, 0], len(logits)), sample_weight=weight)
    assert found.slope == pytest.approx(model.coef_[0, 0], rel=1e-4)
    assert found.offsets[1] == pytest.approx(model.intercept_[0], rel=1e-3)
    assert found.slope == pytest.approx(1 / 3, rel=0.1)
    after = calibration_fit(labels, found.apply(probabilities)[:, 1])
    assert after.slope == pytest.approx(1, abs=0.02)
    assert after.intercept == pytest.approx(0, abs=0.01)


def test_order_and_sums_are_kept_of_several_classes() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 2, 3], size=500)
    labels = np.array([rng.choice(3, p=row) for row in probabilities])
    calibrated = fit_calibration(labels, probabilities).apply(probabilities)
    np.testing.assert_allclose(calibrated.sum(axis=1), 1)
    np.testing.assert_allclose(calibrated, probabilities, atol=0.1)


def test_classes_apart_do_not_become_certain() -> None:
    labels = np.repeat([0, 1], 10)
    said = np.where(labels == 1, 0.9, 0.1)
    found = fit_calibration(labels, np.stack([1 - said, said], axis=1))
    assert found.apply(np.array([[0.1, 0.9]]))[0, 1] == pytest.approx(11 / 12, abs=1e-3)
    assert np.isnan(calibration_fit(labels, said).slope)
    assert np.isnan(calibration_fit(np.ones(5, np.int64), np.full(5, 0.3)).intercept)


@pytest.mark.parametrize(("distortion", "shift"), [(1.0, 0.0), (2.0, 0.0), (1.0, 0.7)])
def test_slope_and_intercept_tell_distortions(distortion: float, shift: float) -> None:
    labels, probabilities = cohort(distortion=distortion, shift=shift)
    found = calibration_fit(labels, probabilities[:, 1])
    assert found.slope == pytest.approx(1 / distortion, rel=0.1)
    if distortion == 1:
        assert found.intercept == pytest.approx(shift, abs=0.1)


def test_no_signal_ends_at_the_share_of_the_class() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(2000) < 0.2).astype(np.int64)
    said = rng.random(2000)
    calibrated = fit_calibration(labels, np.stack([1 - said, said], axis=1)).apply(
        np.array([[0.05, 0.95], [0.95, 0.05]])
    )
    np.testing.assert_allclose(calibrated[:, 1], labels.mean(), atol=0.05)
