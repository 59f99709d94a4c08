"""Batched logistic regressions against scikit-learn, converged, one at a time."""

import numpy as np
import pytest
from jaxtyping import Float64, Int64
from sklearn.linear_model import LogisticRegression

from gigassl.errors import GigasslError, SettingsError
from gigassl.evaluate import logistic, logistic_batch
from gigassl.evaluate.logistic import LogisticProblems, row_weights, solve_logistic

Rows = Float64[np.ndarray, "row dim"]
Labels = Int64[np.ndarray, " row"]


def rows_of(n: int, dim: int, *, scaling: str, seed: int = 0) -> Rows:
    """Vectors with a decaying spectrum: of length 1, or with columns of deviation 1."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    rows = rng.standard_normal((n, dim)) * (1 + np.arange(dim)) ** -0.7 @ axes + 0.1
    if scaling == "standard":
        return np.asarray((rows - rows.mean(axis=0)) / rows.std(axis=0))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def labels_of(rows: Rows, *, count: int, signal: float, seed: int = 0) -> Labels:
    rng = np.random.default_rng(seed)
    score = rows @ rng.standard_normal(rows.shape[1])
    score = signal * score / score.std() + rng.logistic(size=len(rows))
    edges = np.quantile(score, np.array([0.7, 0.85])[: count - 1])  # classes of unlike sizes
    return np.asarray(np.searchsorted(edges, score), dtype=np.int64)


def folds_of(
    rows: Rows, labels: Labels, strengths: list[float], *, folds: int, balanced: bool
) -> LogisticProblems:
    number = np.random.default_rng(3).permutation(len(labels)) % folds
    sets = [row_weights(labels, np.flatnonzero(number != k), balanced=balanced)
            for k in range(folds)]  # fmt: skip
    weight_of = np.repeat(np.arange(folds), len(strengths))
    return LogisticProblems(
        n_classes=int(labels.max()) + 1,
        labels=labels[None],
        weights=np.stack(sets),
        penalties=np.ones((1, rows.shape[1])),
        label_of=np.zeros_like(weight_of),
        weight_of=weight_of,
        penalty_of=np.zeros_like(weight_of),
        strengths=np.tile(np.array(strengths), folds),
    )


def alone(rows: Rows, problems: LogisticProblems, number: int) -> LogisticRegression:
    """scikit-learn on one of the problems: the slow and obvious version."""
    weights = problems.weights[problems.weight_of[number]]
    learned = weights > 0
    labels = problems.labels[problems.label_of[number]]
    model = LogisticRegression(
        C=problems.strengths[number], tol=1e-9, max_iter=50_000, solver="newton-cholesky",
    )  # fmt: skip
    return model.fit(rows[learned], labels[learned], sample_weight=weights[learned])


def worst(rows: Rows, problems: LogisticProblems) -> float:
    fits = solve_logistic(rows, problems)
    return max(
        float(np.abs(alone(rows, problems, k).predict_proba(rows) - said).max())
        for k in range(len(problems))
        for said in [fits.probabilities(rows, k)]
    )


@pytest.mark.parametrize("scaling", ["unit", "standard"])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(("n", "dim"), [(50, 64), (50, 16), (150, 48)])
def test_probabilities_are_scikit_learns(scaling: str, count: int, n: int, dim: int) -> None:
    rows = rows_of(n, dim, scaling=scaling)
    labels = labels_of(rows, count=count, signal=2)
    strengths = [1e-4, 1.0, 10.0, 100.0]
    assert worst(rows, folds_of(rows, labels, strengths, folds=3, balanced=True)) < 1e-4


def test_without_class_weights() -> None:
    rows = rows_of(120, 20, scaling="unit")
    labels = labels_of(rows, count=2, signal=1)
    assert worst(rows, folds_of(rows, labels, [0.1, 10.0], folds=2, balanced=False)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("scaling", ["unit", "standard"])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("n", [50, 100, 940])
def test_probabilities_at_the_sizes_of_the_published_tasks(
    scaling: str, count: int, n: int
) -> None:
    rows = rows_of(n, 512, scaling=scaling)
    labels = labels_of(rows, count=count, signal=3)
    strengths = [1e-4, 10.0, 100.0] if count == 2 else [10.0]
    assert worst(rows, folds_of(rows, labels, strengths, folds=3, balanced=True)) < 1e-4


def test_penalties_stand_for_scaled_columns_and_infinite_ones_for_none() -> None:
    rows = rows_of(80, 10, scaling="unit")
    labels = labels_of(rows, count=2, signal=2)
    scale = np.linspace(0.5, 3, 10)
    scale[4] = np.inf
    problems = folds_of(rows, labels, [5.0], folds=2, balanced=True)
    weighted = LogisticProblems(**{**vars(problems), "penalties": scale[None] ** 2})
    found = solve_logistic(rows, weighted)
    assert (found.coefficients[:, :, 4] == 0).all()
    for k in range(2):
        wanted = alone(rows / scale, problems, k).predict_proba(rows / scale)
        np.testing.assert_allclose(found.probabilities(rows, k), wanted, atol=1e-5)


@pytest.mark.parametrize("dim", [10, 100])
def test_columns_of_other_units_and_far_from_zero_change_nothing(dim: int) -> None:
    rows = rows_of(80, dim, scaling="unit")
    labels = labels_of(rows, count=2, signal=2)
    problems = folds_of(rows, labels, [1.0], folds=2, balanced=True)
    units = 10.0 ** np.linspace(-3, 3, dim)
    moved = LogisticProblems(**{**vars(problems), "penalties": units[None] ** 2})
    left, right = solve_logistic(rows, problems), solve_logistic(rows * units + 5 * units, moved)
    for k in range(2):
        np.testing.assert_allclose(
            left.probabilities(rows, k), right.probabilities(rows * units + 5 * units, k),
            atol=1e-5,
        )  # fmt: skip


def test_many_problems_are_solved_in_batches_of_bounded_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = rows_of(60, 8, scaling="unit")
    labels = labels_of(rows, count=3, signal=2)
    problems = folds_of(rows, labels, [0.1, 1.0, 10.0], folds=3, balanced=True)
    together = solve_logistic(rows, problems)
    monkeypatch.setattr(logistic, "_ENTRIES_AT_ONCE", 400)
    apart = solve_logistic(rows, problems)
    np.testing.assert_allclose(together.coefficients, apart.coefficients, atol=1e-4)


def test_very_many_classes_share_one_second_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(120, 20, scaling="standard")
    labels = labels_of(rows, count=3, signal=2)
    problems = folds_of(rows, labels, [0.01, 1.0], folds=2, balanced=True)
    together = solve_logistic(rows, problems)
    monkeypatch.setattr(logistic_batch, "_WIDEST", 40)
    alike = solve_logistic(rows, problems)
    np.testing.assert_allclose(together.coefficients, alike.coefficients, atol=1e-4)


def test_a_class_that_was_never_learned_has_no_probability() -> None:
    rows = rows_of(60, 8, scaling="unit")
    labels = labels_of(rows, count=3, signal=2)
    problems = folds_of(rows, labels, [1.0], folds=2, balanced=True)
    without = problems.weights * (labels != 1)
    fits = solve_logistic(rows, LogisticProblems(**{**vars(problems), "weights": without}))
    said = fits.probabilities(rows, 0)
    assert (said[:, 1] == 0).all()
    np.testing.assert_allclose(said.sum(axis=1), 1)


def test_what_does_not_converge_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(60, 8, scaling="unit")
    labels = labels_of(rows, count=2, signal=2)
    problems = folds_of(rows, labels, [100.0], folds=2, balanced=True)
    monkeypatch.setattr(logistic, "_ROUGH_ROUNDS", (1,))
    monkeypatch.setattr(logistic, "_ROUNDS", (1,))
    with pytest.raises(GigasslError, match="2 of 2 logistic regressions did not converge"):
        solve_logistic(rows, problems)


def test_one_class_and_no_strength_are_refused() -> None:
    rows = rows_of(60, 8, scaling="unit")
    labels = labels_of(rows, count=2, signal=2)
    problems = folds_of(rows, labels, [1.0], folds=2, balanced=True)
    with pytest.raises(SettingsError, match="above zero"):
        LogisticProblems(**{**vars(problems), "strengths": np.zeros(2)})
    with pytest.raises(SettingsError, match="one class only"):
        LogisticProblems(**{**vars(problems), "weights": problems.weights * (labels == 1)})
