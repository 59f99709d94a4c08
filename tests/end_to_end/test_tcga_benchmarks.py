"""Benchmarks on the published TCGA tasks, on vectors made from a seed for the published slides."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import fewshot_50, tcga_linear_probe
from benchmarks.fewshot_50 import apart
from benchmarks.tcga_linear_probe import Certificate, certificate, verdict
from benchmarks.tcga_tasks import TEN_FOLD, Scores, TcgaTask, tcga_task, ten_folds
from gigassl.evaluate.vector_set import VectorSet
from tests.evaluate.published_tasks import (
    GIGA_SSL,
    TASKS,
    published_labels,
    save_vectors,
    seeded_vectors,
)
from tests.shared_data import needs_shared

PASSING = {
    "brca": 0.0881, "kidney": 0.1245, "lung": 0.107, "mhrd": 0.0459, "thrd": 0.0, "tnbc": 0.0847,
}  # fmt: skip
"""Strengths of signal with which seeded vectors happen to score what the published ones do."""


def vectors(strengths: dict[str, float]) -> dict[str, np.ndarray]:
    return seeded_vectors(
        [published_labels(name) for name in TASKS], seed=0,
        strengths=[strengths[name] for name in TASKS],
    )  # fmt: skip


def lung(strength: float) -> tuple[VectorSet, TcgaTask]:
    found = seeded_vectors([published_labels("lung")], strengths=[strength], seed=0)
    task = tcga_task("lung", GIGA_SSL, available={name: name[:12] for name in found})
    assert task is not None
    held = VectorSet(name="x", slide_ids=tuple(found), vectors=np.stack(list(found.values())))
    return held, task


def scored(name: str, value: float) -> Certificate:
    scores = Scores(aucs=(value - 0.01, value + 0.01))
    return Certificate(task=name, scores=(scores,) * 2, published=TEN_FOLD["moco"][name])


def test_sds_of_both_conventions() -> None:
    scores = Scores(aucs=(0.8, 0.9, 0.7))
    assert scores.sd == pytest.approx(np.sqrt(2 / 300))
    assert scores.sd_of_sample == pytest.approx(0.1)


@needs_shared
def test_the_certificate_needs_every_task_and_every_slide() -> None:
    _, task = lung(0.1)
    tasks = [replace(task, name=name) for name in TEN_FOLD["moco"]]
    good = [scored(name, auc + 0.009) for name, (auc, _) in TEN_FOLD["moco"].items()]
    assert verdict(good, tasks, published="moco") == (
        True, "CERTIFICATE HOLDS: 5 of 5 tasks within 0.01"
    )  # fmt: skip
    bad = [*good[:4], scored("tnbc", 0.933 - 0.011)]
    holds, sentence = verdict(bad, tasks, published="moco")
    assert not holds
    assert "CERTIFICATE FAILS: tnbc 0.922 (published 0.933)" in sentence
    holds, sentence = verdict(
        good, [*tasks[:4], replace(tasks[4], missing=("TCGA-A1",))], published="moco"
    )
    assert (holds, "NO CERTIFICATE: slides of tnbc have no vector" in sentence) == (False, True)
    assert "slides of tnbc" in verdict(good[:4], tasks[:4], published="moco")[1]


@needs_shared
def test_certificate_of_one_task_holds_and_fails() -> None:
    for strength, holds in ((0.09, True), (0.08, False)):
        held, task = lung(strength)
        found = certificate(held, task, published=TEN_FOLD["moco"]["lung"])
        assert found.holds is holds
        assert len(found.scores) == tcga_linear_probe.ORDERS
        assert all(len(scores.aucs) == 10 for scores in found.scores)


@needs_shared
def test_ten_folds_are_stratified_in_the_order_given() -> None:
    _, task = lung(0.1)
    folds = ten_folds(task.task, np.array(task.table_order))
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested) == list(range(1033))
    place = {row: k for k, row in enumerate(task.table_order)}
    first = [place[row] for row in folds[0].test if task.task.labels[row] == 0]
    assert max(first) < 200  # not shuffled: the first tenth of a class is tested first
    for fold in folds:
        assert 50 <= task.task.labels[fold.test].sum() <= 51


@needs_shared
def test_tested_patients_are_taken_from_training() -> None:
    _, task = lung(0.1)
    full = [split for split in task.published.splits if split.train_size == "full"]
    patients = np.array(task.task.patient_ids)
    for split in full:
        rest = apart(task.task, split)
        assert not set(patients[rest.train]) & set(patients[rest.test])
        assert len(rest.train) < len(split.train)


@pytest.mark.slow
@needs_shared
def test_the_command_on_vectors_that_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_vectors(vectors(PASSING), tmp_path / "v.parquet")
    assert tcga_linear_probe.main([str(tmp_path / "v.parquet"), "--labels", str(GIGA_SSL)]) == 0
    printed = capsys.readouterr().out
    assert "CERTIFICATE HOLDS: 5 of 5" in printed
    assert "Not comparable" in printed
    assert "missing" not in printed


@pytest.mark.slow
@needs_shared
def test_the_command_names_slides_without_vector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = vectors(PASSING)
    lost = sorted(published_labels("lung"))[:7]
    kept = {
        name: vector
        for name, vector in found.items()
        if name not in lost and name not in published_labels("kidney")
    }
    path = tmp_path / "v.parquet"
    save_vectors(kept, path)
    assert tcga_linear_probe.main([str(path), "--labels", str(GIGA_SSL)]) == 1
    printed = capsys.readouterr().out
    assert f"missing: lung: 7 of 1033 slides have no vector: {lost[0]}" in printed
    assert "missing: no slide of kidney has a vector" in printed
    assert "NO CERTIFICATE: slides of lung, kidney have no vector" in printed
    own = [str(path), "--labels", str(GIGA_SSL), "--published", "none"]
    assert tcga_linear_probe.main(own) == 0


@pytest.mark.slow
@needs_shared
def test_few_shot_prints_gains_beside_the_claims(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_vectors(vectors(dict.fromkeys(TASKS, 0.15)), tmp_path / "ours.parquet")
    save_vectors(vectors(dict.fromkeys(TASKS, 0.05)), tmp_path / "mean.parquet")
    code = fewshot_50.main(
        [str(tmp_path / "ours.parquet"), "--labels", str(GIGA_SSL), "--against",
         str(tmp_path / "mean.parquet")]
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert code == 0
    gains = next(line for line in printed.splitlines() if line.startswith("over mean"))
    assert all(float(each) > 5 for each in gains.split()[2:])
    assert "+6.3 points" in printed
