"""Batches: no patient twice in one, equal sizes, every slide in turn, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import SettingsError
from gigassl.vectors.pretrain.batches import deal, plan_batches


@st.composite
def cohorts(draw: st.DrawFn) -> list[str]:
    """Patients with one to thirty slides each, in any order."""
    counts = draw(
        st.lists(st.integers(1, 30), min_size=2, max_size=25).filter(lambda c: sum(c) > 3)
    )
    patients = [f"p{i}" for i, count in enumerate(counts) for _ in range(count)]
    return list(draw(st.permutations(patients)))


@given(patients=cohorts(), batch_size=st.integers(2, 40), seed=st.integers(0, 99))
def test_no_patient_is_twice_in_a_batch_and_batches_are_equal(
    patients: list[str], batch_size: int, seed: int
) -> None:
    plan = plan_batches(patients, batch_size=batch_size)
    batches = deal(plan, generator=np.random.default_rng(seed))
    assert len(batches) == plan.n_batches
    for batch in batches:
        names = [patients[slide] for slide in batch]
        assert len(set(names)) == len(names)
    sizes = [len(batch) for batch in batches]
    assert max(sizes) == plan.size <= min(max(batch_size, 3), len(set(patients)))
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2
    used = np.concatenate(batches)
    assert len(np.unique(used)) == len(used) == plan.n_used
    # nobody sits out but surplus slides of patients with more than one a batch
    counts = {name: patients.count(name) for name in patients}
    left = {name: sum(patients[s] == name for s in used) for name in counts}
    assert all(left[name] == min(counts[name], plan.n_batches) for name in counts)


@given(n_slides=st.integers(4, 300), batch_size=st.integers(2, 64))
def test_with_a_slide_a_patient_nothing_is_dropped(n_slides: int, batch_size: int) -> None:
    plan = plan_batches([str(i) for i in range(n_slides)], batch_size=batch_size)
    assert plan.n_used == n_slides
    assert plan.n_batches <= -(-n_slides // min(batch_size, n_slides))
    assert plan.size >= min(batch_size, n_slides) / 2


def test_batches_are_no_smaller_than_half_where_one_patient_has_most_slides() -> None:
    patients = ["big"] * 200 + [f"p{i}" for i in range(60)]
    plan = plan_batches(patients, batch_size=32)
    assert plan.size >= 16
    assert plan.n_batches == 4  # (60 + 4) / 4 = 16; five would be of 13


def test_surplus_slides_take_turns() -> None:
    patients = ["big"] * 9 + ["a", "b", "c"]
    plan = plan_batches(patients, batch_size=4)
    seen = set()
    for epoch in range(60):
        seen |= set(np.concatenate(deal(plan, generator=np.random.default_rng(epoch))).tolist())
    assert seen == set(range(12))


def test_slides_meet_others_each_epoch_and_equal_seeds_deal_alike() -> None:
    plan = plan_batches([str(i) for i in range(40)], batch_size=10)
    first, again, other = (deal(plan, generator=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert {frozenset(b.tolist()) for b in first} != {frozenset(b.tolist()) for b in other}


def test_every_pair_of_patients_meets_about_equally_often() -> None:
    plan = plan_batches([str(i) for i in range(12)], batch_size=4)
    together = np.zeros((12, 12))
    n_epochs = 600
    for epoch in range(n_epochs):
        for batch in deal(plan, generator=np.random.default_rng(epoch)):
            together[np.ix_(batch, batch)] += 1
    chance = together[~np.eye(12, dtype=bool)] / n_epochs
    # 3 of the 11 others; five standard deviations of a proportion
    assert np.abs(chance - 3 / 11).max() < 5 * np.sqrt(3 / 11 * 8 / 11 / n_epochs)


def test_smaller_batches_and_slides_that_sit_out_are_said() -> None:
    (smaller,) = plan_batches([str(i) for i in range(40)], batch_size=256).said()
    assert "40 slides of 40 patients do not fill a batch of 256: batches of 40" in smaller
    assert "factor of 6.4" in smaller
    (out,) = plan_batches(["big"] * 9 + ["a", "b", "c"], batch_size=4).said()[-1:]
    assert "6 of 12 slides sit out each epoch" in out
    assert plan_batches([str(i) for i in range(40)], batch_size=20).said() == []
    # batches made equal, 20 instead of 21 slides, are nothing to speak of
    assert plan_batches([str(i) for i in range(40)], batch_size=21).said() == []


@pytest.mark.parametrize("patients", [["a"] * 9, ["a", "b", "c"], []])
def test_too_small_a_cohort_is_refused(patients: list[str]) -> None:
    with pytest.raises(SettingsError, match=r"too few to learn from.*at least 4 slides"):
        plan_batches(patients, batch_size=8)


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least 2 slides; got 1"):
        plan_batches(list("abcdef"), batch_size=1)
