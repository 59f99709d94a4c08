"""Screening: many targets on one matrix of vectors, all on the same folds, solved together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.logistic import LogisticProblems, row_weights, solve_logistic
from gigassl.evaluate.task import Task, rows_of

_TARGETS_AT_ONCE = 32
_DROPPED = 1e12  # penalty of a column that does not vary in training


@dataclass(frozen=True, kw_only=True)
class ScreenSettings:
    """How every target is predicted.

    Attributes:
        folds: of patients, the same for all targets.
        seed: of the folds.
        strength: C of the logistic and 1 / penalty of the ridge probes, of columns brought to
            deviation 1 in training; one for all targets, since choosing it hundreds of times costs
            more than it finds.
        clinical_strength: the same for clinical variables alone.
        min_patients: of each class (of all, for values); smaller targets are left out.

    Raises:
        SettingsError: a value out of range.
    """

    folds: int = 5
    seed: int = 0
    strength: float = 1e-3
    clinical_strength: float = 1.0
    min_patients: int = 10

    def __post_init__(self) -> None:
        if self.folds < 2 or self.min_patients < 2 or self.seed < 0:
            raise SettingsError("a screen needs at least 2 folds and 2 patients a class, seed ≥ 0")
        if min(self.strength, self.clinical_strength) <= 0:
            raise SettingsError("the strengths of a screen must be above zero")


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """Columns that probes read, all slides.

    Attributes:
        slide_ids: one a row.
        rows: the columns.
        strengths: of each column.
    """

    slide_ids: tuple[str, ...]
    rows: Float64[np.ndarray, "slide dim"]
    strengths: Float64[np.ndarray, " dim"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Screened:
    """What a probe said of one target's slides, each by a probe that did not learn from it.

    Attributes:
        number: of the task in the list that was given.
        output: probabilities of the classes, or one column with the value.
    """

    number: int
    output: Float64[np.ndarray, "slide output"]


def screen_tasks(
    inputs: Inputs, tasks: Sequence[Task], fold: Int64[np.ndarray, " slide"]
) -> Iterator[Screened]:
    """Out-of-fold predictions of every task, as they become known, in an order of their own.

    Args:
        inputs: of all slides.
        tasks: classifications and regressions, of some of those slides.
        fold: of each row of the inputs; patients whole.

    Raises:
        SettingsError: the slides of a task outside one fold lack a class.
    """
    places = [rows_of(inputs.slide_ids, task.slide_ids) for task in tasks]
    # targets known of the same slides stand together: what they share is then computed once
    order = sorted(range(len(tasks)), key=lambda k: (_sort_of(tasks[k]), places[k].tobytes()))
    for chunk in _chunks(order, tasks):
        union = np.unique(np.concatenate([places[k] for k in chunk]))
        where = [np.searchsorted(union, places[k]) for k in chunk]
        part = Inputs(
            slide_ids=tuple(inputs.slide_ids[row] for row in union),
            rows=inputs.rows[union],
            strengths=inputs.strengths,
        )
        solve = _classified if tasks[chunk[0]].kind == "classification" else _regressed
        outputs = solve(part, [tasks[k] for k in chunk], where, fold=fold[union])
        for number, output in zip(chunk, outputs, strict=True):
            yield Screened(number=number, output=output)


def _sort_of(task: Task) -> tuple[str, int]:
    return task.kind, len(task.classes)


def _chunks(order: Sequence[int], tasks: Sequence[Task]) -> Iterator[list[int]]:
    """Tasks of one sort at a time; a softmax has as many logits as classes."""
    chunk: list[int] = []
    for number in order:
        most = max(1, _TARGETS_AT_ONCE // max(1, len(tasks[number].classes) // 2))
        if chunk and (_sort_of(tasks[number]) != _sort_of(tasks[chunk[0]]) or len(chunk) >= most):
            yield chunk
            chunk = []
        chunk.append(number)
    if chunk:
        yield chunk


def _classified(
    part: Inputs, tasks: Sequence[Task], where: Sequence[Int64[np.ndarray, " _"]], *,
    fold: Int64[np.ndarray, " row"],
) -> list[Float64[np.ndarray, "_ class"]]:  # fmt: skip
    folds = np.unique(fold)
    labels = np.zeros((len(tasks), len(fold)), dtype=np.int64)
    weights = np.zeros((len(tasks) * len(folds), len(fold)))
    for k, (task, rows) in enumerate(zip(tasks, where, strict=True)):
        labels[k, rows] = task.labels
        for f, number in enumerate(folds):
            train = rows[fold[rows] != number]
            if len(np.unique(labels[k, train])) < len(task.classes):
                raise SettingsError(f"task '{task.name}': outside fold {number} a class is missing")
            weights[k * len(folds) + f] = row_weights(labels[k], train, balanced=True)
    problem = np.arange(len(weights))
    fits = solve_logistic(
        part.rows,
        LogisticProblems(
            n_classes=len(tasks[0].classes),
            labels=labels,
            weights=weights,
            penalties=_penalties(part, weights > 0),
            label_of=problem // len(folds),
            weight_of=problem,
            penalty_of=problem,
            strengths=np.ones(len(problem)),
        ),
    )
    outputs = []
    for k, (task, rows) in enumerate(zip(tasks, where, strict=True)):
        output = np.empty((len(rows), len(task.classes)))
        for f, number in enumerate(folds):
            held = fold[rows] == number
            output[held] = fits.probabilities(part.rows[rows[held]], k * len(folds) + f)
        outputs.append(output)
    return outputs


def _regressed(
    part: Inputs, tasks: Sequence[Task], where: Sequence[Int64[np.ndarray, " _"]], *,
    fold: Int64[np.ndarray, " row"],
) -> list[Float64[np.ndarray, "_ 1"]]:  # fmt: skip
    """Ridge regressions; tasks of the same slides share one factorisation a fold."""
    outputs = [np.empty((len(rows), 1)) for rows in where]
    groups: dict[bytes, list[int]] = {}
    for k, rows in enumerate(where):
        groups.setdefault(rows.tobytes(), []).append(k)
    for members in groups.values():
        rows = where[members[0]]
        target = np.stack([tasks[k].target for k in members], axis=1)
        for number in np.unique(fold[rows]):
            held = fold[rows] == number
            said = _ridge(part, rows[~held], rows[held], target=target[~held])
            for column, k in enumerate(members):
                outputs[k][held, 0] = said[:, column]
    return outputs


def _ridge(
    part: Inputs, train: Int64[np.ndarray, " train"], test: Int64[np.ndarray, " test"], *,
    target: Float64[np.ndarray, "train task"],
) -> Float64[np.ndarray, "test task"]:  # fmt: skip
    learned = np.zeros((1, len(part.rows)), dtype=bool)
    learned[0, train] = True
    rows, middle = part.rows[train], target.mean(axis=0)
    centre = rows.mean(axis=0)
    # the same penalty whatever the unit of the target
    inner = (rows - centre).T @ (rows - centre) + np.diag(_penalties(part, learned)[0])
    coefficients = np.linalg.solve(inner, (rows - centre).T @ (target - middle))
    return np.asarray((part.rows[test] - centre) @ coefficients + middle)


def _penalties(
    part: Inputs, learned: Bool[np.ndarray, "set row"]
) -> Float64[np.ndarray, "set dim"]:
    """Of each column in each training set: its variance there over its strength."""
    count = learned.sum(axis=1, keepdims=True)
    centred = part.rows - part.rows.mean(axis=0)
    mean = learned @ centred / count
    variance = learned @ np.square(centred) / count - np.square(mean)
    varies = variance > 1e-12 * (np.square(part.rows).mean(axis=0) + 1e-12)
    return np.where(varies, variance / part.strengths, _DROPPED)
