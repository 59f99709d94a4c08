from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.split import FULL, Split
from gigassl.evaluate.splits import (
    Scheme,
    SplitSettings,
    grouped_folds,
    make_splits,
    site_groups,
    strata_of,
)
from gigassl.evaluate.task import Kind, Task, rows_of
from tests.evaluate.examples import small_task


def cohort(rng: np.random.Generator, *, kind: Kind = "classification", n: int = 60) -> Task:
    """Patients of several slides, one of them in two of eight sites; three uneven classes."""
    patients = np.sort(rng.integers(0, n // 2, n))
    sites = np.array([f"site-{p % 8}" for p in patients])
    sites[0] = "site-5"
    labels = np.where(np.arange(n) % 10 == 0, 2, patients // 8 % 2)
    return Task(
        name="t",
        kind=kind,
        slide_ids=tuple(f"s{k:04}" for k in rng.permutation(n)),
        patient_ids=tuple(f"p{p:03}" for p in patients),
        sites=tuple(sites),
        classes=("a", "b", "c") if kind == "classification" else (),
        target=(labels if kind == "classification" else 1 + rng.random(n)).astype(np.float64),
        event=np.arange(n) % 3 > 0 if kind == "survival" else None,
    )


def patients(task: Task, rows: Int64[np.ndarray, " row"]) -> set[str]:
    return {task.patient_ids[i] for i in rows}


def by_repeat(splits: tuple[Split, ...]) -> dict[int, list[Split]]:
    found = defaultdict(list)
    for split in splits:
        found[split.draw].append(split)
    return found


grouped = st.sampled_from([s for s in get_args(Scheme) if s != "slide-kfold"])
kinds = st.sampled_from(["classification", "regression", "survival"])


@settings(max_examples=40, deadline=None)
@given(scheme=grouped, kind=kinds, seed=st.integers(0, 999), val=st.sampled_from([0.0, 0.25]))
def test_no_patient_stands_on_two_sides(scheme: Scheme, kind: Kind, seed: int, val: float) -> None:
    task = cohort(np.random.default_rng(seed), kind=kind)
    wanted = SplitSettings(scheme=scheme, folds=3, repeats=2, seed=seed, validation=val,
                           train_sizes=("15", "50%", FULL), draws=2)  # fmt: skip
    for split in make_splits(task, wanted):
        train, test, kept = (patients(task, r) for r in (split.train, split.test, split.val))
        assert not train & test
        assert not train & kept
        assert not kept & test


@settings(max_examples=30, deadline=None)
@given(scheme=st.sampled_from(get_args(Scheme)), kind=kinds, seed=st.integers(0, 999))
def test_every_slide_is_tested_once_a_repeat(scheme: Scheme, kind: Kind, seed: int) -> None:
    if scheme == "holdout":
        return
    task = cohort(np.random.default_rng(seed), kind=kind)
    splits = make_splits(task, SplitSettings(scheme=scheme, folds=3, repeats=2, seed=seed))
    assert sorted(by_repeat(splits)) == [0, 1]
    for repeat in by_repeat(splits).values():
        assert sorted(np.concatenate([s.test for s in repeat])) == list(range(len(task)))
        assert all(len(s.train) + len(s.test) == len(task) for s in repeat)
        assert [s.fold for s in repeat] == list(range(len(repeat)))


@settings(max_examples=30, deadline=None)
@given(kind=kinds, seed=st.integers(0, 999), val=st.sampled_from([0.0, 0.2, 0.5]))
def test_draws_are_nested_and_their_test_sets_fixed(kind: Kind, seed: int, val: float) -> None:
    task = cohort(np.random.default_rng(seed), kind=kind)
    sizes = ("8", "25%", "20", FULL)
    wanted = SplitSettings(folds=3, train_sizes=sizes, draws=3, seed=seed, validation=val)
    splits = make_splits(task, wanted)
    assert len(splits) == 3 * (3 * 3 + 1)
    tests: dict[int, set[int]] = {}
    for split in splits:
        assert tests.setdefault(split.fold, set(split.test)) == set(split.test)
    for fold, draw in {(s.fold, s.draw) for s in splits}:
        mine = {s.train_size: s for s in splits if (s.fold, s.draw) == (fold, draw)}
        # the full set is drawn once, with the first draw
        ordered = [mine[size] for size in sizes if size in mine]
        for small, large in pairwise(ordered):
            assert set(small.train) <= set(large.train)
            assert set(small.val) <= set(large.val)
        assert [len(s.train) + len(s.val) for s in ordered][:1] == [8]
        assert len(mine["20"].train) + len(mine["20"].val) == 20


def test_a_share_is_of_the_training_slides_and_classes_keep_their_proportions() -> None:
    task = replace(small_task(n=200), target=(np.arange(200) // 2 % 4 > 0).astype(np.float64))
    wanted = SplitSettings(folds=2, train_sizes=("20", "40%"), draws=2)
    for split in make_splits(task, wanted):
        total = 20 if split.train_size == "20" else 40
        assert len(split.train) == total
        assert Counter(task.labels[split.train]) == {0: total // 4, 1: total - total // 4}
        # as many patients as slides, as long as there are
        assert len(patients(task, split.train)) == min(total, len(patients(task, split.train)))
    small = [s for s in make_splits(task, wanted) if s.train_size == "20"]
    assert all(len(patients(task, s.train)) == 20 for s in small)


def test_k_per_class_takes_k_of_each_and_lies_in_larger_draws() -> None:
    task = cohort(np.random.default_rng(3), n=90)
    splits = make_splits(task, SplitSettings(folds=3, train_sizes=("k=1", "k=3"), draws=4))
    for split in splits:
        k = int(split.train_size[2:])
        assert Counter(task.labels[split.train]) == {0: k, 1: k, 2: k}
    for one, three in zip(splits[::2], splits[1::2], strict=True):
        assert set(one.train) < set(three.train)
    assert len({tuple(s.train) for s in splits if s.fold == 0 and s.train_size == "k=3"}) == 4


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), scheme=st.sampled_from(get_args(Scheme)))
def test_equal_seeds_give_equal_splits_whatever_the_order_of_slides(
    seed: int, scheme: Scheme
) -> None:
    task = cohort(np.random.default_rng(seed))
    other = task.rows(np.random.default_rng(seed + 1).permutation(len(task)))
    wanted = SplitSettings(scheme=scheme, folds=3, train_sizes=("10", FULL), seed=seed, draws=2)
    for a, b in zip(make_splits(task, wanted), make_splits(other, wanted), strict=True):
        assert (a.title, a.draw) == (b.title, b.draw)
        for side in ("train", "test"):
            left = {task.slide_ids[i] for i in getattr(a, side)}
            assert left == {other.slide_ids[i] for i in getattr(b, side)}


def test_other_seeds_and_repeats_give_other_folds() -> None:
    task = cohort(np.random.default_rng(0))
    first = make_splits(task, SplitSettings(repeats=2))
    second = make_splits(task, SplitSettings(seed=1))
    assert not np.array_equal(first[0].test, first[5].test)
    assert not np.array_equal(first[0].test, second[0].test)


@settings(max_examples=40, deadline=None)
@given(
    strata=st.lists(st.integers(0, 3), min_size=12, max_size=120),
    folds=st.integers(2, 6),
    seed=st.integers(0, 99),
)
def test_single_slides_are_spread_to_within_one_a_class(
    strata: list[int], folds: int, seed: int
) -> None:
    labels = np.array(strata)
    numbers = grouped_folds(labels, [f"g{i}" for i in range(len(strata))], folds=folds, seed=seed)
    for stratum in set(strata):
        held = np.bincount(numbers[labels == stratum], minlength=folds)
        assert held.max() - held.min() <= 1


def test_folds_of_uneven_patients_hold_even_shares_of_each_class() -> None:
    rng = np.random.default_rng(0)
    task = cohort(rng, n=600)
    for scheme in ("patient-kfold", "holdout", "site-preserved"):
        for split in make_splits(task, SplitSettings(scheme=scheme, seed=5, folds=3)):
            share = np.bincount(task.labels[split.test], minlength=3) / len(split.test)
            all_of_it = np.bincount(task.labels) / len(task)
            assert np.abs(share - all_of_it).max() < (0.1 if scheme == "site-preserved" else 0.02)


def test_holdout_tests_the_asked_share_anew_each_time() -> None:
    task = cohort(np.random.default_rng(0), n=300)
    splits = make_splits(task, SplitSettings(scheme="holdout", test_fraction=0.3, repeats=5))
    assert [s.draw for s in splits] == [0, 1, 2, 3, 4]
    assert all(abs(len(s.test) - 90) <= 6 for s in splits)
    assert len({tuple(s.test) for s in splits}) == 5


def test_each_site_is_left_out_once_and_sites_that_share_a_patient_together() -> None:
    task = replace(
        small_task(n=16),
        patient_ids=tuple(f"p{k // 2}" for k in range(16)),
        sites=tuple("AAABBBCCCCDDEEEE"),
    )
    # p1 has slides in A and B; C, D and E keep their own patients
    assert set(site_groups(task)) == {"A", "C", "D", "E"}
    left_out = make_splits(task, SplitSettings(scheme="leave-site-out"))
    assert [{task.sites[i] for i in s.test} for s in left_out] == [{"A", "B"}, {"C"}, {"D"}, {"E"}]
    for split in make_splits(task, SplitSettings(scheme="site-preserved", folds=2)):
        assert not {task.sites[i] for i in split.train} & {task.sites[i] for i in split.test}


def test_strata_of_survival_never_mix_events_and_censored() -> None:
    task = cohort(np.random.default_rng(1), kind="survival")
    assert task.event is not None
    strata = strata_of(task)
    assert not set(strata[task.event]) & set(strata[~task.event])
    assert len(set(strata)) == 10


def test_slides_of_a_patient_come_apart_only_where_slides_are_drawn() -> None:
    task = small_task(n=40)
    splits = make_splits(task, SplitSettings(scheme="slide-kfold"))
    assert any(patients(task, s.train) & patients(task, s.test) for s in splits)
    assert rows_of(task.slide_ids, ["slide-03"]).tolist() == [3]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"folds": 9}, "9 folds need at least 9 patients"),
        ({"train_sizes": ("60",)}, "training size '60' of fold 0"),
        ({"train_sizes": ("1",)}, "cannot hold one of each of 2 classes"),
        ({"train_sizes": ("k=8",)}, "wants 8 slides of each class"),
        ({"scheme": "leave-site-out"}, "come from one site"),
    ],
)
def test_what_a_task_cannot_give_is_refused(settings: dict[str, object], sentence: str) -> None:
    task = replace(small_task(n=16), sites=("A",) * 16)
    with pytest.raises(SettingsError, match=sentence):
        make_splits(task, SplitSettings(**settings))  # type: ignore[arg-type]


def test_slides_without_a_site_are_counted_and_named() -> None:
    task = replace(small_task(n=8), sites=("A", "", "B", "") * 2)
    with pytest.raises(SettingsError, match="4 of 8 slides have no site, first 'slide-01'"):
        make_splits(task, SplitSettings(scheme="site-preserved"))


def test_slides_a_class_need_classes() -> None:
    with pytest.raises(SettingsError, match="'k=2' counts slides a class"):
        make_splits(small_task("regression"), SplitSettings(train_sizes=("k=2",)))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"folds": 1}, "at least 2 folds"),
        ({"test_fraction": 1.0}, "between 0 and 1"),
        ({"validation": 0.9}, "between 0 and"),
        ({"train_sizes": ("half",)}, "unknown training size 'half'"),
        ({"train_sizes": ("0%",)}, "unknown training size '0%'"),
        ({"train_sizes": ()}, "at least one training size"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        SplitSettings(**settings)  # type: ignore[arg-type]
