"""Logistic regressions that share their rows, solved together: labels, folds, penalties, C."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from gigassl.errors import GigasslError, SettingsError
from gigassl.evaluate.batched_lbfgs import minimise
from gigassl.evaluate.logistic_batch import Batch, Inverses
from gigassl.evaluate.narrow import narrowed
from gigassl.vectors.matmul import fast_matmul

_TOLERANCE = 1e-6
_ROUGH = 1.5e-3  # where float32 ends and float64 takes over
# gradients before second derivatives are looked at anew
_ROUGH_ROUNDS, _ROUNDS = (10, *(15,) * 5), (15,) * 60
_FAR = 1.0  # an error from which on a problem is worth second derivatives of its own
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

    def some(self, index: Int64[np.ndarray, " some"]) -> "LogisticProblems":
        """Some of them."""
        return replace(
            self, label_of=self.label_of[index], weight_of=self.weight_of[index],
            penalty_of=self.penalty_of[index], strengths=self.strengths[index],
        )  # fmt: skip


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


def solve_logistic(
    rows: Float[np.ndarray, "row dim"], problems: LogisticProblems, *,
    tolerance: float = _TOLERANCE,
) -> LogisticFits:  # fmt: skip
    """The minima of all problems, as scikit-learn's ``LogisticRegression`` finds when it converges.

    All problems go down together, by L-BFGS whose first guess of the second derivative is that of
    problems that are alike, in float32 as far as that is exact and then in float64. Rows wider than
    they are many are first rotated into the space that they span.

    Args:
        rows: what all problems share.
        problems: what is solved.
        tolerance: of each problem's ``error``; probabilities err by a few times as much.

    Raises:
        GigasslError: one did not converge.
    """
    if rows.shape[1] > len(rows):
        return _solve_wide(rows, problems, tolerance=tolerance)
    parts = _pieces(problems, n_rows=len(rows))
    return _in_order(
        parts, [_solve(rows, problems.some(part), tolerance=tolerance) for part in parts]
    )


def _pieces(problems: LogisticProblems, *, n_rows: int) -> list[Int64[np.ndarray, " _"]]:
    """Problems to be solved at once: with training sets of like size, and not too many."""
    outputs = 1 if problems.n_classes == 2 else problems.n_classes
    most = max(1, _ENTRIES_AT_ONCE // (outputs * n_rows))
    level = np.log2((problems.weights > 0).sum(axis=1))[problems.weight_of].round()
    same = [np.flatnonzero(level == each) for each in np.unique(level)]
    return [part for found in same for part in np.split(found, range(most, len(found), most))]


def _in_order(
    places: Sequence[Int64[np.ndarray, " _"]], parts: Sequence[LogisticFits]
) -> LogisticFits:
    """Fits of parts of the problems, in the order of all problems."""
    back = np.argsort(np.concatenate(places))
    return LogisticFits(
        coefficients=np.concatenate([part.coefficients for part in parts])[back],
        intercepts=np.concatenate([part.intercepts for part in parts])[back],
        error=np.concatenate([part.error for part in parts])[back],
    )


def _solve_wide(
    rows: Float[np.ndarray, "row dim"], problems: LogisticProblems, *, tolerance: float
) -> LogisticFits:
    """Problems of one scaling at a time: the space that rows span depends on it."""
    places = [np.flatnonzero(problems.penalty_of == k) for k in np.unique(problems.penalty_of)]
    parts = []
    for place in places:
        penalty = problems.penalties[problems.penalty_of[place[0]]]
        factors = penalty**-0.5  # 0 for columns that are left out
        narrow = narrowed(rows.astype(np.float64) * factors)
        axes = narrow.rows.shape[1]
        part = replace(
            problems.some(place), penalties=np.ones((1, axes)), penalty_of=np.zeros_like(place)
        )
        fits = solve_logistic(narrow.rows, part, tolerance=tolerance)
        wide = narrow.widened(fits.coefficients.reshape(-1, axes)) * factors
        shape = (*fits.intercepts.shape, rows.shape[1])
        parts.append(replace(fits, coefficients=wide.reshape(shape)))
    return _in_order(places, parts)


def _batch(rows: Float[np.ndarray, "row dim"], problems: LogisticProblems) -> Batch:
    labels = problems.labels[problems.label_of]
    weights = problems.weights[problems.weight_of] * problems.strengths[:, None]
    # of two classes, the logit is that of the second
    classes = np.arange(problems.n_classes)[1 if problems.n_classes == 2 else 0 :]
    targets = labels[:, None, :] == classes[None, :, None]
    absent = ~(targets & (weights[:, None] > 0)).any(axis=2, keepdims=True)
    penalty = np.pad(problems.penalties[problems.penalty_of], ((0, 0), (0, 1)))
    free = np.isfinite(penalty)
    ones = np.pad(rows.astype(np.float64), ((0, 0), (0, 1)), constant_values=1)
    return Batch(
        rows=torch.from_numpy(ones),
        targets=torch.from_numpy(targets.astype(np.float64)),
        weights=torch.from_numpy(weights[:, None]),
        penalty=torch.from_numpy(np.where(free, penalty, 1.0)[:, None]),
        free=torch.from_numpy(free[:, None].astype(np.float64)),
        absent=torch.from_numpy(np.where(absent & (problems.n_classes > 2), -np.inf, 0.0)),
        label=torch.from_numpy(problems.label_of),
    )


def _solve(
    rows: Float[np.ndarray, "row dim"], problems: LogisticProblems, *, tolerance: float
) -> LogisticFits:
    used = (problems.weights[np.unique(problems.weight_of)] > 0).any(axis=0)
    learned = rows[used].astype(np.float64)
    # columns of like size about zero, whatever the units: the penalties carry the change
    centre, scale = learned.mean(axis=0), learned.std(axis=0)
    scale = np.where(scale > 1e-12 * (np.abs(centre) + 1e-12), scale, 1.0)
    batch = _batch(
        (learned - centre) / scale,
        replace(
            problems, labels=problems.labels[:, used], weights=problems.weights[:, used],
            penalties=problems.penalties / scale**2,
        ),
    )  # fmt: skip
    points, error = _minima(batch, tolerance=tolerance)
    coefficients = points[:, :, :-1] / scale
    intercepts = points[:, :, -1] - coefficients @ centre
    return LogisticFits(
        coefficients=coefficients,
        intercepts=intercepts + batch.absent[:, :, 0].numpy(),
        error=error,
    )


def _minima(
    batch: Batch, *, tolerance: float
) -> tuple[Float64[np.ndarray, "problem output dim"], Float64[np.ndarray, " problem"]]:
    rounded = batch.rounded()
    start = torch.zeros(batch.count, batch.outputs * batch.dim, dtype=torch.float64)
    with fast_matmul("cpu"):
        search = _Search(rounded=rounded, points=start, inverses=rounded.inverses())
        search.go_on(rounded, rounds=_ROUGH_ROUNDS, tolerance=_ROUGH)
        error = search.go_on(batch, rounds=_ROUNDS, tolerance=tolerance)
    late = int((error > tolerance).sum())
    if late:
        raise GigasslError(
            f"{late} of {batch.count} logistic regressions did not converge in {sum(_ROUNDS)} "
            "steps; choose a smaller C, or scale the vectors"
        )
    return search.points.reshape(batch.count, batch.outputs, batch.dim).numpy(), error.numpy()


@dataclass(kw_only=True, eq=False)
class _Search:
    """Points on their way to the minima, and inverse second derivatives near them."""

    rounded: Batch
    points: Float64[Tensor, "problem variable"]
    inverses: Inverses

    def go_on(
        self, batch: Batch, *, rounds: Sequence[int], tolerance: float
    ) -> Float64[Tensor, " problem"]:
        """Rounds in the batch's precision, after each of which derivatives are looked at anew."""
        left = torch.arange(batch.count)
        error = torch.full((batch.count,), torch.inf, dtype=torch.float64)
        for number, evaluations in enumerate(rounds):
            part, near = batch.some(left), self.inverses.some(left)
            end = minimise(
                part.gradient, self.points[left].to(batch.rows.dtype), inverse=near.applied,
                tolerance=tolerance, evaluations=evaluations,
            )  # fmt: skip
            self.points[left], error[left] = end.points.double(), end.error.double()
            left = left[error[left] > tolerance]
            # early on one's own derivatives do not last
            alone = (error[left] > _FAR) & (number > 0) | (number > 2)
            self._renew(left[alone], each=True)
            self._renew(left[~alone], each=False)
            if not len(left):
                break
        return error

    def _renew(self, index: Int64[Tensor, " some"], *, each: bool) -> None:
        if len(index):
            near = self.rounded.some(index).inverses(self.points[index].float(), each=each)
            self.inverses = self.inverses.renewed(index, near)
