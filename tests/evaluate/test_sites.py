import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gigassl.errors import SettingsError
from gigassl.evaluate.sites import robustness_index, site_task, with_site
from tests.evaluate.examples import small_task


def slow_counts(
    vectors: np.ndarray, classes: list[int], sites: list[str], *, patients: list[str], k: int
) -> tuple[dict[str, int], dict[str, float]]:
    """Each kind of neighbour counted one by one, as found and as expected by chance."""
    found = dict.fromkeys(("SO", "OS", "same class", "same site"), 0)
    chance = dict.fromkeys(found, 0.0)
    for i in range(len(vectors)):
        others = [j for j in range(len(vectors)) if patients[j] != patients[i]]

        def cosine(j: int, i: int = i) -> float:
            lengths = np.linalg.norm(vectors[i]) * np.linalg.norm(vectors[j])
            return float(vectors[i] @ vectors[j]) / float(lengths)

        near = sorted(others, key=cosine, reverse=True)[:k]
        for chosen, counts, weight in ((near, found, 1), (others, chance, len(near) / len(others))):
            for j in chosen:
                biology, site = classes[j] == classes[i], sites[j] == sites[i]
                counts["SO"] += weight * (biology and not site)  # type: ignore[assignment]
                counts["OS"] += weight * (site and not biology)  # type: ignore[assignment]
                counts["same class"] += weight * biology  # type: ignore[assignment]
                counts["same site"] += weight * site  # type: ignore[assignment]
    return found, chance


def same(value: float, part: float, whole: float) -> bool:
    return math.isnan(value) if whole == 0 else math.isclose(value, part / whole, rel_tol=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(4, 25), k=st.integers(1, 30))
def test_the_index_counts_neighbours_as_the_slow_version(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, 3))
    classes, patients = rng.integers(0, 2, n), [f"p{p}" for p in rng.integers(0, n, n)]
    patients[:2] = ["a", "b"]
    sites = [f"s{s}" for s in rng.integers(0, 3, n)]
    fast = robustness_index(vectors, classes=classes, sites=sites, patients=patients, neighbours=k)
    found, chance = slow_counts(vectors, classes.tolist(), sites, patients=patients, k=k)
    assert same(fast.index, found["SO"], found["SO"] + found["OS"])
    assert same(fast.ratio, found["same class"], found["same site"])
    assert same(fast.index_by_chance, chance["SO"], chance["SO"] + chance["OS"])
    assert same(fast.ratio_by_chance, chance["same class"], chance["same site"])


def test_many_slides_are_looked_at_in_parts() -> None:
    n, k = 1500, 7  # more than are held at once
    rng = np.random.default_rng(0)
    vectors, classes = rng.standard_normal((n, 4)), rng.integers(0, 2, n)
    site, patient = rng.integers(0, 3, n), np.arange(n) // 2
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similar = np.where(patient[:, None] == patient, -2, unit @ unit.T)
    near = np.argsort(-similar, axis=1)[:, :k]
    biology, place = classes[near] == classes[:, None], site[near] == site[:, None]
    found = robustness_index(
        vectors, classes=classes, sites=[str(s) for s in site],
        patients=[str(p) for p in patient], neighbours=k,
    )  # fmt: skip
    so, os = (biology & ~place).sum(), (place & ~biology).sum()
    assert found.index == pytest.approx(so / (so + os), rel=1e-12)
    assert found.ratio == pytest.approx(biology.sum() / place.sum(), rel=1e-12)


@pytest.mark.parametrize(("by", "index"), [("class", 1.0), ("site", 0.0)])
def test_the_extremes_are_biology_alone_and_site_alone(by: str, index: float) -> None:
    classes, sites = np.arange(40) % 2, np.arange(40) // 2 % 2
    direction = np.eye(2)[classes if by == "class" else sites]
    vectors = direction + 0.01 * np.random.default_rng(0).standard_normal((40, 2))
    found = robustness_index(
        vectors, classes=classes, sites=[str(s) for s in sites],
        patients=[str(k) for k in range(40)], neighbours=5,
    )  # fmt: skip
    assert found.index == index
    assert (found.ratio > 1) == (by == "class")
    assert found.index_by_chance == pytest.approx(0.5)


def test_one_patient_has_no_neighbours() -> None:
    with pytest.raises(SettingsError, match="at least 1 neighbour and 2 patients"):
        robustness_index(np.eye(2), classes=np.zeros(2, int), sites=["a", "b"], patients=["p"] * 2)


def test_sites_with_enough_patients_are_told_apart() -> None:
    task = replace(small_task("survival", n=16), sites=tuple("AAAABBBBCC" + "D" * 4 + "EE"))
    told = site_task(task, min_patients=2)
    assert (told.kind, told.classes, told.event) == ("classification", ("A", "B", "D"), None)
    assert [told.classes[k] for k in told.labels] == list(told.sites)
    with pytest.raises(SettingsError, match="0 of 5 sites have at least 3 patients"):
        site_task(task, min_patients=3)


def test_slides_without_a_site_are_left_out() -> None:
    task = replace(small_task(n=12), sites=("", "", *"ABABABABAB"))
    assert len(with_site(task)) == 10
    with pytest.raises(SettingsError, match="no slide of task 'grade' has a site"):
        with_site(replace(task, sites=("",) * 12))
