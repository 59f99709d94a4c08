"""Logistic regressions that share their rows, solved together: labels, folds, penalties, C."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from gigassl.errors import GigasslError, SettingsError
from gigassl.evaluate.batched_lbfgs import minimise

_TOLERANCE = 1e-6
_EVALUATIONS = 2000
_ENTRIES_AT_ONCE = 1 << 23  # problems × classes × rows: what bounds the memory


@dataclass(frozen=True, kw_only=True, eq=False)
class LogisticProblems:
    """Which logistic regressions to solve.

    Each minimises ½ · Σ penalty · coefficient² + strength · Σ weight · loss, without penalty on the
    intercepts, as scikit-learn does.

    Attributes:
        n_classes: 2 (one logit), or more (one a class; softmax).
        labels: class numbers, one row a labelling.
        weights: of the rows, 0 for those not learned from; one row a training set.
        penalties: of the coefficients' squares; one row a scaling of the columns (a column divided
            by its deviation is a column whose penalty is the variance); infinite: left out.
        label_of, weight_of, penalty_of: rows of those tables, one a problem.
        strengths: C, one a problem.

    Raises:
        SettingsError: a training set of one class, or C that is not positive.
    """

    n_classes: int
    labels: Int64[np.ndarray, "labelling row"]
    weights: Float64[np.ndarray, "set row"]
    penalties: Float64[np.ndarray, "scaling dim"]
    label_of: Int64[np.ndarray, " problem"]
    weight_of: Int64[np.ndarray, " problem"]
    penalty_of: Int64[np.ndarray, " problem"]
    strengths: Float64[np.ndarray, " problem"]

    def __post_init__(self) -> None:
        if not (self.strengths > 0).all():
            raise SettingsError("the strength C of a logistic regression must be above zero")
        for label, weight in {*zip(self.label_of.tolist(), self.weight_of.tolist(), strict=True)}:
            if len(np.unique(self.labels[label, self.weights[weight] > 0])) < 2:
                raise SettingsError(
                    "a logistic regression has training slides of one class only; "
                    "take fewer folds or more training slides"
                )

    def __len__(self) -> int:
        return len(self.strengths)


@dataclass(frozen=True, kw_only=True, eq=False)
class LogisticFits:
    """Solved logistic regressions.

    Attributes:
        coefficients: one output (two classes), or one a class.
        intercepts: likewise; minus infinity for a class without training rows.
        error: of each problem: a bound on its logits' error, in the units of the logits' own
            uncertainty (root of gradient · inverse second derivative · gradient).
    """

    coefficients: Float64[np.ndarray, "problem output dim"]
    intercepts: Float64[np.ndarray, "problem output"]
    error: Float64[np.ndarray, " problem"]

    def probabilities(
        self, rows: Float[np.ndarray, "query dim"], problem: int
    ) -> Float64[np.ndarray, "query class"]:
        """What one of them says of rows."""
        logits = rows.astype(np.float64) @ self.coefficients[problem].T + self.intercepts[problem]
        return class_probabilities(logits)


def class_probabilities(
    logits: Float64[np.ndarray, "query output"],
) -> Float64[np.ndarray, "query class"]:
    """Probabilities of the classes: of one logit by the sigmoid, of several by softmax."""
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Float64[np.ndarray, "query class"] = odds / odds.sum(axis=1, keepdims=True)
    return shares


def row_weights(
    labels: Int64[np.ndarray, " row"], train: Int64[np.ndarray, " train"], *, balanced: bool
) -> Float64[np.ndarray, " row"]:
    """Weight of each row: 1 in training, or so that each class present weighs the same."""
    weights = np.zeros(len(labels))
    classes, inverse, counts = np.unique(labels[train], return_inverse=True, return_counts=True)
    share = len(train) / (len(classes) * counts) if balanced else np.ones(len(classes))
    weights[train] = share[inverse]
    return weights


def solve_logistic(rows: Float[np.ndarray, "row dim"], problems: LogisticProblems) -> LogisticFits:
    """The minima of all problems, as scikit-learn's ``LogisticRegression`` finds when it converges.

    Raises:
        GigasslError: one did not converge.
    """
    outputs = 1 if problems.n_classes == 2 else problems.n_classes
    per_problem = outputs * len(rows)
    size = max(1, _ENTRIES_AT_ONCE // per_problem)
    found = [
        _solve(rows, problems, np.arange(first, min(first + size, len(problems))))
        for first in range(0, len(problems), size)
    ]
    return LogisticFits(
        coefficients=np.concatenate([f.coefficients for f in found]),
        intercepts=np.concatenate([f.intercepts for f in found]),
        error=np.concatenate([f.error for f in found]),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    """Tensors of some problems; ``dim`` counts a last column of ones, for the intercept."""

    rows: Float[Tensor, "row dim"]
    targets: Float[Tensor, "problem output row"]
    weights: Float[Tensor, "problem 1 row"]
    penalty: Float[Tensor, "problem 1 dim"]
    free: Float[Tensor, "problem 1 dim"]
    absent: Float[Tensor, "problem output 1"]

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*self.targets.shape[:2], self.rows.shape[1])

    def probabilities(
        self, points: Float[Tensor, "some variable"], index: Int64[Tensor, " some"]
    ) -> Float[Tensor, "some output row"]:
        _, outputs, dim = self.shape
        logits = (points.reshape(-1, dim) @ self.rows.T).reshape(len(points), outputs, -1)
        if outputs == 1:
            return logits.sigmoid_()
        return (logits + self.absent[index]).softmax(dim=1)

    def gradient(
        self, points: Float[Tensor, "some variable"], index: Int64[Tensor, " some"]
    ) -> Float[Tensor, "some variable"]:
        _, outputs, dim = self.shape
        miss = self.probabilities(points, index).sub_(self.targets[index]).mul_(self.weights[index])
        slope = (miss.reshape(-1, miss.shape[2]) @ self.rows).reshape(-1, outputs, dim)
        slope += self.penalty[index] * points.reshape(-1, outputs, dim)
        slope *= self.free[index]
        return slope.reshape(points.shape)


def _batch(
    rows: Float[np.ndarray, "row dim"], problems: LogisticProblems,
    index: Int64[np.ndarray, " problem"],
) -> _Batch:  # fmt: skip
    labels = problems.labels[problems.label_of[index]]
    weights = problems.weights[problems.weight_of[index]] * problems.strengths[index, None]
    classes = (
        np.arange(problems.n_classes)[1:]
        if problems.n_classes == 2
        else np.arange(problems.n_classes)
    )
    targets = labels[:, None, :] == classes[None, :, None]
    absent = ~(targets & (weights[:, None] > 0)).any(axis=2, keepdims=True)
    penalty = np.pad(problems.penalties[problems.penalty_of[index]], ((0, 0), (0, 1)))
    free = np.isfinite(penalty)
    return _Batch(
        rows=torch.from_numpy(np.pad(rows.astype(np.float64), ((0, 0), (0, 1)), constant_values=1)),
        targets=torch.from_numpy(targets.astype(np.float64)),
        weights=torch.from_numpy(weights[:, None]),
        penalty=torch.from_numpy(np.where(free, penalty, 1.0)[:, None]),
        free=torch.from_numpy(free[:, None].astype(np.float64)),
        absent=torch.from_numpy(np.where(absent & (problems.n_classes > 2), -np.inf, 0.0)),
    )


def _solve(
    rows: Float[np.ndarray, "row dim"], problems: LogisticProblems,
    index: Int64[np.ndarray, " problem"],
) -> LogisticFits:  # fmt: skip
    batch = _batch(rows, problems, index)
    count, outputs, dim = batch.shape
    group, inverses = _first_inverses(batch, problems.strengths[index])

    def inverse(slopes: Tensor, some: Tensor) -> Tensor:
        moved = _applied(inverses, group[some], slopes).reshape(-1, outputs, dim)
        return (moved * batch.free[some]).reshape(slopes.shape)

    start = torch.zeros(count, outputs * dim, dtype=torch.float64)
    end = minimise(
        batch.gradient, start, inverse=inverse, tolerance=_TOLERANCE, evaluations=_EVALUATIONS
    )
    if not bool((end.error <= _TOLERANCE).all()):
        raise GigasslError(
            f"{int((end.error > _TOLERANCE).sum())} of {count} logistic regressions did not "
            f"converge in {end.evaluations} steps; choose a smaller C, or scale the vectors"
        )
    points = end.points.reshape(count, outputs, dim).numpy()
    return LogisticFits(
        coefficients=points[:, :, :-1],
        intercepts=points[:, :, -1] + batch.absent[:, :, 0].numpy(),
        error=end.error.numpy(),
    )


def _first_inverses(
    batch: _Batch, strengths: Float64[np.ndarray, " problem"]
) -> tuple[Int64[Tensor, " problem"], Float[Tensor, "group dim dim"]]:
    """Inverse second derivatives at zero, one for problems of like weight, and each one's group."""
    weight = batch.weights.sum(dim=(1, 2))
    level = weight.log2().round()
    levels, group = level.unique(return_inverse=True)
    share = 0.25 if batch.shape[1] == 1 else (batch.shape[1] - 1) / batch.shape[1] ** 2
    made = []
    for number in range(len(levels)):
        members = group == number
        curvature = batch.weights[members].mean(dim=(0, 1)) * share
        made.append(_inverse(batch.rows, curvature, batch.penalty[members].mean(dim=(0, 1))))
    return group, torch.stack(made)


def _inverse(
    rows: Float[Tensor, "row dim"], curvature: Float[Tensor, " row"],
    penalty: Float[Tensor, " dim"],
) -> Float[Tensor, "dim dim"]:  # fmt: skip
    second = (rows * curvature[:, None]).T @ rows
    second.diagonal().add_(penalty)
    return torch.cholesky_inverse(torch.linalg.cholesky(second))


def _applied(
    inverses: Float[Tensor, "group dim dim"], group: Int64[Tensor, " some"],
    slopes: Float[Tensor, "some variable"],
) -> Float[Tensor, "some variable"]:  # fmt: skip
    dim = inverses.shape[1]
    out = torch.empty_like(slopes)
    for number in group.unique().tolist():
        members = group == number
        part = slopes[members].reshape(-1, dim) @ inverses[number]
        out[members] = part.reshape(-1, slopes.shape[1])
    return out
