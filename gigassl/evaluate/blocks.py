"""Blocks: what several methods said of the very same test slides, lined up row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.alignment import facts, on_the_same_slides, once_each, parts_of, title
from gigassl.evaluate.outcome import Outcome
from gigassl.evaluate.predictions import Predictions
from gigassl.evaluate.task import Kind


@dataclass(frozen=True, kw_only=True, eq=False)
class Said:
    """What one method said of a block's rows.

    Attributes:
        method: its name.
        control: "" for a method, else which control it is.
        control_of: the method it controls, where it belongs to a single one.
        output: probabilities of the classes, or the value, or the risk.
        seen: share of the test slides that its encoders were pretrained on; None: not known.
    """

    method: str
    control: str
    control_of: str
    output: Float64[np.ndarray, "row output"]
    seen: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """One task at one training size on one set of splits, with all methods that were run on it.

    Attributes:
        task, kind, split, train_size, level: as in the tables of predictions.
        classes: of the task; the second one of two is what AUC and average precision are of.
        slide_ids: of the rows.
        patients: number of each row's patient, from 0.
        folds: number of each row's fold, from 0, over all draws.
        draws: number of each row's draw, from 0.
        fold_names: draw and fold of each, as the tables of predictions number them.
        test_sets: of each fold, the number of its set of test slides: draws of training slides for
            one test set share it.
        n_train: slides of each fold that were learned from; NaN where not known.
        outcome: what was true.
        methods: what was said.
    """

    task: str
    kind: Kind
    split: str
    train_size: str
    level: str
    classes: tuple[str, ...]
    slide_ids: tuple[str, ...]
    patients: Int64[np.ndarray, " row"]
    folds: Int64[np.ndarray, " row"]
    draws: Int64[np.ndarray, " row"]
    fold_names: tuple[tuple[int, int], ...]
    test_sets: Int64[np.ndarray, " fold"]
    n_train: Float64[np.ndarray, " fold"]
    outcome: Outcome
    methods: tuple[Said, ...]

    @property
    def n_patients(self) -> int:
        """Patients tested in at least one fold."""
        return int(self.patients.max()) + 1

    @property
    def n_folds(self) -> int:
        """Folds over all draws."""
        return len(self.test_sets)

    @property
    def n_slides(self) -> int:
        """Slides tested in at least one fold."""
        return len(set(self.slide_ids))

    @property
    def one_row_a_patient(self) -> bool:
        """Whether there is one test set in which every patient has one row."""
        return self.n_folds == 1 and self.n_patients == len(self.patients)

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.task}, {self.split}, train size {self.train_size}, level {self.level}"


def make_blocks(predictions: Sequence[Predictions]) -> tuple[Block, ...]:
    """Lines up all methods that were tested on the same slides in the same folds.

    Blocks stand in the order in which tasks, splits and training sizes are first met.

    Raises:
        SettingsError: nothing given; tables of different kinds of task; a method that is there
            twice with different predictions; methods on one task and kind of split whose test
            slides differ; labels or patients that differ.
    """
    kinds = {table.kind for table in predictions}
    if len(kinds) != 1:
        raise SettingsError(
            f"one comparison is of one kind of task; got {', '.join(sorted(kinds)) or 'no tables'}"
        )
    (kind,) = kinds
    groups: dict[tuple[str, str, str], list[pa.Table]] = {}
    for table in predictions:
        for part in parts_of(table.data):
            groups.setdefault(facts(part, "task", "train_size", "level"), []).append(part)
    return tuple(
        _lined_up(kind, parts)
        for group in groups.values()
        for parts in on_the_same_slides(once_each(group))
    )


def _lined_up(kind: Kind, parts: Sequence[pa.Table]) -> Block:
    first = parts[0]
    for part in parts[1:]:
        _refuse_other_truth(kind, first, part)
    classes = _classes(parts) if kind == "classification" else ()
    pairs = list(zip(first["draw"].to_pylist(), first["fold"].to_pylist(), strict=True))
    draws, folds = _numbers([pair[0] for pair in pairs]), _numbers(pairs)
    slides = tuple(first["slide_id"].to_pylist())
    tested = [tuple(slides[i] for i in np.flatnonzero(folds == f)) for f in range(max(folds) + 1)]
    task, split, train_size, level = facts(first, "task", "split", "train_size", "level")
    return Block(
        task=task,
        kind=kind,
        split=split,
        train_size=train_size,
        level=level,
        classes=classes,
        slide_ids=slides,
        patients=_numbers(first["patient_id"].to_pylist()),
        folds=folds,
        draws=draws,
        fold_names=tuple(dict.fromkeys(pairs)),
        test_sets=_numbers(tested),
        n_train=_n_train(parts, folds),
        outcome=_outcome(kind, first, classes),
        methods=tuple(_said(kind, part, classes) for part in parts),
    )


def _refuse_other_truth(kind: Kind, one: pa.Table, other: pa.Table) -> None:
    truths = ["time", "event"] if kind == "survival" else ["y_true"]
    for column in ("patient_id", *truths):
        values = [part[column].to_pylist() for part in (one, other)]
        if values[0] != values[1]:
            row = next(i for i, (a, b) in enumerate(zip(*values, strict=True)) if a != b)
            raise SettingsError(
                f"'{facts(one, 'method')[0]}' and '{facts(other, 'method')[0]}' ({title(one)}) "
                f"differ in {column} of slide '{one['slide_id'][row]}': '{values[0][row]}' and "
                f"'{values[1][row]}'; use one table of labels for both"
            )


def _classes(parts: Sequence[pa.Table]) -> tuple[str, ...]:
    """Classes with predictions, in the order of the first table's columns."""
    named: dict[str, None] = {}
    for part in parts:
        columns = [c for c in part.column_names if c.startswith("p_")]
        named |= dict.fromkeys(c[2:] for c in columns if part[c].null_count < len(part))
    unknown = set(parts[0]["y_true"].to_pylist()) - set(named)
    if unknown:
        raise SettingsError(
            f"{title(parts[0])}: label '{sorted(unknown)[0]}' has no column of probabilities; "
            f"there are {', '.join(named)}"
        )
    return tuple(named)


def _numbers(values: Sequence[Any]) -> Int64[np.ndarray, " row"]:
    """Equal values as equal numbers, from 0 in the order of first appearance."""
    known: dict[Any, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)


def _n_train(parts: Sequence[pa.Table], folds: np.ndarray) -> Float64[np.ndarray, " fold"]:
    known = np.full(int(folds.max()) + 1, np.nan)
    for part in parts:
        if "n_train" not in part.column_names:
            continue
        values = np.array([np.nan if v is None else v for v in part["n_train"].to_pylist()])
        for fold in np.flatnonzero(np.isnan(known)):
            known[fold] = values[folds == fold][0]
    return known


def _outcome(kind: Kind, part: pa.Table, classes: tuple[str, ...]) -> Outcome:
    if kind == "classification":
        place: Mapping[str, int] = {name: k for k, name in enumerate(classes)}
        target = np.array([place[name] for name in part["y_true"].to_pylist()], dtype=np.float64)
        return Outcome(kind=kind, target=target, n_classes=len(classes))
    if kind == "regression":
        return Outcome(kind=kind, target=_floats(part, "y_true"))
    event = np.array(part["event"].to_pylist(), dtype=bool)
    return Outcome(kind=kind, target=_floats(part, "time"), event=event)


def _said(kind: Kind, part: pa.Table, classes: tuple[str, ...]) -> Said:
    columns = {
        "classification": [f"p_{name}" for name in classes],
        "regression": ["value"],
        "survival": ["risk"],
    }[kind]
    lacking = [name for name in columns if name not in part.column_names]
    method, control, control_of = facts(part, "method", "control", "control_of")
    output = np.full((len(part), len(columns)), np.nan)
    if not lacking:
        output = np.stack([_floats(part, name) for name in columns], axis=1)
    if not np.isfinite(output).all():
        raise SettingsError(
            f"'{method}' ({title(part)}) lacks predictions, or has infinite ones, among "
            f"{', '.join(columns)}"
        )
    seen = part["seen"].to_pylist() if "seen" in part.column_names else [None]
    shares = [np.nan if value is None else float(value) for value in seen]
    return Said(
        method=method,
        control=control or "",
        control_of=control_of or "",
        output=output,
        seen=None if np.isnan(shares).any() else float(np.mean(shares)),
    )


def _floats(part: pa.Table, name: str) -> Float64[np.ndarray, " row"]:
    values = [np.nan if v is None else v for v in part[name].to_pylist()]
    return np.array(values, dtype=np.float64)
