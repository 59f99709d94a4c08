"""The published protocol to the digit: six TCGA tasks on their published splits."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from gigassl.cli.main import app
from gigassl.evaluate.labels import read_label_table
from gigassl.evaluate.metrics import auc
from gigassl.evaluate.predictions import open_predictions
from gigassl.evaluate.probes import PROBE_PRESETS, run_probe
from gigassl.evaluate.split import Split
from gigassl.evaluate.split_files import read_splits
from gigassl.evaluate.targets import TargetSettings, labelled_slides
from gigassl.evaluate.task import Task, rows_of
from gigassl.evaluate.vector_set import VectorSet
from tests.evaluate.published_tasks import (
    SIZES,
    SPLITS,
    TABLES,
    TASKS,
    published_labels,
    published_split,
    save_vectors,
    seeded_vectors,
)
from tests.shared_data import needs_shared

FOLDS = range(10)
SIGNALS = ({"strength": 0.0}, {"strength": 0.05}, {"strength": 0.15},
           {"strength": 0.1, "cone": 3.0})  # fmt: skip
"""No signal, a weak and a strong one, and vectors in a narrow cone, as slide encoders make them."""


def vectors_for(name: str, signal: int) -> dict[str, np.ndarray]:
    how = SIGNALS[signal]
    return seeded_vectors(
        [published_labels(name)], strengths=[how["strength"]], cone=how.get("cone", 0.0),
        seed=10 * TASKS.index(name) + signal,
    )  # fmt: skip


def converged(
    name: str, size: str, fold: int, *, vectors: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Test slide → probabilities of the classes in alphabetical order, by scikit-learn alone."""
    labels = published_labels(name)
    train, test = published_split(name, size, fold)
    model = LogisticRegression(C=10, class_weight="balanced", tol=1e-9, max_iter=100_000)
    model.fit(
        np.stack([vectors[each] for each in train]).astype(np.float64),
        [labels[each] for each in train],
    )
    told = model.predict_proba(np.stack([vectors[each] for each in test]).astype(np.float64))
    return dict(zip(test, told, strict=True))


def check_against_scikit_learn(name: str, signal_of: Mapping[int, int]) -> None:
    """Every size; each fold with the vectors of its signal."""
    table = read_label_table(TABLES / f"{name}.csv")
    n_compared = 0
    for signal in sorted(set(signal_of.values())):
        vectors = vectors_for(name, signal)
        available = {each: each[:12] for each in vectors}
        task = labelled_slides(table, TargetSettings(), available=available).task
        splits = [
            split for split in read_splits(SPLITS / name, task) if signal_of[split.fold] == signal
        ]
        stored = VectorSet(
            name="seeded", slide_ids=tuple(vectors), vectors=np.stack(list(vectors.values()))
        )
        rows = run_probe(task, stored, splits, settings=PROBE_PRESETS["giga-ssl"])
        for split in splits:
            size = FOLDERS.get(split.train_size, split.train_size)
            expected = converged(name, size, split.fold, vectors=vectors)
            check_split(rows, split, task=task, expected=expected)
            n_compared += 1
    assert n_compared == 10 * len(SIZES[name])


FOLDERS = {"25%": "25p"}
"""Training size as tables call it → folder of its lists."""


def check_split(
    rows: pa.Table, split: Split, *, task: Task, expected: Mapping[str, np.ndarray]
) -> None:
    mine = pc.and_(
        pc.equal(rows["train_size"], split.train_size), pc.equal(rows["fold"], split.fold)
    )
    part = rows.filter(mine)
    names, ours = part["slide_id"].to_pylist(), outputs_of(part, task)
    assert sorted(names) == sorted(expected)
    wrong = np.abs(ours - np.stack([expected[each] for each in names])).max()
    assert wrong < 1e-4, f"{split.title}: probabilities differ by {wrong}"
    labels = task.labels[rows_of(task.slide_ids, names)]
    assert auc(labels, ours) == auc_of_scikit_learn(labels, ours)


def outputs_of(part: pa.Table, task: Task) -> np.ndarray:
    return np.stack([part[f"p_{each}"].to_numpy() for each in task.classes], axis=1)


def auc_of_scikit_learn(labels: np.ndarray, outputs: np.ndarray) -> float:
    if outputs.shape[1] == 2:
        return float(roc_auc_score(labels, outputs[:, 1]))
    return float(roc_auc_score(labels, outputs, multi_class="ovr", average="macro"))


@needs_shared
@pytest.mark.parametrize("name", TASKS)
def test_probabilities_are_those_of_scikit_learn_converged(name: str) -> None:
    check_against_scikit_learn(name, {fold: fold % len(SIGNALS) for fold in FOLDS})


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize("signal", range(len(SIGNALS)))
@pytest.mark.parametrize("name", TASKS)
def test_probabilities_with_every_signal_on_every_split(name: str, signal: int) -> None:
    check_against_scikit_learn(name, dict.fromkeys(FOLDS, signal))


@needs_shared
def test_the_program_gives_the_same_probabilities(tmp_path: Path) -> None:
    vectors = vectors_for("lung", 1)
    save_vectors(vectors, tmp_path / "vectors.parquet")
    out = tmp_path / "predictions.parquet"
    command = ["probe", tmp_path / "vectors.parquet", "--labels", TABLES / "lung.csv", "--target",
               "label", "--splits", SPLITS / "lung" / "50", "--preset", "giga-ssl",
               "-o", out]  # fmt: skip
    done = CliRunner().invoke(app, [str(word) for word in command])
    logging.getLogger().handlers.clear()  # they point at the runner's closed streams
    assert done.exit_code == 0, done.output
    rows = open_predictions(out).data
    ours = rows.filter(pc.equal(rows["control"], ""))
    assert len(ours) == 10 * 104
    for fold in FOLDS:
        expected = converged("lung", "50", fold, vectors=vectors)
        part = ours.filter(pc.equal(ours["fold"], fold))
        theirs = [expected[name][1] for name in part["slide_id"].to_pylist()]
        np.testing.assert_allclose(part["p_TCGA-LUSC"].to_numpy(), theirs, rtol=0, atol=1e-4)
